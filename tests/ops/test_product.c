/* Whole blocks of results: two terms, residual, bias, rounding; and how exact f32 is. */
#include <criterion/criterion.h>
#include <math.h>

#include "engine/ops/cpu/linear.h"
#include "engine/ops/cpu/product.h"
#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

struct product_case {
    int64_t m, n, k, rank; /* rank 0: one term */
    bool bias, residual, in_place;
    int64_t width; /* of the whole that the block's columns are part of; 0: the block's */
};

/* 2500 to 7000: the shared dimension is walked in several chunks; of up to 64 rows in shorter ones,
 * of more rows as the width says. */
static const struct product_case cases[] = {
    {1, 1, 1, 0, false, false, false, 0},        {33, 70, 97, 16, true, true, false, 0},
    {64, 96, 576, 16, false, true, true, 0},     {40, 300, 6000, 3, true, false, false, 0},
    {5, 513, 2500, 40, true, true, true, 0},     {256, 320, 64, 0, false, true, false, 0},
    {130, 96, 7000, 16, true, true, false, 640},
};

struct product_setting {
    struct cpu *c;
    struct product p;
};

static void run_item(void *arg, int64_t item, int worker) {
    struct product_setting *r = arg;
    (void)item;
    cpu_product(r->c, worker, &r->p);
}

/* W [n, k], transposed: as it stands, or packed where the device keeps it so. */
static struct operand weight(struct scene *s, struct mat w) {
    struct cpu *c = cpu_of(s->dev);
    struct operand b = transposed(operand_of(scene_put(s, w, 0, s->dtype)));
    if (!tiles_hold_bf16(c->choice->tiles) || s->dtype != DTYPE_BF16)
        return b;
    void *to = scene_device(s, tile_packed_size(w.cols, w.rows));
    tile_pack(c, b, w.cols, w.rows, to);
    return (struct operand){.data = to,
                            .dtype = DTYPE_BF16,
                            .stride = (int64_t)tile_packed_size(w.cols, 1) / 2,
                            .packed = true};
}

static void run_case(struct scene *s, const void *arg) {
    const struct product_case *c = arg;
    struct mat x = scene_random(s, c->m, c->k, 1.0, s->dtype);
    struct mat w = scene_random(s, c->n, c->k, 1.0, s->dtype);
    struct mat x2 = scene_random(s, c->m, c->rank, 1.0, s->dtype);
    struct mat w2 = scene_random(s, c->n, c->rank, 1.0, s->dtype);
    struct mat bias = scene_random(s, 1, c->n, 9.0, DTYPE_F32);
    struct mat residual = scene_random(s, c->m, c->n, 9.0, s->dtype),
               want = scene_copy(s, residual);
    struct tensor given = scene_put(s, residual, 5, s->dtype);
    struct product_setting r = {.c = cpu_of(s->dev)};
    for (int64_t i = 0; i < c->m * c->n; i++)
        want.v[i] = (c->residual ? want.v[i] : 0) + (c->bias ? bias.v[i % c->n] : 0);
    ref_product(x, false, w, true, want, true);
    if (c->rank > 0)
        ref_product(x2, false, w2, true, want, true);
    r.p = (struct product){.n_terms = c->rank > 0 ? 2 : 1,
                           .width = c->width,
                           .bias = c->bias ? scene_put_f32(s, bias) : NULL,
                           .residual = c->residual ? &given : NULL,
                           .out = c->in_place ? given : scene_tensor(s, c->m, c->n, 3, s->dtype)};
    r.p.term[0] =
        (struct product_term){operand_of(scene_put(s, x, 2, s->dtype)), weight(s, w), c->k};
    struct operand b2 = transposed(operand_of(scene_put(s, w2, 0, s->dtype)));
    r.p.term[1] = (struct product_term){operand_of(scene_put(s, x2, 1, s->dtype)), b2, c->rank};
    team_run(r.c->team, 1, run_item, &r);
    scene_check_tensor(s, "block", r.p.out, want, limit_of(s->dtype));
    scene_check_padding(s, "block", r.p.out);
}

Test(product, blocks_agree_with_the_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        each_device(run_case, &cases[i]);
}

/* Rows in groups of 32 far apart in size: each group is as exact as if it were alone. */
static void run_scaled(struct scene *s, const void *arg) {
    enum { GROUPS = 3, ROWS = 32 * GROUPS, COLUMNS = 70, DEPTH = 200 };
    struct mat x = scene_random(s, ROWS, DEPTH, 1.0, s->dtype), want = scene_mat(s, ROWS, COLUMNS);
    struct mat w = scene_random(s, COLUMNS, DEPTH, ldexp(1.0, -40), s->dtype);
    (void)arg;
    for (int64_t i = 0; i < x.rows * x.cols; i++)
        x.v[i] = ldexp(x.v[i], (int)(i / x.cols / 32) * 60 - 60);
    ref_product(x, false, w, true, want, false);
    struct product_setting r = {.c = cpu_of(s->dev), .p = {.n_terms = 1}};
    r.p.out = scene_tensor(s, ROWS, COLUMNS, 0, s->dtype);
    r.p.term[0] =
        (struct product_term){operand_of(scene_put(s, x, 0, s->dtype)), weight(s, w), DEPTH};
    team_run(r.c->team, 1, run_item, &r);
    for (int64_t i = 0; i < GROUPS; i++) {
        struct mat rows = {32, COLUMNS, want.v + i * 32 * COLUMNS};
        scene_check_tensor(s, "rows", tensor_rows(r.p.out, i * 32, 32), rows, limit_of(s->dtype));
    }
}

Test(product, range_is_that_of_f32) {
    each_device(run_scaled, NULL);
}

/* Normalized error of a product whose operands span 2^-20 … 2^20. */
static double error_of(enum cpu_product kind) {
    struct scene s = {.dtype = DTYPE_F32, .label = "exact", .random = 7};
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(cpu_open(1, kind, &s.dev, &em), ERR_OK);
    s.ops = s.dev->ops;
    struct mat a = scene_random(&s, 64, 1536, 1.0, DTYPE_F32), want = scene_mat(&s, 64, 96);
    struct mat b = scene_random(&s, 1536, 96, 1.0, DTYPE_F32);
    for (int64_t i = 0; i < a.rows * a.cols; i++)
        a.v[i] = (float)ldexp(a.v[i], (int)(i % 41) - 20);
    ref_product(a, false, b, false, want, false);
    struct product_setting r = {.c = cpu_of(s.dev), .p = {.n_terms = 1}};
    struct operand left = operand_of(scene_put(&s, a, 0, DTYPE_F32));
    struct operand right = operand_of(scene_put(&s, b, 0, DTYPE_F32));
    r.p.term[0] = (struct product_term){left, right, 1536};
    r.p.out = scene_tensor(&s, 64, 96, 0, DTYPE_F32);
    team_run(r.c->team, 1, run_item, &r);
    struct mat got = scene_get(&s, r.p.out);
    double off = 0, size = 0;
    for (int64_t i = 0; i < want.rows * want.cols; i++) {
        off += (got.v[i] - want.v[i]) * (got.v[i] - want.v[i]);
        size += want.v[i] * want.v[i];
    }
    scene_clear(&s);
    device_close(s.dev);
    return sqrt(off / size);
}

/* Where f32 products are made of bf16 planes, they are as exact as sums in f32. */
Test(product, f32_is_as_exact_as_f32) {
    double best = error_of(CPU_PRODUCT_BEST), plain = error_of(CPU_PRODUCT_PLAIN);
    cr_log_info("error of the best product %.2e, of the plain one %.2e", best, plain);
    cr_assert_lt(best, 1.5 * plain, "%g; plain C: %g", best, plain);
}

static void check_tiles(const struct tiling *t, int64_t n, int64_t most, int64_t least) {
    int64_t at = 0;
    for (int64_t i = 0; i < t->count; i++) {
        cr_assert_eq(tiling_first(t, i), at);
        cr_assert_gt(tiling_count(t, i), n > least ? least : 0, "tile %lld of %lld", (long long)i,
                     (long long)n);
        at += tiling_count(t, i);
    }
    cr_assert_eq(at, n);
    cr_assert_leq(t->size, most);
}

/* Tiles of up to 64 rows are summed in another order, so that there may be some is for the rows
 * alone to say, not for the threads. */
static void check_grid(const struct cpu *c, enum dtype dtype, int64_t rows, int64_t columns) {
    char weight = 0;
    struct linear lin = {.weight = &weight, .dtype = dtype, .n_parts = 2};
    lin.forward[0] = tiling_make(columns, c->choice->tile_cols, 64);
    lin.forward[1] = tiling_make(70, c->choice->tile_cols, 64);
    const struct grid g = grid_forward(c, &lin, rows);
    check_tiles(&g.rows, rows, 4 * c->choice->tile_rows, packs_at_use(c, &lin) ? 64 : 0);
    check_tiles(&g.cols[0], columns, c->choice->tile_cols, 0);
    check_tiles(&g.cols[1], 70, c->choice->tile_cols, 0);
    cr_assert_eq(g.columns, g.cols[0].count + g.cols[1].count);
}

Test(product, rows_are_tiled_whatever_their_number, .timeout = 60) {
    for (int threads = 1; threads <= 4; threads++) {
        struct device *dev;
        struct err_msg em = ERR_MSG_INIT;
        cr_assert_eq(device_open("cpu", threads, &dev, &em), ERR_OK, "%s", em.text);
        for (int64_t rows = 1; rows <= 2100; rows++)
            for (int64_t columns = 576; columns <= 1600; columns += 512) {
                check_grid(cpu_of(dev), DTYPE_F32, rows, columns);
                check_grid(cpu_of(dev), DTYPE_BF16, rows, columns);
            }
        device_close(dev);
    }
}
