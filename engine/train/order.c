/* order: lists of rows and their order, from counters alone. */
#include "engine/train/order.h"

#include <stdlib.h>

#include "base/mem.h"
#include "engine/ops/philox.h"

/* Tells the draws of this file from those of dropout and initialisation. */
#define SITE_SHUFFLE 0x53484646u
/* Epoch number under which rows are set apart; real epochs count from 0. */
#define EPOCH_SET_APART (-1)

void row_list_clear(struct row_list *l) {
    free(l->rows);
    *l = (struct row_list){0};
}

void row_list_range(struct row_list *l, int64_t first, int64_t n) {
    *l = (struct row_list){.rows = xcalloc((size_t)n + 1, sizeof *l->rows), .n = n};
    for (int64_t i = 0; i < n; i++)
        l->rows[i] = (int32_t)(first + i);
}

void row_list_set_apart(int64_t total, int64_t k, struct row_list *chosen,
                        struct row_list *others) {
    int32_t *perm = xcalloc((size_t)total + 1, sizeof *perm);
    bool *taken = xcalloc((size_t)total + 1, sizeof *taken);
    order_permute(perm, total, 0, EPOCH_SET_APART);
    for (int64_t i = 0; i < k; i++)
        taken[perm[i]] = true;
    *chosen = (struct row_list){.rows = xcalloc((size_t)k + 1, sizeof(int32_t))};
    *others = (struct row_list){.rows = xcalloc((size_t)(total - k) + 1, sizeof(int32_t))};
    for (int64_t i = 0; i < total; i++) {
        struct row_list *l = taken[i] ? chosen : others;
        l->rows[l->n++] = (int32_t)i;
    }
    free(perm);
    free(taken);
}

/* Uniform in [0, n): the high word of a 64-bit draw times n (bias below n / 2^64). */
static int64_t draw_below(int64_t n, uint64_t seed, int64_t epoch, uint64_t counter) {
    struct philox c = {
        {(uint32_t)counter, (uint32_t)(counter >> 32), (uint32_t)epoch, SITE_SHUFFLE}};
    c = philox4x32(seed, c);
    uint64_t x = (uint64_t)c.x[1] << 32 | c.x[0];
    return (int64_t)(uint64_t)(((unsigned __int128)x * (uint64_t)n) >> 64);
}

void order_permute(int32_t *perm, int64_t n, uint64_t seed, int64_t epoch) {
    for (int64_t i = 0; i < n; i++)
        perm[i] = (int32_t)i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = draw_below(i + 1, seed, epoch, (uint64_t)i);
        int32_t swap = perm[i];
        perm[i] = perm[j];
        perm[j] = swap;
    }
}

void order_init(struct order *o, const struct row_list *list, bool shuffle, uint64_t seed) {
    *o = (struct order){.list = list, .shuffle = shuffle, .seed = seed, .epoch = -1};
    if (shuffle)
        o->perm = xcalloc((size_t)list->n + 1, sizeof *o->perm);
}

void order_clear(struct order *o) {
    free(o->perm);
    *o = (struct order){0};
}

int32_t order_row(struct order *o, int64_t position) {
    int64_t epoch = position / o->list->n, at = position % o->list->n;
    if (!o->shuffle)
        return o->list->rows[at];
    if (epoch != o->epoch) {
        order_permute(o->perm, o->list->n, o->seed, epoch);
        o->epoch = epoch;
    }
    return o->list->rows[o->perm[at]];
}
