/* Operations on single rows: embedding, norms, rotation, activations, gather and scatter. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

static const int64_t shapes[][3] = {/* rows, columns, padding */
                                    {1, 2, 0},   {3, 16, 0},   {5, 17, 3},
                                    {33, 64, 1}, {70, 576, 0}, {2, 1501, 0}};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

/* Large enough to be written past the caches; lines of 64 bytes begin with each row, and end it
 * not. */
static const int64_t large[] = {300, 900, 28};

/* ---- norms ---------------------------------------------------------------------------------- */

struct norm_case {
    enum norm_kind kind;
    bool bias;
    const int64_t *shape;
};

static void run_norm(struct scene *s, const void *arg) {
    const struct norm_case *c = arg;
    int64_t rows = c->shape[0], n = c->shape[1], pad = c->shape[2];
    double limit = limit_of(s->dtype);
    struct mat x = scene_random(s, rows, n, 2.0, s->dtype);
    struct mat weight = scene_random(s, 1, n, 1.0, DTYPE_F32), bias = {0};
    struct norm norm = {.kind = c->kind, .eps = 1e-5f, .weight = scene_put_f32(s, weight)};
    if (c->bias) {
        bias = scene_random(s, 1, n, 1.0, DTYPE_F32);
        norm.bias = scene_put_f32(s, bias);
    }
    struct mat y = scene_mat(s, rows, n), dy = scene_random(s, rows, n, 1.0, s->dtype);
    struct mat dx = scene_random(s, rows, n, 1.0, s->dtype);
    struct tensor xd = scene_put(s, x, pad, s->dtype), yd = scene_tensor(s, rows, n, pad, s->dtype);
    struct tensor dyd = scene_put(s, dy, pad, s->dtype), dxd = scene_put(s, dx, pad, s->dtype);
    float *stats = scene_device(s, (size_t)rows * 2 * sizeof *stats);
    ref_norm_forward(c->kind, (double)norm.eps, x, weight, bias, y);
    ref_norm_backward(c->kind, (double)norm.eps, dy, x, weight, dx);
    s->ops->norm_forward(s->dev, &norm, xd, yd, stats);
    scene_check_tensor(s, "norm", yd, y, limit);
    scene_check_padding(s, "norm", yd);
    s->ops->norm_backward(s->dev, &norm, dyd, xd, stats, dxd);
    scene_check_tensor(s, "norm backward", dxd, dx, 3 * limit);
    scene_check_padding(s, "norm backward", dxd);
    s->ops->norm_apply(s->dev, &norm, xd, stats, xd); /* in place */
    scene_check_tensor(s, "norm again", xd, y, limit);
}

Test(norm, agrees_with_the_reference) {
    for (size_t i = 0; i < N_SHAPES; i++)
        for (int kind = 0; kind < 3; kind++) {
            struct norm_case c = {kind ? NORM_LAYER : NORM_RMS, kind == 2, shapes[i]};
            each_device(run_norm, &c);
        }
}

Test(norm, large_results_agree_with_the_reference) {
    struct norm_case c = {NORM_RMS, false, large};
    each_device(run_norm, &c);
}

struct norm_slope {
    enum norm_kind kind;
    struct mat x, weight, y, dy;
};

static double norm_loss(void *arg) {
    struct norm_slope *d = arg;
    double sum = 0;
    ref_norm_forward(d->kind, 1e-5, d->x, d->weight, (struct mat){0}, d->y);
    for (int64_t i = 0; i < d->y.rows * d->y.cols; i++)
        sum += d->dy.v[i] * d->y.v[i];
    return sum;
}

Test(norm, reference_agrees_with_differences) {
    struct scene s = {.label = "reference", .random = 7};
    for (int kind = 0; kind < 2; kind++) {
        struct norm_slope d = {.kind = kind ? NORM_LAYER : NORM_RMS};
        d.x = scene_random(&s, 4, 9, 1.0, DTYPE_F32);
        d.weight = scene_random(&s, 1, 9, 1.0, DTYPE_F32);
        d.dy = scene_random(&s, 4, 9, 1.0, DTYPE_F32);
        d.y = scene_mat(&s, 4, 9);
        struct mat dx = scene_mat(&s, 4, 9);
        ref_norm_backward(d.kind, 1e-5, d.dy, d.x, d.weight, dx);
        scene_check_slope(&s, "x", norm_loss, &d, d.x, dx, 30);
    }
    scene_clear(&s);
}

/* ---- rotation ------------------------------------------------------------------------------- */

struct rope_case {
    int32_t heads, head_dim, dim;
    int64_t pad;
};

static void run_rope(struct scene *s, const void *arg) {
    const struct rope_case *c = arg;
    static const int32_t lengths[] = {5, 1, 19};
    struct scene_batch b = scene_pack(s, lengths, 3);
    struct mat cos_t = scene_mat(s, 20, c->dim / 2), sin_t = scene_mat(s, 20, c->dim / 2);
    for (int64_t p = 0; p < 20; p++)
        for (int64_t i = 0; i < c->dim / 2; i++) {
            double angle = (double)p * pow(100.0, -2.0 * (double)i / c->dim);
            *mat_at(cos_t, p, i) = round_to(DTYPE_F32, cos(angle));
            *mat_at(sin_t, p, i) = round_to(DTYPE_F32, sin(angle));
        }
    struct rope r = {scene_put_f32(s, cos_t), scene_put_f32(s, sin_t), 20, c->dim};
    struct mat x = scene_random(s, 25, c->heads * c->head_dim, 1.0, s->dtype);
    struct mat turned = scene_copy(s, x);
    struct tensor xd = scene_put(s, x, c->pad, s->dtype);
    ref_rope(cos_t, sin_t, &b.host, c->heads, c->head_dim, false, turned);
    s->ops->rope(s->dev, &r, &b.device, c->heads, c->head_dim, false, xd);
    scene_check_tensor(s, "rope", xd, turned, limit_of(s->dtype));
    /* the rotation is orthogonal: its transpose is the way back */
    s->ops->rope(s->dev, &r, &b.device, c->heads, c->head_dim, true, xd);
    scene_check_tensor(s, "rope back", xd, x, limit_of(s->dtype));
    scene_check_padding(s, "rope", xd);
}

Test(rope, agrees_with_the_reference) {
    static const struct rope_case cases[] = {
        {1, 8, 8, 0}, {3, 64, 64, 2}, {4, 32, 8, 0}, {2, 80, 20, 5}, {7, 6, 6, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        each_device(run_rope, &cases[i]);
}

/* ---- activations ---------------------------------------------------------------------------- */

struct act_case {
    struct act act;
    const int64_t *shape;
    double scale;
};

static void run_act(struct scene *s, const void *arg) {
    const struct act_case *c = arg;
    int64_t rows = c->shape[0], n = c->shape[1], pad = c->shape[2];
    int64_t width = c->act.gated ? 2 * n : n;
    struct mat in = scene_random(s, rows, width, c->scale, s->dtype);
    struct mat out = scene_mat(s, rows, n), din = scene_mat(s, rows, width);
    struct mat dout = scene_random(s, rows, n, 1.0, s->dtype);
    struct tensor ind = scene_put(s, in, pad, s->dtype);
    struct tensor outd = scene_tensor(s, rows, n, pad, s->dtype);
    struct tensor doutd = scene_put(s, dout, pad, s->dtype);
    ref_act_forward(&c->act, in, out);
    ref_act_backward(&c->act, dout, in, din);
    s->ops->act_forward(s->dev, &c->act, ind, outd);
    scene_check_tensor(s, "activation", outd, out, limit_of(s->dtype));
    scene_check_padding(s, "activation", outd);
    s->ops->act_backward(s->dev, &c->act, doutd, ind);
    scene_check_tensor(s, "activation backward", ind, din, limit_of(s->dtype));
    scene_check_padding(s, "activation backward", ind);
}

Test(act, agrees_with_the_reference) {
    for (size_t i = 0; i < N_SHAPES; i++)
        for (int kind = 0; kind < 12; kind++) {
            static const double scales[] = {0.01, 3.0};
            struct act_case c = {
                {(enum act_kind)(kind % 3), kind / 3 % 2}, shapes[i], scales[kind / 6]};
            each_device(run_act, &c);
        }
}

Test(act, large_results_agree_with_the_reference) {
    struct act_case c = {{ACT_SILU, true}, large, 3.0};
    each_device(run_act, &c);
}

/* Far from zero the activations are 0 or the input, and nothing overflows into NaN. */
static void run_act_extremes(struct scene *s, const void *arg) {
    (void)arg;
    struct mat in = scene_mat(s, 1, 20), out = scene_mat(s, 1, 20), din = scene_mat(s, 1, 20);
    struct mat ones = scene_mat(s, 1, 20);
    for (int i = 0; i < 20; i++) {
        in.v[i] = round_to(s->dtype, (i % 2 ? 1 : -1) * pow(3.0, i / 2 - 3));
        ones.v[i] = 1.0;
    }
    for (int kind = 0; kind < 3; kind++) {
        struct act act = {(enum act_kind)kind, false};
        struct tensor ind = scene_put(s, in, 0, s->dtype);
        struct tensor outd = scene_tensor(s, 1, 20, 0, s->dtype);
        ref_act_forward(&act, in, out);
        ref_act_backward(&act, ones, in, din);
        s->ops->act_forward(s->dev, &act, ind, outd);
        scene_check_tensor(s, "activation", outd, out, limit_of(s->dtype));
        s->ops->act_backward(s->dev, &act, scene_put(s, ones, 0, s->dtype), ind);
        scene_check_tensor(s, "activation backward", ind, din, limit_of(s->dtype));
    }
}

Test(act, stays_finite_far_from_zero) {
    each_device(run_act_extremes, NULL);
}

struct act_slope {
    struct act act;
    struct mat in, out, dout;
};

static double act_loss(void *arg) {
    struct act_slope *d = arg;
    double sum = 0;
    ref_act_forward(&d->act, d->in, d->out);
    for (int64_t i = 0; i < d->out.rows * d->out.cols; i++)
        sum += d->dout.v[i] * d->out.v[i];
    return sum;
}

Test(act, reference_agrees_with_differences) {
    struct scene s = {.label = "reference", .random = 7};
    for (int kind = 0; kind < 6; kind++) {
        struct act_slope d = {.act = {(enum act_kind)(kind % 3), kind >= 3}};
        int64_t width = d.act.gated ? 10 : 5;
        d.in = scene_random(&s, 4, width, 3.0, DTYPE_F32);
        d.out = scene_mat(&s, 4, 5);
        d.dout = scene_random(&s, 4, 5, 1.0, DTYPE_F32);
        struct mat din = scene_mat(&s, 4, width);
        ref_act_backward(&d.act, d.dout, d.in, din);
        scene_check_slope(&s, "in", act_loss, &d, d.in, din, 30);
    }
    scene_clear(&s);
}

/* ---- embedding, gather, scatter ------------------------------------------------------------- */

static void run_rows(struct scene *s, const void *arg) {
    const int64_t *shape = arg;
    int64_t rows = shape[0], n = shape[1], pad = shape[2], table_rows = 2 * rows + 3;
    struct mat table = scene_random(s, table_rows, n, 1.0, s->dtype), x = scene_mat(s, rows, n);
    struct mat picked = scene_mat(s, rows, n), spread = scene_mat(s, table_rows, n);
    int32_t *ids = scene_host(s, (size_t)rows * sizeof *ids);
    for (int64_t i = 0; i < rows; i++) {
        ids[i] = (int32_t)(2 * i + scene_below(s, 2)); /* ascending, no two the same */
        for (int64_t j = 0; j < n; j++) {
            *mat_at(picked, i, j) = *mat_at(spread, ids[i], j) = *mat_at(table, ids[i], j);
            *mat_at(x, i, j) = 2.5 * *mat_at(table, ids[i], j);
        }
    }
    int32_t *ids_d = scene_upload(s, ids, (size_t)rows * sizeof *ids);
    struct batch b = {.n_tokens = (int32_t)rows, .ids = ids_d};
    struct tensor td = scene_put(s, table, pad, s->dtype);
    struct tensor xd = scene_tensor(s, rows, n, pad, s->dtype);
    s->ops->embed(s->dev, td, &b, 2.5f, xd);
    scene_check_tensor(s, "embed", xd, x, limit_of(s->dtype));
    scene_check_padding(s, "embed", xd);
    s->ops->rows_gather(s->dev, td, ids_d, xd);
    scene_check_tensor(s, "gather", xd, picked, 0);
    struct tensor back = scene_tensor(s, table_rows, n, pad, s->dtype);
    s->ops->rows_scatter(s->dev, xd, ids_d, back);
    scene_check_tensor(s, "scatter", back, spread, 0);
    scene_check_padding(s, "scatter", back);
    /* a table in the other type of weight files */
    struct mat half = scene_random(s, table_rows, n, 1.0, DTYPE_F16);
    for (int64_t i = 0; i < rows * n; i++)
        x.v[i] = *mat_at(half, ids[i / n], i % n);
    s->ops->embed(s->dev, scene_put(s, half, pad, DTYPE_F16), &b, 1.0f, xd);
    scene_check_tensor(s, "embed f16", xd, x, limit_of(s->dtype));
}

Test(rows, agree_with_the_reference) {
    for (size_t i = 0; i < N_SHAPES; i++)
        each_device(run_rows, shapes[i]);
}
