/* tok_merge_long: merging long words: a list of positions per rank. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/text/tok_merge.h"

#define NONE (-1)

/* A pair to look at again: its left symbol, in a list of its rank or in the free list. */
struct entry {
    uint32_t pos;
    int32_t next;
};

/* Smallest first. */
struct heap {
    uint64_t *data;
    size_t len, cap;
};

/* All entries of the rank under way lie sorted in `batch`. Entries of higher ranks wait in their
 * lists; the few of the same or a lower rank that come up meanwhile go to the heap `early`. */
struct long_word {
    int32_t *id;   /* the word's symbols */
    int32_t *head; /* [n_merges] first entry of a rank's list */
    struct entry *entry;
    size_t n_entries, cap_entries;
    int32_t unused;    /* free list */
    struct heap ranks; /* the ranks with a list */
    struct heap early; /* rank << 32 | pos */
    uint32_t *batch, *spare;
    size_t n_batch, cap_batch;
    uint32_t rank;
};

void merge_long_free(struct long_word *q) {
    if (q == NULL)
        return;
    free(q->head);
    free(q->entry);
    free(q->ranks.data);
    free(q->early.data);
    free(q->batch);
    free(q->spare);
    free(q);
}

static void heap_push(struct heap *h, uint64_t value) {
    if (h->len == h->cap) {
        h->cap = h->cap == 0 ? 64 : h->cap * 2;
        h->data = xreallocarray(h->data, h->cap, sizeof *h->data);
    }
    size_t i = h->len++;
    for (; i > 0 && h->data[(i - 1) / 2] > value; i = (i - 1) / 2)
        h->data[i] = h->data[(i - 1) / 2];
    h->data[i] = value;
}

static uint64_t heap_pop(struct heap *h) {
    uint64_t top = h->data[0], last = h->data[--h->len];
    size_t i = 0, child;
    for (; (child = 2 * i + 1) < h->len; i = child) {
        if (child + 1 < h->len && h->data[child + 1] < h->data[child])
            child++;
        if (h->data[child] >= last)
            break;
        h->data[i] = h->data[child];
    }
    h->data[i] = last;
    return top;
}

/* Puts the pair that starts at pos into the queue, if it has a merge. */
static void push(struct long_word *q, const struct merges *m, const struct merge_scratch *s,
                 int32_t pos, bool started) {
    const struct merge_slot *slot = merges_find(m, q->id[pos], q->id[s->right[pos]]);
    if (slot == NULL)
        return;
    if (started && slot->rank <= q->rank) {
        heap_push(&q->early, (uint64_t)slot->rank << 32 | (uint32_t)pos);
        return;
    }
    int32_t at = q->unused;
    if (at != NONE) {
        q->unused = q->entry[at].next;
    } else {
        if (q->n_entries == q->cap_entries) {
            q->cap_entries = q->cap_entries == 0 ? 1024 : q->cap_entries * 2;
            q->entry = xreallocarray(q->entry, q->cap_entries, sizeof *q->entry);
        }
        at = (int32_t)q->n_entries++;
    }
    if (q->head[slot->rank] == NONE)
        heap_push(&q->ranks, slot->rank);
    q->entry[at] = (struct entry){(uint32_t)pos, q->head[slot->rank]};
    q->head[slot->rank] = at;
}

/* Sorts the batch: by insertion where it is short, else by bytes. */
static void sort_batch(struct long_word *q) {
    uint32_t *a = q->batch, *b = q->spare;
    size_t n = q->n_batch, i = 1;
    while (i < n && a[i - 1] <= a[i])
        i++;
    if (i >= n)
        return;
    if (n <= 64) {
        for (; i < n; i++) {
            uint32_t value = a[i];
            size_t j = i;
            for (; j > 0 && a[j - 1] > value; j--)
                a[j] = a[j - 1];
            a[j] = value;
        }
        return;
    }
    for (unsigned shift = 0; shift < 32; shift += 8) {
        size_t start[257] = {0};
        for (i = 0; i < n; i++)
            start[(a[i] >> shift & 0xFF) + 1]++;
        for (i = 1; i < 257; i++)
            start[i] += start[i - 1];
        for (i = 0; i < n; i++)
            b[start[a[i] >> shift & 0xFF]++] = a[i];
        uint32_t *swap = a;
        a = b;
        b = swap;
    }
}

/* Moves a rank's list into the batch, in order of position. */
static void take_rank(struct long_word *q, uint32_t rank) {
    q->rank = rank;
    q->n_batch = 0;
    int32_t first = q->head[rank], last = NONE;
    for (int32_t i = first; i != NONE; i = q->entry[i].next) {
        q->n_batch++;
        last = i;
    }
    if (q->n_batch > q->cap_batch) {
        q->cap_batch = q->n_batch * 2;
        q->batch = xreallocarray(q->batch, q->cap_batch, sizeof *q->batch);
        q->spare = xreallocarray(q->spare, q->cap_batch, sizeof *q->spare);
    }
    size_t n = q->n_batch; /* the list is last in, first out */
    for (int32_t i = first; i != NONE; i = q->entry[i].next)
        q->batch[--n] = q->entry[i].pos;
    q->entry[last].next = q->unused;
    q->unused = first;
    q->head[rank] = NONE;
    sort_batch(q);
}

/* Applies merge `rank` at pos unless the symbols there have changed since. */
static void apply(struct long_word *q, const struct merges *m, struct merge_scratch *s,
                  uint32_t rank, uint32_t at) {
    int32_t pos = (int32_t)at;
    if (q->id[pos] == NONE || s->right[pos] == NONE)
        return;
    int32_t next = s->right[pos], made = m->by_rank[rank].made;
    if (q->id[pos] != m->by_rank[rank].left || q->id[next] != m->by_rank[rank].right) {
        const struct merge_slot *slot = merges_find(m, q->id[pos], q->id[next]);
        if (slot == NULL || slot->made != made)
            return;
    }
    q->id[pos] = made;
    q->id[next] = NONE;
    s->right[pos] = s->right[next];
    if (s->right[pos] != NONE)
        s->left[s->right[pos]] = pos;
    if (s->left[pos] != NONE)
        push(q, m, s, s->left[pos], true);
    if (s->right[pos] != NONE)
        push(q, m, s, pos, true);
}

static struct long_word *prepare(const struct merges *m, struct merge_scratch *s, size_t n) {
    if (s->queue == NULL) {
        s->queue = xcalloc(1, sizeof *s->queue);
        s->queue->head = xmalloc((m->n + 1) * sizeof *s->queue->head);
        memset(s->queue->head, 0xFF, (m->n + 1) * sizeof *s->queue->head);
        s->queue->unused = NONE;
    }
    s->left = xreallocarray(s->left, s->cap, sizeof *s->left);
    s->right = xreallocarray(s->right, s->cap, sizeof *s->right);
    for (size_t i = 0; i < n; i++) {
        s->left[i] = (int32_t)i - 1;
        s->right[i] = i + 1 < n ? (int32_t)i + 1 : NONE;
    }
    return s->queue;
}

size_t merge_long_word(const struct merges *m, struct merge_scratch *s, int32_t *id, size_t n) {
    struct long_word *q = prepare(m, s, n);
    q->id = id;
    for (size_t i = 0; i + 1 < n; i++)
        push(q, m, s, (int32_t)i, false);
    while (q->ranks.len > 0) {
        take_rank(q, (uint32_t)heap_pop(&q->ranks));
        for (size_t i = 0; i < q->n_batch || q->early.len > 0;) {
            uint64_t here = (uint64_t)q->rank << 32 | (i < q->n_batch ? q->batch[i] : UINT32_MAX);
            if (q->early.len > 0 && q->early.data[0] < here) {
                uint64_t top = heap_pop(&q->early);
                apply(q, m, s, (uint32_t)(top >> 32), (uint32_t)top);
            } else {
                apply(q, m, s, q->rank, q->batch[i++]);
            }
        }
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (q->id[i] != NONE)
            q->id[kept++] = q->id[i];
    return kept;
}
