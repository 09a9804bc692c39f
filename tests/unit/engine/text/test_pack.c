/* Packing against a naive best fit decreasing written straight from its definition. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "engine/text/pack.h"

static uint32_t random_state = 1;

static uint32_t next_random(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * below) >> 32);
}

/* bin_of[i], bins numbered by their lowest index; returns the number of bins. */
static int naive(const int32_t *lengths, int n, int64_t capacity, int *bin_of) {
    int64_t *space = calloc((size_t)n + 1, sizeof *space);
    int *number = calloc((size_t)n + 1, sizeof *number);
    int n_bins = 0, numbered = 0;
    memset(bin_of, -1, (size_t)n * sizeof *bin_of);
    for (int placed = 0; placed < n; placed++) {
        int row = -1, best = -1;
        for (int i = 0; i < n; i++)
            if (bin_of[i] < 0 && (row < 0 || lengths[i] > lengths[row]))
                row = i;
        for (int b = 0; b < n_bins; b++)
            if (space[b] >= lengths[row] && space[b] > 0 && (best < 0 || space[b] < space[best]))
                best = b;
        if (best < 0)
            space[best = n_bins++] = capacity;
        space[best] -= lengths[row];
        bin_of[row] = best;
    }
    for (int i = 0; i < n; i++) {
        if (number[bin_of[i]] == 0)
            number[bin_of[i]] = ++numbered;
        bin_of[i] = number[bin_of[i]] - 1;
    }
    free(space);
    free(number);
    return n_bins;
}

static void check_against_naive(const int32_t *lengths, int n, int64_t capacity) {
    int *expected = calloc((size_t)n + 1, sizeof *expected);
    struct packing p;
    packing_make(lengths, n, capacity, &p);
    cr_assert_eq(p.n_bins, naive(lengths, n, capacity, expected));
    cr_assert_eq(p.bin_start[p.n_bins], n);
    for (int b = 0; b < p.n_bins; b++)
        for (int k = p.bin_start[b]; k < p.bin_start[b + 1]; k++) {
            cr_assert_eq(expected[p.order[k]], b, "row %d", p.order[k]);
            cr_assert(k == p.bin_start[b] || p.order[k] > p.order[k - 1]);
        }
    packing_clear(&p);
    free(expected);
}

Test(pack, equals_the_naive_version) {
    int32_t lengths[200];
    for (int round = 0; round < 200; round++) {
        int n = 1 + (int)next_random(200);
        int32_t longest = 1 + (int32_t)next_random(round % 2 == 0 ? 20 : 3000);
        for (int i = 0; i < n; i++)
            lengths[i] = (int32_t)next_random((uint32_t)longest + 1);
        check_against_naive(lengths, n, 1 + next_random(2048));
    }
}

Test(pack, a_row_longer_than_the_capacity_is_alone) {
    const int32_t lengths[] = {3, 50, 4};
    struct packing p;
    packing_make(lengths, 3, 10, &p);
    cr_assert_eq(p.n_bins, 2);
    cr_assert_eq(p.order[p.bin_start[1]], 1);
    cr_assert_eq(p.bin_start[2] - p.bin_start[1], 1);
    packing_clear(&p);
}

Test(pack, without_a_capacity_every_row_has_its_own_bin) {
    const int32_t lengths[] = {3, 1, 2};
    struct packing p;
    packing_make(lengths, 3, 0, &p);
    cr_assert_eq(p.n_bins, 3);
    for (int i = 0; i < 3; i++)
        cr_assert(p.bin_start[i] == i && p.order[i] == i);
    packing_clear(&p);
    packing_make(lengths, 0, 100, &p);
    cr_assert_eq(p.n_bins, 0);
    packing_clear(&p);
}

Test(pack, a_million_rows_are_packed_quickly, .timeout = 20) {
    int n = 1000000;
    int32_t *lengths = malloc((size_t)n * sizeof *lengths);
    for (int i = 0; i < n; i++)
        lengths[i] = 1 + (int32_t)next_random(2048);
    struct packing p;
    packing_make(lengths, n, 2048, &p);
    int64_t total = 0;
    for (int b = 0; b < p.n_bins; b++) {
        int64_t sum = 0;
        for (int k = p.bin_start[b]; k < p.bin_start[b + 1]; k++)
            sum += lengths[p.order[k]];
        cr_assert(sum <= 2048);
        total += sum;
    }
    cr_assert(total > (int64_t)p.n_bins * 2048 * 98 / 100, "fill below 98 %%");
    packing_clear(&p);
    free(lengths);
}
