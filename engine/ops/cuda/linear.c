/* linear: frozen weights, and their product with LoRA's beside it.
 *
 *   forward   s = drop(x) Aᵀ             one product for A's that lie together
 *             y_i = scale · s_i B_iᵀ + residual_i
 *             y += x Wᵀ + bias
 *   backward  dS_i = scale · dy_i B_i
 *             dA += dSᵀ drop(x),  dB_i += scale · dy_iᵀ s_i       sums in f32
 *             dx = dS A, masked where there is dropout
 *             dx += dy W
 *
 * LoRA's products have a few columns to multiply: they take as long as memory does. So they come
 * first and only write; what they wrote the large product reads at its end, while other blocks of
 * it still multiply. The other way round they would read and write the large product's result. Of
 * a result in bf16, LoRA's part with the residual is rounded, then the sum: of the two parts the
 * small one. tests/bench/GPU.md has the bytes, and what else was considered.
 */
#include "engine/ops/cuda/linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/cuda.h"
#include "engine/ops/cuda/product.h"

/* ---- weights -------------------------------------------------------------------------------- */

/* Rows on 16 bytes, which the fast products need. */
static int64_t weight_stride(enum dtype dtype, int64_t in) {
    int64_t unit = 16 / (int64_t)dtype_size(dtype);
    return (in + unit - 1) / unit * unit;
}

static size_t round_up(size_t n) {
    return (n + 255) / 256 * 256;
}

enum err cuda_linear_room(struct device *dev, size_t bytes, struct err_msg *em) {
    struct cuda_room *room = &cuda_of(dev)->matrices;
    if (room->users > 0)
        return ERR_OK;
    cuda_mem_free(dev, room->p);
    *room = (struct cuda_room){0};
    enum err e = cuda_mem_alloc(dev, bytes, &room->p, em);
    room->size = e == ERR_OK ? bytes : 0;
    return e;
}

/* bytes: a multiple of what round_up rounds to. */
static enum err take(struct cuda *c, size_t bytes, void **out, struct err_msg *em) {
    struct cuda_room *room = &c->matrices;
    if (bytes > room->size - room->used)
        return cuda_mem_alloc(&c->base, bytes, out, em);
    *out = (char *)room->p + room->used;
    room->used += bytes;
    room->users++;
    return ERR_OK;
}

static void give_back(struct cuda *c, void *p) {
    struct cuda_room *room = &c->matrices;
    uintptr_t at = (uintptr_t)p, first = (uintptr_t)room->p;
    if (at < first || at >= first + room->size) {
        cuda_mem_free(&c->base, p);
        return;
    }
    if (--room->users > 0)
        return;
    cuda_mem_free(&c->base, room->p);
    *room = (struct cuda_room){0};
}

static size_t bias_bytes(int64_t out, enum dtype dtype) {
    return round_up((size_t)out * sizeof(float)) + round_up((size_t)out * dtype_size(dtype));
}

/* One block for the matrix, its rows' squares and both forms of the bias. */
static enum err place(struct cuda *c, struct linear *lin, bool biased, struct err_msg *em) {
    size_t matrix, floats = round_up((size_t)lin->out * sizeof(float));
    size_t rest = floats + (biased ? bias_bytes(lin->out, lin->weight.dtype) : 0), bytes;
    if (!mem_mul((size_t)lin->out, (size_t)lin->weight.stride, &matrix) ||
        !mem_mul(matrix, dtype_size(lin->weight.dtype), &matrix) ||
        !mem_add(matrix, 256 + rest, &bytes))
        return err_set(em, ERR_NO_MEMORY, "a matrix of %lld x %lld elements does not fit in memory",
                       (long long)lin->out, (long long)lin->in);
    matrix = round_up(matrix);
    enum err e = take(c, matrix + rest, &lin->weight.data, em);
    if (e != ERR_OK)
        return e;
    lin->squares = (float *)(void *)((char *)lin->weight.data + matrix);
    if (!biased)
        return ERR_OK;
    lin->bias = lin->squares + floats / sizeof(float);
    lin->bias_narrow = lin->bias + floats / sizeof(float);
    cuda_mem_zero(&c->base, lin->bias, floats);
    return ERR_OK;
}

/* Rows of a part by way of scratch memory, where they are converted; straight where nothing is to
 * convert. */
static void load_part(struct cuda *c, struct linear *lin, int i, const struct linear_part *part) {
    struct tensor to = tensor_rows(lin->weight, lin->first[i], part->out);
    size_t row = (size_t)lin->in * dtype_size(part->weight_dtype);
    if (part->weight_dtype == to.dtype && to.stride == lin->in) {
        cuda_upload(&c->base, to.data, part->weight, row * (size_t)part->out);
        return;
    }
    int64_t most = (int64_t)(PRODUCT_WORKSPACE / row) > 0 ? (int64_t)(PRODUCT_WORKSPACE / row) : 1;
    void *raw = cuda_scratch(c, SLOT_PRODUCT, row > PRODUCT_WORKSPACE ? row : PRODUCT_WORKSPACE);
    for (int64_t r = 0; raw && r < part->out; r += most) {
        int64_t n = part->out - r < most ? part->out - r : most;
        struct tensor from = {raw, part->weight_dtype, n, lin->in, lin->in};
        cuda_upload(&c->base, raw, (const char *)part->weight + (size_t)r * row, (size_t)n * row);
        cuda_convert(c, from, tensor_rows(to, r, n));
    }
}

static void load(struct cuda *c, struct linear *lin, const struct linear_spec *spec) {
    for (int i = 0; i < lin->n_parts; i++) {
        const struct linear_part *part = &spec->part[i];
        load_part(c, lin, i, part);
        if (part->bias)
            cuda_upload(&c->base, lin->bias + lin->first[i], part->bias,
                        (size_t)part->out * sizeof *part->bias);
    }
    cuda_row_squares(c, lin->weight, lin->squares);
    if (lin->bias) {
        struct tensor wide = {lin->bias, DTYPE_F32, 1, lin->out, lin->out};
        struct tensor narrow = {lin->bias_narrow, lin->weight.dtype, 1, lin->out, lin->out};
        cuda_convert(c, wide, narrow);
    }
}

size_t cuda_linear_bytes(struct device *dev, const struct linear_spec *spec, enum dtype dtype) {
    int64_t out = 0;
    bool biased = false;
    (void)dev;
    for (int i = 0; i < spec->n_parts; i++) {
        out += spec->part[i].out;
        biased = biased || spec->part[i].bias;
    }
    size_t n = (size_t)out;
    return round_up(n * (size_t)weight_stride(dtype, spec->in) * dtype_size(dtype)) +
           round_up(n * sizeof(float)) + (biased ? bias_bytes(out, dtype) : 0);
}

enum err cuda_linear_new(struct device *dev, const struct linear_spec *spec, enum dtype dtype,
                         struct linear **out, struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    struct linear *lin = xcalloc(1, sizeof *lin);
    bool biased = false;
    *out = NULL;
    lin->in = spec->in;
    lin->n_parts = spec->n_parts;
    for (int i = 0; i < spec->n_parts; i++) {
        lin->first[i + 1] = lin->first[i] + spec->part[i].out;
        biased = biased || spec->part[i].bias;
    }
    lin->out = lin->first[lin->n_parts];
    lin->weight = (struct tensor){NULL, dtype, lin->out, lin->in, weight_stride(dtype, lin->in)};
    enum err e = place(c, lin, biased, em);
    if (e == ERR_OK) {
        load(c, lin, spec);
        e = cuda_fault_return(c, em);
    }
    if (e != ERR_OK) {
        cuda_linear_free(dev, lin);
        return e;
    }
    *out = lin;
    return ERR_OK;
}

void cuda_linear_free(struct device *dev, struct linear *lin) {
    if (!lin)
        return;
    give_back(cuda_of(dev), lin->weight.data);
    free(lin);
}

/* ---- LoRA ----------------------------------------------------------------------------------- */

struct tensor cuda_adapter_matrix(const struct adapter_mem *ad, size_t offset, int64_t rows,
                                  int64_t cols, enum dtype with) {
    struct tensor t = {ad->w + offset, DTYPE_F32, rows, cols, cols};
    if (with == DTYPE_BF16) {
        t.data = (char *)ad->work + offset * dtype_size(with);
        t.dtype = with;
    }
    return t;
}

static struct tensor gradient_matrix(const struct adapter_mem *ad, size_t offset, int64_t rows,
                                     int64_t cols) {
    return (struct tensor){ad->g + offset, DTYPE_F32, rows, cols, cols};
}

/* drop(x), which is x itself without dropout. data NULL after a fault. */
static struct tensor dropped(struct cuda *c, const struct dropout *drop, const struct batch *b,
                             struct tensor x) {
    if (!drop || !(drop->p > 0.0f))
        return x;
    struct tensor to = {NULL, x.dtype, x.rows, x.cols, x.cols};
    to.data = cuda_scratch(c, SLOT_DROPPED, (size_t)(x.rows * x.cols) * dtype_size(x.dtype));
    if (to.data)
        cuda_dropout(c, drop, b, x, to);
    return to;
}

/* d = alpha · op(a) op(b) + plus, which may be d itself, or NULL. */
static void multiply(struct cuda *c, struct tensor a, bool a_transposed, struct tensor b,
                     bool b_transposed, float alpha, const struct tensor *plus, struct tensor d) {
    struct product p = {.m = d.rows,
                        .n = d.cols,
                        .k = a_transposed ? a.rows : a.cols,
                        .a = factor_of(a, a_transposed),
                        .b = factor_of(b, b_transposed),
                        .alpha = alpha,
                        .c = plus,
                        .d = d};
    product_run(c, &p);
}

/* ---- forward -------------------------------------------------------------------------------- */

static void shrink(struct cuda *c, const struct lora_plan *plan, const struct adapter_mem *ad,
                   struct tensor xd, struct tensor s) {
    for (int g = 0; g < plan->n_groups; g++) {
        const struct lora_group *group = &plan->group[g];
        multiply(c, xd, false,
                 cuda_adapter_matrix(ad, group->offset, group->rank, xd.cols, xd.dtype), true, 1.0f,
                 NULL, tensor_columns(s, group->first, group->rank));
    }
}

/* y_i of a part without LoRA, before the large product is added: the residual, or nothing. */
static void begin_plain(struct cuda *c, const struct tensor *residual, struct tensor y) {
    size_t size = dtype_size(y.dtype);
    if (residual)
        cuda_convert(c, *residual, y);
    else if (c->fault.code == ERR_OK && y.rows > 0)
        cuda_check(c,
                   cudaMemset2DAsync(y.data, (size_t)y.stride * size, 0, (size_t)y.cols * size,
                                     (size_t)y.rows, c->stream),
                   "cudaMemset2DAsync");
}

/* y = residual + LoRA, part by part. */
static void begin_parts(struct cuda *c, const struct linear *lin, const struct lora *lora,
                        const struct lora_plan *plan, const struct adapter_mem *ad, struct tensor s,
                        const struct tensor *residual, struct tensor y) {
    for (int i = 0; i < lin->n_parts; i++) {
        int64_t rank = lora->rank[i], out = lin->first[i + 1] - lin->first[i];
        struct tensor y_i = tensor_columns(y, lin->first[i], out), residual_i;
        if (residual)
            residual_i = tensor_columns(*residual, lin->first[i], out);
        if (rank > 0)
            multiply(c, tensor_columns(s, plan->first[i], rank), false,
                     cuda_adapter_matrix(ad, lora->b[i], out, rank, s.dtype), true, lora->scale,
                     residual ? &residual_i : NULL, y_i);
        else
            begin_plain(c, residual ? &residual_i : NULL, y_i);
    }
}

void cuda_linear_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                         const struct adapter_mem *ad, const struct dropout *drop,
                         const struct batch *b, struct tensor x, const struct tensor *residual,
                         struct tensor y, struct tensor s) {
    struct cuda *c = cuda_of(dev);
    struct lora_plan plan = lora_plan_make(lora, lin->n_parts, lin->in);
    struct product base = {.m = x.rows,
                           .n = lin->out,
                           .k = lin->in,
                           .a = factor_of(x, false),
                           .b = factor_of(lin->weight, true),
                           .alpha = 1.0f,
                           .c = plan.rank > 0 ? &y : residual,
                           .bias = linear_bias(lin, y.dtype),
                           .d = y};
    if (plan.rank > 0) {
        product_plan(c, &base);
        shrink(c, &plan, ad, dropped(c, drop, b, x), s);
        begin_parts(c, lin, lora, &plan, ad, s, residual, y);
    }
    product_run(c, &base);
}

/* ---- backward ------------------------------------------------------------------------------- */

struct backward {
    struct cuda *c;
    const struct linear *lin;
    const struct lora *lora;
    const struct adapter_mem *ad;
    struct lora_plan plan;
    struct tensor dy, ds;
};

/* dS, and dB from the s that the forward pass kept. */
static void part_gradients(const struct backward *r, struct tensor s) {
    for (int i = 0; i < r->lin->n_parts; i++) {
        int64_t rank = r->lora->rank[i], out = r->lin->first[i + 1] - r->lin->first[i];
        struct tensor dy = tensor_columns(r->dy, r->lin->first[i], out);
        struct tensor b = cuda_adapter_matrix(r->ad, r->lora->b[i], out, rank, dy.dtype);
        struct tensor db = gradient_matrix(r->ad, r->lora->b[i], out, rank);
        multiply(r->c, dy, false, b, false, r->lora->scale, NULL,
                 tensor_columns(r->ds, r->plan.first[i], rank));
        multiply(r->c, dy, true, tensor_columns(s, r->plan.first[i], rank), false, r->lora->scale,
                 &db, db);
    }
}

static void a_gradients(const struct backward *r, struct tensor xd) {
    for (int g = 0; g < r->plan.n_groups; g++) {
        const struct lora_group *group = &r->plan.group[g];
        struct tensor da = gradient_matrix(r->ad, group->offset, group->rank, xd.cols);
        multiply(r->c, tensor_columns(r->ds, group->first, group->rank), true, xd, false, 1.0f, &da,
                 da);
    }
}

/* to = dS A */
static void expand(const struct backward *r, struct tensor to) {
    for (int g = 0; g < r->plan.n_groups; g++) {
        const struct lora_group *group = &r->plan.group[g];
        multiply(r->c, tensor_columns(r->ds, group->first, group->rank), false,
                 cuda_adapter_matrix(r->ad, group->offset, group->rank, to.cols, r->ds.dtype),
                 false, 1.0f, g > 0 ? &to : NULL, to);
    }
}

/* LoRA's part: dA, dB, and dx where it is wanted. xd's memory is used again for dx before its mask,
 * once dA has been made from it. */
static void lora_backward(const struct backward *r, const struct dropout *drop,
                          const struct batch *b, struct tensor x, struct tensor s,
                          const struct tensor *dx) {
    struct tensor xd = dropped(r->c, drop, b, x);
    if (!xd.data)
        return;
    part_gradients(r, s);
    a_gradients(r, xd);
    if (!dx)
        return;
    bool masked = xd.data != x.data;
    expand(r, masked ? xd : *dx);
    if (masked)
        cuda_dropout(r->c, drop, b, xd, *dx);
}

void cuda_linear_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                          const struct adapter_mem *ad, const struct dropout *drop,
                          const struct batch *b, struct tensor dy, struct tensor x, struct tensor s,
                          const struct tensor *dx) {
    struct backward r = {.c = cuda_of(dev),
                         .lin = lin,
                         .lora = lora,
                         .ad = ad,
                         .plan = lora_plan_make(lora, lin->n_parts, lin->in),
                         .dy = dy};
    struct product base = {.m = dy.rows,
                           .n = lin->in,
                           .k = lin->out,
                           .a = factor_of(dy, false),
                           .b = factor_of(lin->weight, false),
                           .alpha = 1.0f,
                           .c = r.plan.rank > 0 ? dx : NULL};
    if (dx) {
        base.d = *dx;
        product_plan(r.c, &base);
    }
    if (r.plan.rank > 0) {
        r.ds = (struct tensor){NULL, dy.dtype, dy.rows, r.plan.rank, r.plan.rank};
        r.ds.data =
            cuda_scratch(r.c, SLOT_SHRUNK, (size_t)(dy.rows * r.plan.rank) * dtype_size(dy.dtype));
        if (r.ds.data)
            lora_backward(&r, drop, b, x, s, dx);
    }
    if (dx)
        product_run(r.c, &base);
}
