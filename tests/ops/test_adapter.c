/* Arithmetic on the adapter's buffers, and dropout's generator. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "engine/ops/cpu/cpu.h"
#include "engine/ops/philox.h"
#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

static const int64_t sizes[] = {1, 15, 1000, 16384, 50001};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

static void run_vectors(struct scene *s, const void *arg) {
    int64_t n = *(const int64_t *)arg;
    struct mat a = scene_random(s, 1, n, 1.0, DTYPE_F32), b = scene_random(s, 1, n, 1.0, DTYPE_F32);
    struct mat sum = scene_mat(s, 1, n), one = scene_mat(s, 1, 1), squares = scene_mat(s, 1, 1);
    for (int64_t i = 0; i < n; i++) {
        sum.v[i] = a.v[i] - 1.5 * b.v[i];
        squares.v[0] += a.v[i] * a.v[i];
    }
    float *ad = scene_put_f32(s, a), *bd = scene_put_f32(s, b);
    float *to = scene_device(s, (size_t)n * sizeof *to);
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(s->ops->vec_sumsq(s->dev, ad, (size_t)n, one.v, &em), ERR_OK);
    scene_check(s, "sum of squares", one, squares, 1e-12);
    s->ops->vec_axpy(s->dev, to, ad, -1.5f, bd, (size_t)n);
    scene_check(s, "axpy", scene_get_f32(s, to, 1, n), sum, 1e-6);
    s->ops->vec_axpy(s->dev, ad, ad, -1.5f, bd, (size_t)n);
    scene_check(s, "axpy into a", scene_get_f32(s, ad, 1, n), sum, 1e-6);
    for (int64_t i = 0; i < n; i++)
        sum.v[i] -= 0.5 * b.v[i];
    s->ops->vec_axpy(s->dev, bd, ad, -0.5f, bd, (size_t)n);
    scene_check(s, "axpy into b", scene_get_f32(s, bd, 1, n), sum, 1e-6);
}

Test(adapter, vectors_agree_with_the_reference) {
    for (size_t i = 0; i < N_SIZES; i++)
        each_device(run_vectors, &sizes[i]);
}

/* An adapter with these weights. */
static struct adapter_mem put_adapter(struct scene *s, struct mat w) {
    struct adapter_mem ad;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(s->ops->adapter_alloc(s->dev, (size_t)w.cols, s->dtype, &ad, &em), ERR_OK);
    s->ops->upload(s->dev, ad.w, scene_host_values(s, w, DTYPE_F32), ad.n * sizeof *ad.w);
    s->ops->adapter_refresh(s->dev, &ad);
    return ad;
}

/* The work copy, where the device has one, is w rounded to bf16. */
static void check_work(struct scene *s, const struct adapter_mem *ad) {
    const struct tensor work = {ad->work, DTYPE_BF16, 1, (int64_t)ad->n, (int64_t)ad->n};
    if (ad->work)
        scene_check_tensor(s, "work", work, scene_get_f32(s, ad->w, 1, (int64_t)ad->n), 0x1p-8);
}

static void run_adamw(struct scene *s, const void *arg) {
    int64_t n = *(const int64_t *)arg;
    struct mat w = scene_random(s, 1, n, 1.0, DTYPE_F32);
    struct mat m = scene_mat(s, 1, n), v = scene_mat(s, 1, n);
    float *md = scene_put_f32(s, m), *vd = scene_put_f32(s, v);
    struct adapter_mem ad = put_adapter(s, w);
    struct err_msg em = ERR_MSG_INIT;
    struct mat got = scene_mat(s, 1, 1), sum = scene_mat(s, 1, 1);
    struct adamw o = {
        .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .weight_decay = 0.1f};
    for (o.step = 1; o.step <= 5; o.step++) {
        struct mat g = scene_random(s, 1, n, 1.0, DTYPE_F32);
        sum.v[0] = 0;
        for (int64_t i = 0; i < n; i++)
            sum.v[0] += g.v[i] * g.v[i];
        /* one gradient in two is too long */
        o.max_norm = (float)(sqrt(sum.v[0]) * (o.step % 2 == 0 ? 0.5 : 2.0));
        ref_adamw(&o, w, g, m, v);
        s->ops->upload(s->dev, ad.g, scene_host_values(s, g, DTYPE_F32), (size_t)n * sizeof *ad.g);
        cr_assert_eq(s->ops->adamw(s->dev, &o, &ad, md, vd, got.v, &em), ERR_OK);
        scene_check(s, "sum of squares", got, sum, 1e-12);
    }
    scene_check(s, "w", scene_get_f32(s, ad.w, 1, n), w, 1e-6);
    scene_check(s, "m", scene_get_f32(s, md, 1, n), m, 1e-6);
    scene_check(s, "v", scene_get_f32(s, vd, 1, n), v, 1e-6);
    check_work(s, &ad);
    s->ops->adapter_free(s->dev, &ad);
}

Test(adapter, adamw_agrees_with_the_reference) {
    for (size_t i = 0; i < N_SIZES; i++)
        each_device(run_adamw, &sizes[i]);
}

/* An update from such a gradient would be the end of the adapter. */
static void run_not_finite(struct scene *s, const void *arg) {
    const double bad = *(const double *)arg;
    struct mat w = scene_random(s, 1, 1000, 1.0, DTYPE_F32), zeros = scene_mat(s, 1, 1000);
    struct mat g = scene_random(s, 1, 1000, 1.0, DTYPE_F32);
    struct adapter_mem ad = put_adapter(s, w);
    float *md = scene_put_f32(s, zeros), *vd = scene_put_f32(s, zeros);
    const struct adamw o = {0.1f, 0.9f, 0.999f, 1e-8f, 0.1f, 1, 1.0f};
    struct err_msg em = ERR_MSG_INIT;
    double sum = 0;
    g.v[777] = bad;
    s->ops->upload(s->dev, ad.g, scene_host_values(s, g, DTYPE_F32), ad.n * sizeof *ad.g);
    cr_assert_eq(s->ops->adamw(s->dev, &o, &ad, md, vd, &sum, &em), ERR_OK);
    cr_assert_not(isfinite(sum), "%s: %g", s->label, sum);
    scene_check(s, "w", scene_get_f32(s, ad.w, 1, 1000), w, 0);
    scene_check(s, "m", scene_get_f32(s, md, 1, 1000), zeros, 0);
    scene_check(s, "v", scene_get_f32(s, vd, 1, 1000), zeros, 0);
    check_work(s, &ad);
    s->ops->adapter_free(s->dev, &ad);
}

Test(adapter, a_gradient_that_is_not_finite_changes_nothing) {
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++)
        each_device(run_not_finite, &bad[i]);
}

static void run_move(struct scene *s, const void *arg) {
    int64_t n = *(const int64_t *)arg;
    struct mat base = scene_random(s, 1, n, 1.0, DTYPE_F32), to = scene_mat(s, 1, n);
    struct mat direction = scene_random(s, 1, n, 1.0, DTYPE_F32);
    struct adapter_mem ad = put_adapter(s, direction);
    for (int64_t i = 0; i < n; i++)
        to.v[i] = base.v[i] + 2.5 * direction.v[i];
    base.v[0] = -0.0; /* whose sum with 0 has another sign */
    to.v[0] = 2.5 * direction.v[0];
    float *based = scene_put_f32(s, base), *d = scene_put_f32(s, direction), first;
    struct err_msg em = ERR_MSG_INIT;
    s->ops->adapter_move(s->dev, &ad, based, 2.5f, d);
    scene_check(s, "moved", scene_get_f32(s, ad.w, 1, n), to, 1e-7);
    check_work(s, &ad);
    s->ops->adapter_move(s->dev, &ad, based, 0.0f, d);
    scene_check(s, "back", scene_get_f32(s, ad.w, 1, n), base, 0);
    check_work(s, &ad);
    cr_assert_eq(s->ops->download(s->dev, &first, ad.w, sizeof first, &em), ERR_OK);
    cr_assert(signbit(first), "%s: not bit for bit", s->label);
    s->ops->adapter_free(s->dev, &ad);
}

Test(adapter, moves_along_a_direction_and_back) {
    for (size_t i = 0; i < N_SIZES; i++)
        each_device(run_move, &sizes[i]);
}

static void run_alloc(struct scene *s, const void *arg) {
    (void)arg;
    struct adapter_mem ad;
    struct err_msg em = ERR_MSG_INIT;
    struct mat zeros = scene_mat(s, 1, 1000);
    cr_assert_eq(s->ops->adapter_alloc(s->dev, 1000, s->dtype, &ad, &em), ERR_OK);
    scene_check(s, "new w", scene_get_f32(s, ad.w, 1, 1000), zeros, 0);
    scene_check(s, "new g", scene_get_f32(s, ad.g, 1, 1000), zeros, 0);
    s->ops->adapter_free(s->dev, &ad);
    cr_assert_null(ad.w);
    cr_assert_eq(s->ops->adapter_alloc(s->dev, SIZE_MAX / 2, s->dtype, &ad, &em), ERR_NO_MEMORY);
    cr_assert_null(ad.w);
}

Test(adapter, starts_as_zeros) {
    each_device(run_alloc, NULL);
}

/* Known answers published with the authors' Random123 library (kat_vectors, philox4x32 10). */
Test(philox, gives_the_published_numbers) {
    static const struct {
        uint64_t key;
        struct philox counter, want;
    } known[] = {
        {0, {{0, 0, 0, 0}}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {UINT64_MAX,
         {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {0x299f31d0a4093822,
         {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };
    for (size_t i = 0; i < 3; i++) {
        struct philox got = philox4x32(known[i].key, known[i].counter);
        for (int k = 0; k < 4; k++)
            cr_assert_eq(got.x[k], known[i].want.x[k], "vector %zu word %d: %08x", i, k, got.x[k]);
    }
}

Test(dropout, every_build_gives_the_same_mask) {
    struct dropout d = {.p = 0.3f, .seed = 5, .step = 9, .site = 2};
    const struct kernels *builds[] = {&kernels_base, kernels_of(isa_best())};
    float x[1003], y[1003];
    for (int i = 0; i < 1003; i++)
        x[i] = (float)(i + 1);
    for (int b = 0; b < 2; b++)
        for (int64_t first = 0; first < 200; first += 52) {
            builds[b]->dropout(y, x + first, &d, 77, first, 1003 - first);
            for (int64_t i = 0; i < 1003 - first; i++) {
                double want = (double)x[first + i] * ref_dropout(&d, 77, first + i);
                cr_assert_float_eq((double)y[i], want, 1e-4, "%s", builds[b]->name);
            }
        }
}

/* Share of kept elements within 5 standard deviations; rows, sites and steps independent. */
Test(dropout, keeps_the_right_share) {
    enum { N = 4096, ROWS = 64 };
    static float ones[N], mask[2][N];
    for (int i = 0; i < N; i++)
        ones[i] = 1.0f;
    struct dropout d = {.p = 0.1f, .seed = 1, .step = 1, .site = 1};
    double kept = 0, both = 0;
    for (uint64_t row = 0; row < ROWS; row++) {
        d.site = 1;
        kernels_of(isa_best())->dropout(mask[0], ones, &d, row, 0, N);
        d.site = 2;
        kernels_of(isa_best())->dropout(mask[1], ones, &d, row, 0, N);
        for (int i = 0; i < N; i++) {
            kept += mask[0][i] > 0;
            both += mask[0][i] > 0 && mask[1][i] > 0;
        }
    }
    double n = (double)N * ROWS;
    cr_assert_float_eq(kept / n, 0.9, 5 * sqrt(0.9 * 0.1 / n));
    cr_assert_float_eq(both / n, 0.81, 5 * sqrt(0.81 * 0.19 / n));
}
