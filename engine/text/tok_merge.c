/* tok_merge: the merges of byte-pair encoding: the table, and short words. */
#include "engine/text/tok_merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/text/tok_vocab.h"

/* Longest word whose pairs are scanned for the lowest rank again after each merge. */
#define SHORT_WORD 96
#define NO_RANK UINT32_MAX
#define MAX_PASSES 16 /* over the merges, to follow those listed before what makes their halves */

void merges_init(struct merges *m, size_t n) {
    *m = (struct merges){.n_slots = 16, .seed = vocab_hash_seed() | 1};
    while (m->n_slots < n * 2)
        m->n_slots *= 2;
    m->by_rank = xcalloc(n + 1, sizeof *m->by_rank);
    m->slot = xmalloc(m->n_slots * sizeof *m->slot);
    memset(m->slot, 0xFF, m->n_slots * sizeof *m->slot);
}

void merges_clear(struct merges *m) {
    free(m->by_rank);
    free(m->slot);
    *m = (struct merges){0};
}

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static size_t home(const struct merges *m, uint64_t pair) {
    uint64_t h = (pair ^ m->seed) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return (size_t)(h ^ h >> 29) & (m->n_slots - 1);
}

void merges_add(struct merges *m, struct merge merge) {
    uint64_t pair = pair_of(merge.left, merge.right);
    size_t i = home(m, pair);
    while (m->slot[i].pair != UINT64_MAX && m->slot[i].pair != pair)
        i = (i + 1) & (m->n_slots - 1);
    m->slot[i] = (struct merge_slot){pair, (uint32_t)m->n, merge.made};
    m->by_rank[m->n++] = merge;
}

const struct merge_slot *merges_find(const struct merges *m, int32_t left, int32_t right) {
    uint64_t pair = pair_of(left, right);
    size_t i = home(m, pair);
    while (m->slot[i].pair != pair) {
        if (m->slot[i].pair == UINT64_MAX)
            return NULL;
        i = (i + 1) & (m->n_slots - 1);
    }
    return &m->slot[i];
}

void merge_scratch_reserve(struct merge_scratch *s, size_t n) {
    if (n <= s->cap)
        return;
    s->cap = n < 256 ? 256 : n + n / 2;
    s->id = xreallocarray(s->id, s->cap, sizeof *s->id);
    s->rank = xreallocarray(s->rank, SHORT_WORD, sizeof *s->rank);
}

void merge_scratch_clear(struct merge_scratch *s) {
    free(s->id);
    free(s->left);
    free(s->right);
    free(s->rank);
    merge_long_free(s->queue);
    *s = (struct merge_scratch){0};
}

static uint32_t rank_at(const struct merges *m, const int32_t *id, size_t i) {
    const struct merge_slot *slot = merges_find(m, id[i], id[i + 1]);
    return slot == NULL ? NO_RANK : slot->rank;
}

/* One part of a word that no merge leaves. */
static size_t merge_part(const struct merges *m, struct merge_scratch *s, int32_t *id, size_t n) {
    if (n < 2)
        return n;
    if (n > SHORT_WORD)
        return merge_long_word(m, s, id, n);
    uint32_t *rank = s->rank;
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = rank_at(m, id, i);
    for (;;) {
        size_t best = 0;
        uint32_t lowest = NO_RANK;
        for (size_t i = 0; i + 1 < n; i++)
            if (rank[i] < lowest) {
                lowest = rank[i];
                best = i;
            }
        if (lowest == NO_RANK)
            return n;
        id[best] = m->by_rank[lowest].made;
        memmove(id + best + 1, id + best + 2, (n - best - 2) * sizeof *id);
        if (n - best > 2)
            memmove(rank + best, rank + best + 1, (n - best - 2) * sizeof *rank);
        n--;
        if (best > 0)
            rank[best - 1] = rank_at(m, id, best - 1);
        if (best + 1 < n)
            rank[best] = rank_at(m, id, best);
    }
}

size_t merge_word(const struct merges *m, const struct merges *joints, struct merge_scratch *s,
                  size_t n) {
    if (n <= SHORT_WORD || joints == NULL)
        return merge_part(m, s, s->id, n);
    size_t kept = 0;
    for (size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n; end++)
            if (merges_find(joints, s->id[end - 1], s->id[end]) == NULL)
                break;
        size_t tokens = merge_part(m, s, s->id + begin, end - begin);
        memmove(s->id + kept, s->id + begin, tokens * sizeof *s->id);
        kept += tokens;
    }
    return kept;
}

/* The one symbol at an end of a token, found so far; NONE before. */
struct ends {
    int32_t *first, *last; /* [n_ids] */
};

#define NONE (-1)

/* Whether the ends of token id now are first and last; they may not be something else already. */
static bool set_ends(struct ends *e, int32_t id, int32_t first, int32_t last, bool *changed) {
    if (e->first[id] == NONE) {
        e->first[id] = first;
        e->last[id] = last;
        *changed = true;
    }
    return e->first[id] == first && e->last[id] == last;
}

/* Tokens that no merge makes are symbols; the ends of the others follow from their halves. */
static bool find_ends(const struct merges *m, size_t n_ids, struct ends *e) {
    bool *made = xcalloc(n_ids + 1, sizeof *made), good = true, changed = true;
    for (size_t i = 0; i < m->n; i++)
        made[m->by_rank[i].made] = true;
    for (size_t id = 0; id < n_ids; id++)
        e->first[id] = e->last[id] = made[id] ? NONE : (int32_t)id;
    free(made);
    for (int pass = 0; pass < MAX_PASSES && good && changed; pass++) {
        changed = false;
        for (size_t i = 0; i < m->n && good; i++) {
            const struct merge *g = &m->by_rank[i];
            if (e->first[g->left] != NONE && e->last[g->right] != NONE)
                good = set_ends(e, g->made, e->first[g->left], e->last[g->right], &changed);
        }
    }
    return good && !changed;
}

bool merges_joints(const struct merges *m, size_t n_ids, struct merges *joints) {
    struct ends e = {xcalloc(n_ids + 1, sizeof *e.first), xcalloc(n_ids + 1, sizeof *e.last)};
    bool good = find_ends(m, n_ids, &e);
    if (good) {
        merges_init(joints, m->n);
        for (size_t i = 0; i < m->n; i++) {
            int32_t left = e.last[m->by_rank[i].left], right = e.first[m->by_rank[i].right];
            if (left != NONE && right != NONE && merges_find(joints, left, right) == NULL)
                merges_add(joints, (struct merge){left, right, 0});
        }
    }
    free(e.first);
    free(e.last);
    return good;
}
