/* tok_merge: the merges of byte-pair encoding: the table, and short words. */
#include "engine/text/tok_merge.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/text/tok_vocab.h"

/* Longest word whose pairs are scanned for the lowest rank again after each merge. */
#define SHORT_WORD 96
#define NO_RANK UINT32_MAX

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

size_t merge_word(const struct merges *m, struct merge_scratch *s, size_t n) {
    if (n < 2)
        return n;
    if (n > SHORT_WORD)
        return merge_long_word(m, s, n);
    int32_t *id = s->id;
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
