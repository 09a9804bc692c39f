/* Permutations and the sequence of rows. */
#include "engine/train/order.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static void assert_permutation(const int32_t *perm, int64_t n) {
    bool *seen = calloc((size_t)n, sizeof *seen);
    for (int64_t i = 0; i < n; i++) {
        cr_assert(perm[i] >= 0 && perm[i] < n && !seen[perm[i]]);
        seen[perm[i]] = true;
    }
    free(seen);
}

Test(order, every_epoch_is_another_permutation_and_always_the_same_one) {
    enum { N = 1000 };
    static int32_t a[N], b[N];
    order_permute(a, N, 7, 0);
    assert_permutation(a, N);
    order_permute(b, N, 7, 0);
    cr_assert_eq(memcmp(a, b, sizeof a), 0);
    order_permute(b, N, 7, 1);
    assert_permutation(b, N);
    cr_assert_neq(memcmp(a, b, sizeof a), 0);
    order_permute(b, N, 8, 0);
    cr_assert_neq(memcmp(a, b, sizeof a), 0);
}

/* Each of the 24 orders of 4 rows comes up about as often: chi-square with 23 degrees of freedom.
 */
Test(order, orders_are_uniform) {
    int count[256] = {0};
    double chi = 0;
    for (int seed = 0; seed < 24000; seed++) {
        int32_t p[4];
        order_permute(p, 4, (uint64_t)seed, 3);
        count[p[0] << 6 | p[1] << 4 | p[2] << 2 | p[3]]++;
    }
    for (int i = 0; i < 256; i++)
        if (count[i] > 0)
            chi += (count[i] - 1000.0) * (count[i] - 1000.0) / 1000.0;
    cr_assert_lt(chi, 49.7); /* p = 0.001 */
}

Test(order, file_order_wraps_at_the_end) {
    struct row_list list;
    struct order o;
    row_list_range(&list, 10, 3);
    order_init(&o, &list, false, 1);
    for (int i = 0; i < 9; i++)
        cr_assert_eq(order_row(&o, i), 10 + i % 3);
    order_clear(&o);
    row_list_clear(&list);
}

Test(order, a_shuffled_epoch_has_every_row_once_and_can_be_entered_anywhere) {
    struct row_list list;
    struct order o, late;
    int32_t seen[5] = {0};
    row_list_range(&list, 0, 5);
    order_init(&o, &list, true, 1);
    order_init(&late, &list, true, 1);
    for (int i = 0; i < 10; i++)
        seen[order_row(&o, i)]++;
    for (int i = 0; i < 5; i++)
        cr_assert_eq(seen[i], 2);
    for (int i = 23; i >= 0; i--)
        cr_assert_eq(order_row(&late, i), order_row(&o, i));
    order_clear(&o);
    order_clear(&late);
    row_list_clear(&list);
}

Test(order, rows_set_apart_are_not_among_the_others) {
    for (int64_t k = 0; k <= 20; k++) {
        struct row_list chosen, others;
        bool seen[20] = {false};
        row_list_set_apart(20, k, &chosen, &others);
        cr_assert_eq(chosen.n, k);
        cr_assert_eq(others.n, 20 - k);
        for (int64_t i = 0; i < k; i++)
            seen[chosen.rows[i]] = true;
        for (int64_t i = 0; i < 20 - k; i++) {
            cr_assert(!seen[others.rows[i]]);
            seen[others.rows[i]] = true;
            cr_assert(i == 0 || others.rows[i] > others.rows[i - 1]);
        }
        for (int i = 0; i < 20; i++)
            cr_assert(seen[i]);
        row_list_clear(&chosen);
        row_list_clear(&others);
    }
}
