/* rows: operations that work on each row by itself: embedding, norms, rotation, activations,
 * gather and scatter. */
#include <string.h>

#include "engine/ops/cpu/cpu.h"

struct rows_args {
    struct cpu *c;
    struct tensor a, b, d;
    const struct batch *batch;
    const int32_t *rows;
    const struct norm *norm;
    const struct rope *rope;
    const struct act *act;
    float *stats;
    const float *stats_in;
    float scale;
    int32_t n_heads, head_dim;
};

/* A row that an operation writes: the memory itself if it is f32, else buf. */
static float *writable(struct tensor t, int64_t row, float *buf) {
    return t.dtype == DTYPE_F32 ? row_at(t, row) : buf;
}

static void write_row(const struct rows_args *r, int64_t row, const float *x, int64_t n) {
    cpu_write(r->c, r->d, row_at(r->d, row), x, n);
}

static void embed_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    struct cpu *c = r->c;
    int64_t n = r->d.cols;
    float *in = cpu_scratch_f32(c, worker, SLOT_ROW, n);
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW_2, n);
    for (int64_t i = first; i < first + count; i++) {
        const float *src = cpu_widen(c, r->a.dtype, row_at(r->a, r->batch->ids[i]), n, in);
        float *dst = writable(r->d, i, buf);
        c->k->scale(dst, src, r->scale, n);
        write_row(r, i, dst, n);
    }
}

void cpu_embed(struct device *dev, struct tensor table, const struct batch *b, float scale,
               struct tensor x) {
    struct rows_args r = {.c = cpu_of(dev), .a = table, .batch = b, .scale = scale, .d = x};
    cpu_for_rows(r.c, x.rows, x.cols, embed_rows, &r);
}

static void norm_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    struct cpu *c = r->c;
    int64_t n = r->a.cols;
    float *in = cpu_scratch_f32(c, worker, SLOT_ROW, n);
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW_2, n);
    for (int64_t i = first; i < first + count; i++) {
        const float *x = cpu_widen(c, r->a.dtype, row_at(r->a, i), n, in);
        if (r->stats)
            c->k->norm_stats(r->norm->kind, r->norm->eps, x, n, r->stats + 2 * i);
        float *y = writable(r->d, i, buf);
        c->k->norm_apply(x, r->stats_in + 2 * i, r->norm->weight, r->norm->bias, n, y);
        write_row(r, i, y, n);
    }
}

void cpu_norm_forward(struct device *dev, const struct norm *n, struct tensor x, struct tensor y,
                      float *stats) {
    struct rows_args r = {
        .c = cpu_of(dev), .norm = n, .a = x, .d = y, .stats = stats, .stats_in = stats};
    cpu_for_rows(r.c, x.rows, x.cols, norm_rows, &r);
}

void cpu_norm_apply(struct device *dev, const struct norm *n, struct tensor x, const float *stats,
                    struct tensor y) {
    struct rows_args r = {.c = cpu_of(dev), .norm = n, .a = x, .d = y, .stats_in = stats};
    cpu_for_rows(r.c, x.rows, x.cols, norm_rows, &r);
}

static void norm_backward_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    struct cpu *c = r->c;
    int64_t n = r->a.cols;
    float *xbuf = cpu_scratch_f32(c, worker, SLOT_ROW, n);
    float *dybuf = cpu_scratch_f32(c, worker, SLOT_ROW_2, n);
    float *dxbuf = cpu_scratch_f32(c, worker, SLOT_ROW_3, n);
    for (int64_t i = first; i < first + count; i++) {
        const float *x = cpu_widen(c, r->a.dtype, row_at(r->a, i), n, xbuf);
        const float *dy = cpu_widen(c, r->b.dtype, row_at(r->b, i), n, dybuf);
        float *dx = writable(r->d, i, dxbuf);
        cpu_widen(c, r->d.dtype, row_at(r->d, i), n, dxbuf);
        c->k->norm_backward(r->norm->kind, dy, x, r->stats_in + 2 * i, r->norm->weight, n, dx);
        write_row(r, i, dx, n);
    }
}

void cpu_norm_backward(struct device *dev, const struct norm *n, struct tensor dy, struct tensor x,
                       const float *stats, struct tensor dx) {
    struct rows_args r = {.c = cpu_of(dev), .norm = n, .a = x, .b = dy, .d = dx, .stats_in = stats};
    cpu_for_rows(r.c, x.rows, x.cols, norm_backward_rows, &r);
}

static void rope_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    struct cpu *c = r->c;
    int64_t half = r->rope->dim / 2, n = (int64_t)r->n_heads * r->head_dim;
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW, n);
    for (int64_t i = first; i < first + count; i++) {
        float *x = writable(r->d, i, buf);
        cpu_widen(c, r->d.dtype, row_at(r->d, i), n, buf);
        int64_t at = r->batch->pos[i] * half;
        for (int32_t h = 0; h < r->n_heads; h++)
            c->k->rotate(x + (int64_t)h * r->head_dim, r->rope->cos + at, r->rope->sin + at,
                         r->scale, half);
        write_row(r, i, x, n);
    }
}

void cpu_rope(struct device *dev, const struct rope *rope, const struct batch *b, int32_t n_heads,
              int32_t head_dim, bool inverse, struct tensor x) {
    struct rows_args r = {.c = cpu_of(dev),
                          .rope = rope,
                          .batch = b,
                          .n_heads = n_heads,
                          .head_dim = head_dim,
                          .scale = inverse ? -1.0f : 1.0f,
                          .d = x};
    cpu_for_rows(r.c, x.rows, x.cols, rope_rows, &r);
}

static void act_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    struct cpu *c = r->c;
    int64_t n = r->d.cols, width = r->act->gated ? 2 * n : n;
    float *in = cpu_scratch_f32(c, worker, SLOT_ROW, width);
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW_2, n);
    for (int64_t i = first; i < first + count; i++) {
        const float *x = cpu_widen(c, r->a.dtype, row_at(r->a, i), width, in);
        float *y = writable(r->d, i, buf);
        c->k->act_forward(r->act->kind, x, r->act->gated ? x + n : NULL, n, y);
        write_row(r, i, y, n);
    }
}

void cpu_act_forward(struct device *dev, const struct act *a, struct tensor in, struct tensor out) {
    struct rows_args r = {.c = cpu_of(dev), .act = a, .a = in, .d = out};
    cpu_for_rows(r.c, out.rows, in.cols, act_rows, &r);
}

static void act_backward_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    struct cpu *c = r->c;
    int64_t n = r->b.cols, width = r->act->gated ? 2 * n : n;
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW, width);
    float *dbuf = cpu_scratch_f32(c, worker, SLOT_ROW_2, n);
    for (int64_t i = first; i < first + count; i++) {
        const float *dout = cpu_widen(c, r->b.dtype, row_at(r->b, i), n, dbuf);
        float *x = writable(r->d, i, buf);
        cpu_widen(c, r->d.dtype, row_at(r->d, i), width, buf);
        c->k->act_backward(r->act->kind, dout, n, x, r->act->gated ? x + n : NULL);
        write_row(r, i, x, width);
    }
}

void cpu_act_backward(struct device *dev, const struct act *a, struct tensor dout,
                      struct tensor in) {
    struct rows_args r = {.c = cpu_of(dev), .act = a, .b = dout, .d = in};
    cpu_for_rows(r.c, dout.rows, in.cols, act_backward_rows, &r);
}

static void copy_row(struct cpu *c, int worker, struct tensor from, int64_t from_row,
                     struct tensor to, int64_t to_row) {
    int64_t n = to.cols;
    if (from.dtype == to.dtype) {
        memcpy(row_at(to, to_row), row_at(from, from_row), (size_t)n * dtype_size(to.dtype));
        return;
    }
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW, n);
    const float *src = cpu_widen(c, from.dtype, row_at(from, from_row), n, buf);
    cpu_narrow(c, to.dtype, row_at(to, to_row), src, n);
}

static void gather_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    for (int64_t i = first; i < first + count; i++)
        copy_row(r->c, worker, r->a, r->rows[i], r->d, i);
}

void cpu_rows_gather(struct device *dev, struct tensor x, const int32_t *rows, struct tensor out) {
    struct rows_args r = {.c = cpu_of(dev), .a = x, .rows = rows, .d = out};
    cpu_for_rows(r.c, out.rows, out.cols, gather_rows, &r);
}

static void zero_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    (void)worker;
    for (int64_t i = first; i < first + count; i++)
        memset(row_at(r->d, i), 0, (size_t)r->d.cols * dtype_size(r->d.dtype));
}

static void scatter_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct rows_args *r = arg;
    for (int64_t i = first; i < first + count; i++)
        copy_row(r->c, worker, r->a, i, r->d, r->rows[i]);
}

void cpu_rows_scatter(struct device *dev, struct tensor dout, const int32_t *rows,
                      struct tensor dx) {
    struct rows_args r = {.c = cpu_of(dev), .a = dout, .rows = rows, .d = dx};
    cpu_for_rows(r.c, dx.rows, dx.cols, zero_rows, &r);
    cpu_for_rows(r.c, dout.rows, dout.cols, scatter_rows, &r);
}
