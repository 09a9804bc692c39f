/* linear: the frozen weights of a product. */
#include "engine/ops/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct copy_run {
    struct cpu *c;
    struct linear *lin;
    const struct linear_part *part;
    int64_t first; /* row of lin where the part begins */
};

static void copy_row(const struct copy_run *r, const void *src, void *dst, float *buf) {
    const struct linear *lin = r->lin;
    enum dtype from = r->part->weight_dtype;
    if (from == lin->dtype)
        memcpy(dst, src, (size_t)lin->in * dtype_size(from));
    else
        cpu_narrow(r->c, lin->dtype, dst, cpu_widen(r->c, from, src, lin->in, buf), lin->in);
}

/* Copies rows of a part, by way of f32 where the types differ, and measures them; a borrowed matrix
 * is measured only. */
static void copy_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct copy_run *r = arg;
    struct linear *lin = r->lin;
    int64_t from = lin->in * (int64_t)dtype_size(r->part->weight_dtype);
    int64_t to = lin->stride * (int64_t)dtype_size(lin->dtype);
    float *buf = cpu_scratch_f32(r->c, worker, SLOT_ROW, lin->in);
    for (int64_t i = first; i < first + count; i++) {
        char *dst = (char *)lin->weight + (r->first + i) * to;
        if (!lin->borrowed)
            copy_row(r, (const char *)r->part->weight + i * from, dst, buf);
        const float *row = cpu_widen(r->c, lin->dtype, dst, lin->in, buf);
        lin->squares[r->first + i] = (float)r->c->k->sumsq(row, lin->in);
    }
}

static void copy_parts(struct cpu *c, struct linear *lin, const struct linear_spec *spec) {
    for (int i = 0; i < spec->n_parts; i++) {
        struct copy_run r = {c, lin, &spec->part[i], lin->first[i]};
        cpu_for_rows(c, spec->part[i].out, lin->in, copy_rows, &r);
    }
}

static void copy_bias(struct linear *lin, const struct linear_spec *spec) {
    for (int i = 0; i < lin->n_parts; i++) {
        const struct linear_part *p = &spec->part[i];
        if (!p->bias)
            continue;
        if (!lin->bias)
            lin->bias = xcalloc((size_t)lin->out, sizeof *lin->bias);
        memcpy(lin->bias + lin->first[i], p->bias, (size_t)p->out * sizeof *p->bias);
    }
}

/* ---- packing -------------------------------------------------------------------------------- */

struct pack_run {
    struct cpu *c;
    struct linear *lin;
    int part; /* -1: the backward pass */
    void *packed;
};

static struct operand plain_forward(const struct linear *lin, int part, int64_t col) {
    int64_t row = lin->first[part] + col;
    int64_t size = (int64_t)dtype_size(lin->dtype);
    return (struct operand){.data = (const char *)lin->weight + row * lin->stride * size,
                            .dtype = lin->dtype,
                            .stride = lin->stride,
                            .transposed = true};
}

static struct operand plain_backward(const struct linear *lin, int64_t col) {
    int64_t size = (int64_t)dtype_size(lin->dtype);
    return (struct operand){
        .data = (const char *)lin->weight + col * size, .dtype = lin->dtype, .stride = lin->stride};
}

static const struct tiling *pack_tiling(const struct pack_run *r) {
    return r->part < 0 ? &r->lin->backward : &r->lin->forward[r->part];
}

/* The plain matrix from a column of the direction that is packed on, and its shared dimension. */
static struct operand pack_source(const struct pack_run *r, int64_t col, int64_t *k) {
    *k = r->part < 0 ? r->lin->out : r->lin->in;
    return r->part < 0 ? plain_backward(r->lin, col) : plain_forward(r->lin, r->part, col);
}

static void drop_plain(struct linear *lin) {
    if (!lin->borrowed)
        free(lin->weight);
    lin->weight = NULL;
    lin->borrowed = false;
}

static void pack_item(void *arg, int64_t item, int worker) {
    const struct pack_run *r = arg;
    const struct tiling *t = pack_tiling(r);
    int64_t first = tiling_first(t, item), k;
    struct operand b = pack_source(r, first, &k);
    (void)worker;
    tile_pack(r->c, b, k, tiling_count(t, item), (char *)r->packed + tile_packed_size(k, first));
}

/* The matrix in one direction; NULL where there is no memory for it. */
static void *pack_matrix(struct cpu *c, struct linear *lin, int part) {
    const struct tiling *t = part < 0 ? &lin->backward : &lin->forward[part];
    struct pack_run r = {.c = c, .lin = lin, .part = part};
    r.packed = cpu_block_alloc(tile_packed_size(part < 0 ? lin->out : lin->in, t->n));
    if (r.packed)
        team_run(c->team, t->count, pack_item, &r);
    return r.packed;
}

/* Packs both directions; the plain matrix is given up if nothing needs it any more. */
static void pack(struct cpu *c, struct linear *lin, bool forward_only) {
    bool all = true;
    for (int i = 0; i < lin->n_parts; i++) {
        lin->packed_forward[i] = pack_matrix(c, lin, i);
        all = all && lin->packed_forward[i];
    }
    if (!forward_only) {
        lin->packed_backward = pack_matrix(c, lin, -1);
        all = all && lin->packed_backward;
    }
    if (all)
        drop_plain(lin);
}

/* Columns `first` … of a packed matrix whose shared dimension is k. */
static struct operand packed(const void *matrix, int64_t k, int64_t first) {
    return (struct operand){.data = (const char *)matrix + tile_packed_size(k, first),
                            .dtype = DTYPE_BF16,
                            .stride = (int64_t)(tile_packed_size(k, 1) / sizeof(uint16_t)),
                            .packed = true};
}

struct operand weight_forward(const struct linear *lin, int part, int64_t col) {
    if (lin->packed_forward[part])
        return packed(lin->packed_forward[part], lin->in, col);
    return plain_forward(lin, part, col);
}

struct operand weight_backward(const struct linear *lin, int64_t col) {
    if (lin->packed_backward)
        return packed(lin->packed_backward, lin->out, col);
    return plain_backward(lin, col);
}

/* ---- making --------------------------------------------------------------------------------- */

static struct linear *describe(const struct cpu *c, const struct linear_spec *spec,
                               enum dtype dtype) {
    struct linear *lin = xcalloc(1, sizeof *lin);
    lin->in = spec->in;
    lin->n_parts = spec->n_parts;
    lin->dtype = dtype;
    lin->stride = tensor_stride(dtype, spec->in);
    for (int i = 0; i < spec->n_parts; i++) {
        lin->first[i + 1] = lin->first[i] + spec->part[i].out;
        lin->forward[i] = tiling_make(spec->part[i].out, c->choice->tile_cols, 64);
    }
    lin->out = lin->first[lin->n_parts];
    lin->backward = tiling_make(lin->in, c->choice->tile_cols, 64);
    return lin;
}

/* Memory for the plain matrix, and the matrix in it. */
static enum err copy_plain(struct cpu *c, struct linear *lin, const struct linear_spec *spec,
                           struct err_msg *em) {
    size_t bytes;
    lin->borrowed = false;
    lin->stride = tensor_stride(lin->dtype, lin->in);
    if (!mem_mul((size_t)lin->out, (size_t)lin->stride, &bytes) ||
        !mem_mul(bytes, dtype_size(lin->dtype), &bytes))
        return err_set(em, ERR_NO_MEMORY, "a matrix of %lld x %lld elements does not fit in memory",
                       (long long)lin->out, (long long)lin->in);
    enum err e = cpu_mem_alloc(&c->base, bytes, &lin->weight, em);
    if (e == ERR_OK)
        copy_parts(c, lin, spec);
    return e;
}

/* Whether the matrix lies in the caller's memory as one and in the right type. */
static bool lies_ready(const struct linear_spec *spec, enum dtype dtype) {
    return spec->n_parts == 1 && spec->part[0].weight_dtype == dtype;
}

static void borrow(struct cpu *c, struct linear *lin, const struct linear_spec *spec) {
    lin->borrowed = true;
    lin->weight = (void *)(uintptr_t)spec->part[0].weight;
    lin->stride = lin->in;
    copy_parts(c, lin, spec);
}

/* Packed straight from where the matrix lies, where it lies ready; else from a copy. */
static enum err make_packed(struct cpu *c, struct linear *lin, const struct linear_spec *spec,
                            struct err_msg *em) {
    enum err e = ERR_OK;
    if (lies_ready(spec, lin->dtype))
        borrow(c, lin, spec);
    else
        e = copy_plain(c, lin, spec, em);
    if (e == ERR_OK)
        pack(c, lin, spec->forward_only);
    return e == ERR_OK && lin->borrowed ? copy_plain(c, lin, spec, em) : e;
}

static enum err make_plain(struct cpu *c, struct linear *lin, const struct linear_spec *spec,
                           struct err_msg *em) {
    if (!spec->stays || !lies_ready(spec, lin->dtype))
        return copy_plain(c, lin, spec, em);
    borrow(c, lin, spec);
    return ERR_OK;
}

static bool packs(const struct cpu *c, enum dtype dtype) {
    return dtype == DTYPE_BF16 && tiles_hold_bf16(c->choice->tiles);
}

enum err cpu_linear_new(struct device *dev, const struct linear_spec *spec, enum dtype dtype,
                        struct linear **out, struct err_msg *em) {
    struct cpu *c = cpu_of(dev);
    struct linear *lin = describe(c, spec, dtype);
    *out = NULL;
    lin->squares = xcalloc((size_t)lin->out, sizeof *lin->squares);
    copy_bias(lin, spec);
    enum err e = packs(c, dtype) ? make_packed(c, lin, spec, em) : make_plain(c, lin, spec, em);
    if (e != ERR_OK) {
        cpu_linear_free(dev, lin);
        return e;
    }
    *out = lin;
    return ERR_OK;
}

void cpu_linear_free(struct device *dev, struct linear *lin) {
    (void)dev;
    if (!lin)
        return;
    for (int i = 0; i < lin->n_parts; i++)
        free(lin->packed_forward[i]);
    free(lin->packed_backward);
    drop_plain(lin);
    free(lin->bias);
    free(lin->squares);
    free(lin);
}

/* ---- counting ------------------------------------------------------------------------------- */

/* Pages are the system's to find: one piece has no merit here. */
enum err cpu_linear_room(struct device *dev, size_t bytes, struct err_msg *em) {
    (void)dev, (void)bytes, (void)em;
    return ERR_OK;
}

size_t cpu_linear_bytes(struct device *dev, const struct linear_spec *spec, enum dtype dtype) {
    struct cpu *c = cpu_of(dev);
    struct linear *lin = describe(c, spec, dtype);
    size_t bytes = (size_t)lin->out * sizeof *lin->squares;
    for (int i = 0; packs(c, dtype) && i < lin->n_parts; i++)
        bytes += tile_packed_size(lin->in, lin->forward[i].n);
    if (packs(c, dtype) && !spec->forward_only)
        bytes += tile_packed_size(lin->out, lin->in);
    if (!packs(c, dtype) && (!spec->stays || !lies_ready(spec, dtype)))
        bytes += (size_t)lin->out * (size_t)lin->stride * dtype_size(dtype);
    free(lin);
    return bytes;
}

struct operand adapter_operand(const struct cpu *c, const struct adapter_mem *ad, size_t offset,
                               int64_t stride, enum dtype with) {
    if (c->choice->native_bf16 && with == DTYPE_BF16)
        return (struct operand){
            .data = (const uint16_t *)ad->work + offset, .dtype = DTYPE_BF16, .stride = stride};
    return operand_f32(ad->w + offset, stride);
}
