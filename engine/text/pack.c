/* pack: best fit decreasing over a treap of open bins.
 *
 * The treap is ordered by (free space, bin number) and a node is a bin, so the best bin for a row
 * is the first node with enough space. Priorities are a hash of the bin number: the same lengths
 * always give the same bins.
 */
#include "engine/text/pack.h"

#include <stdlib.h>

#include "base/mem.h"

#define NIL (-1)

struct bin {
    int64_t space; /* tokens still free */
    uint32_t priority;
    int left, right;
};

struct row {
    int32_t length;
    int index;
};

static int longer_first(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->length != y->length)
        return x->length > y->length ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* Murmur3's finaliser. */
static uint32_t scatter(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x85ebca6bu;
    x = (x ^ (x >> 13)) * 0xc2b2ae35u;
    return x ^ (x >> 16);
}

static int before(const struct bin *bins, int a, int b) {
    return bins[a].space != bins[b].space ? bins[a].space < bins[b].space : a < b;
}

static int merge(struct bin *bins, int a, int b) {
    if (a == NIL || b == NIL)
        return a == NIL ? b : a;
    if (bins[a].priority >= bins[b].priority) {
        bins[a].right = merge(bins, bins[a].right, b);
        return a;
    }
    bins[b].left = merge(bins, a, bins[b].left);
    return b;
}

/* Splits the tree into the nodes before `node` and the others. */
static void split(struct bin *bins, int root, int node, int *low, int *high) {
    if (root == NIL) {
        *low = *high = NIL;
    } else if (before(bins, root, node)) {
        split(bins, bins[root].right, node, &bins[root].right, high);
        *low = root;
    } else {
        split(bins, bins[root].left, node, low, &bins[root].left);
        *high = root;
    }
}

static int insert(struct bin *bins, int root, int node) {
    int low, high;
    bins[node].left = bins[node].right = NIL;
    split(bins, root, node, &low, &high);
    return merge(bins, merge(bins, low, node), high);
}

static int erase(struct bin *bins, int root, int node) {
    int *link = &root;
    while (*link != node)
        link = before(bins, node, *link) ? &bins[*link].left : &bins[*link].right;
    *link = merge(bins, bins[node].left, bins[node].right);
    return root;
}

static int best_bin(const struct bin *bins, int root, int64_t length) {
    int best = NIL;
    while (root != NIL) {
        if (bins[root].space >= length)
            best = root;
        root = bins[root].space >= length ? bins[root].left : bins[root].right;
    }
    return best;
}

/* Fills bin_of[row] and returns the number of bins, numbered in the order they were opened. */
static int assign(const int32_t *lengths, int n, int64_t capacity, int *bin_of) {
    struct row *rows = xcalloc((size_t)n, sizeof *rows);
    struct bin *bins = xcalloc((size_t)n, sizeof *bins);
    int n_bins = 0, root = NIL;
    for (int i = 0; i < n; i++)
        rows[i] = (struct row){.length = lengths[i], .index = i};
    qsort(rows, (size_t)n, sizeof *rows, longer_first);
    for (int i = 0; i < n; i++) {
        int bin = best_bin(bins, root, rows[i].length);
        if (bin != NIL) {
            root = erase(bins, root, bin);
        } else {
            bin = n_bins++;
            bins[bin] = (struct bin){.space = capacity, .priority = scatter((uint32_t)bin)};
        }
        bin_of[rows[i].index] = bin;
        bins[bin].space -= rows[i].length;
        if (bins[bin].space > 0)
            root = insert(bins, root, bin);
    }
    free(rows);
    free(bins);
    return n_bins;
}

void packing_make(const int32_t *lengths, int n, int64_t capacity, struct packing *out) {
    int *bin_of = xcalloc((size_t)n, sizeof *bin_of);
    int n_bins = n;
    if (capacity > 0)
        n_bins = assign(lengths, n, capacity, bin_of);
    else
        for (int i = 0; i < n; i++)
            bin_of[i] = i;

    int *renumbered = xcalloc((size_t)n_bins, sizeof *renumbered);
    int *start = xcalloc((size_t)n_bins + 1, sizeof *start);
    int seen = 0;
    for (int i = 0; i < n; i++) {
        int *number = &renumbered[bin_of[i]];
        if (*number == 0)
            *number = ++seen; /* one more than the new number, so that 0 is "not seen" */
        bin_of[i] = *number - 1;
        start[bin_of[i] + 1]++;
    }
    for (int b = 0; b < n_bins; b++)
        start[b + 1] += start[b];
    int *order = xcalloc((size_t)n, sizeof *order);
    int *filled = xcalloc((size_t)n_bins, sizeof *filled);
    for (int i = 0; i < n; i++)
        order[start[bin_of[i]] + filled[bin_of[i]]++] = i;
    free(bin_of);
    free(renumbered);
    free(filled);
    *out = (struct packing){.n_bins = n_bins, .bin_start = start, .order = order};
}

void packing_clear(struct packing *p) {
    free(p->bin_start);
    free(p->order);
    *p = (struct packing){0};
}
