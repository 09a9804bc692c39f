/* linear: the frozen weights of a product. */
#include "engine/ops/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cpu/primitives.h"

struct copy_run {
    struct cpu *c;
    struct linear *lin;
    const struct linear_part *part;
    int64_t first; /* row of lin where the part begins */
};

/* Copies rows of a part, by way of f32 where the types differ, and measures them. */
static void copy_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct copy_run *r = arg;
    struct cpu *c = r->c;
    int64_t in = r->lin->in, from = (int64_t)dtype_size(r->part->weight_dtype);
    int64_t to = (int64_t)dtype_size(r->lin->dtype);
    const char *src = (const char *)r->part->weight + first * in * from;
    char *dst = (char *)r->lin->weight + (r->first + first) * r->lin->stride * to;
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW, in);
    for (int64_t i = 0; i < count; i++, src += in * from, dst += r->lin->stride * to) {
        if (r->part->weight_dtype == r->lin->dtype)
            memcpy(dst, src, (size_t)(in * to));
        else
            cpu_narrow(c, r->lin->dtype, dst, cpu_widen(c, r->part->weight_dtype, src, in, buf),
                       in);
        r->lin->squares[r->first + first + i] =
            (float)c->k->sumsq(cpu_widen(c, r->lin->dtype, dst, in, buf), in);
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
    struct packed **out;
    void *tiled;
};

static struct operand plain_forward(const struct linear *lin, int part, int64_t i) {
    int64_t row = lin->first[part] + tiling_first(&lin->forward[part], i);
    int64_t size = (int64_t)dtype_size(lin->dtype);
    return (struct operand){.data = (const char *)lin->weight + row * lin->stride * size,
                            .dtype = lin->dtype,
                            .stride = lin->stride,
                            .transposed = true};
}

static struct operand plain_backward(const struct linear *lin, int64_t i) {
    int64_t size = (int64_t)dtype_size(lin->dtype);
    return (struct operand){.data =
                                (const char *)lin->weight + tiling_first(&lin->backward, i) * size,
                            .dtype = lin->dtype,
                            .stride = lin->stride};
}

static void pack_item(void *arg, int64_t item, int worker) {
    struct pack_run *r = arg;
    struct linear *lin = r->lin;
    if (r->part < 0)
        r->out[item] =
            primitives_pack(r->c, worker, r->c->tile_rows, tiling_count(&lin->backward, item),
                            lin->out, plain_backward(lin, item));
    else
        r->out[item] = primitives_pack(r->c, worker, r->c->tile_rows,
                                       tiling_count(&lin->forward[r->part], item), lin->in,
                                       plain_forward(lin, r->part, item));
}

/* A packed matrix for every tile, or NULL if there is one that cannot be packed. */
static struct packed **pack_tiles(struct cpu *c, struct linear *lin, int part, int64_t count) {
    struct pack_run r = {.c = c, .lin = lin, .part = part};
    r.out = xcalloc((size_t)count + 1, sizeof *r.out);
    bool all = true;
    team_run(c->team, count, pack_item, &r);
    for (int64_t i = 0; i < count; i++)
        all = all && r.out[i];
    if (all)
        return r.out;
    for (int64_t i = 0; i < count; i++)
        packed_free(r.out[i]);
    free(r.out);
    return NULL;
}

/* Packs what can be packed; the plain matrix is given up if nothing needs it any more. */
static void pack(struct cpu *c, struct linear *lin, bool forward_only) {
    bool all = true;
    for (int i = 0; i < lin->n_parts; i++) {
        lin->packed_forward[i] = pack_tiles(c, lin, i, lin->forward[i].count);
        all = all && lin->packed_forward[i];
    }
    if (!forward_only) {
        lin->packed_backward = pack_tiles(c, lin, -1, lin->backward.count);
        all = all && lin->packed_backward;
    }
    if (!all)
        return;
    cpu_mem_free(&c->base, lin->weight);
    lin->weight = NULL;
}

/* ---- packing for tiles.h -------------------------------------------------------------------- */

static void tile_item(void *arg, int64_t item, int worker) {
    const struct pack_run *r = arg;
    struct linear *lin = r->lin;
    const struct tiling *t = r->part < 0 ? &lin->backward : &lin->forward[r->part];
    int64_t k = r->part < 0 ? lin->out : lin->in, first = tiling_first(t, item);
    struct operand b = r->part < 0 ? plain_backward(lin, item) : plain_forward(lin, r->part, item);
    (void)worker;
    tile_pack(r->c, b, k, tiling_count(t, item), (char *)r->tiled + tile_packed_size(k, first));
}

/* The matrix in one direction; NULL where there is no memory for it. */
static void *tile_matrix(struct cpu *c, struct linear *lin, int part) {
    const struct tiling *t = part < 0 ? &lin->backward : &lin->forward[part];
    struct pack_run r = {.c = c, .lin = lin, .part = part};
    r.tiled = cpu_block_alloc(tile_packed_size(part < 0 ? lin->out : lin->in, t->n));
    if (r.tiled)
        team_run(c->team, t->count, tile_item, &r);
    return r.tiled;
}

/* As pack. */
static void pack_for_tiles(struct cpu *c, struct linear *lin, bool forward_only) {
    bool all = true;
    for (int i = 0; i < lin->n_parts; i++) {
        lin->tiled_forward[i] = tile_matrix(c, lin, i);
        all = all && lin->tiled_forward[i];
    }
    if (!forward_only) {
        lin->tiled_backward = tile_matrix(c, lin, -1);
        all = all && lin->tiled_backward;
    }
    if (!all)
        return;
    cpu_mem_free(&c->base, lin->weight);
    lin->weight = NULL;
}

/* Columns `first` … of a packed matrix whose shared dimension is k. */
static struct operand tiled(const void *matrix, int64_t k, int64_t first) {
    return (struct operand){.data = (const char *)matrix + tile_packed_size(k, first),
                            .dtype = DTYPE_BF16,
                            .stride = (int64_t)(tile_packed_size(k, 1) / sizeof(uint16_t)),
                            .tiled = true};
}

struct operand weight_forward(const struct linear *lin, int part, int64_t i) {
    if (lin->tiled_forward[part])
        return tiled(lin->tiled_forward[part], lin->in, tiling_first(&lin->forward[part], i));
    if (lin->packed_forward[part])
        return (struct operand){.dtype = lin->dtype, .packed = lin->packed_forward[part][i]};
    return plain_forward(lin, part, i);
}

struct operand weight_backward(const struct linear *lin, int64_t i) {
    if (lin->tiled_backward)
        return tiled(lin->tiled_backward, lin->out, tiling_first(&lin->backward, i));
    if (lin->packed_backward)
        return (struct operand){.dtype = lin->dtype, .packed = lin->packed_backward[i]};
    return plain_backward(lin, i);
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
        lin->forward[i] = tiling_make(spec->part[i].out, c->tile_cols, 64);
    }
    lin->out = lin->first[lin->n_parts];
    lin->backward = tiling_make(lin->in, c->tile_cols, 64);
    return lin;
}

enum err cpu_linear_new(struct device *dev, const struct linear_spec *spec, enum dtype dtype,
                        struct linear **out, struct err_msg *em) {
    struct cpu *c = cpu_of(dev);
    struct linear *lin = describe(c, spec, dtype);
    *out = NULL;
    size_t bytes;
    enum err e = ERR_NO_MEMORY;
    if (!mem_mul((size_t)lin->out, (size_t)lin->stride, &bytes) ||
        !mem_mul(bytes, dtype_size(dtype), &bytes))
        err_set(em, e, "a matrix of %lld x %lld elements does not fit in memory",
                (long long)lin->out, (long long)lin->in);
    else
        e = cpu_mem_alloc(dev, bytes, &lin->weight, em);
    if (e != ERR_OK) {
        free(lin);
        return e;
    }
    lin->squares = xcalloc((size_t)lin->out, sizeof *lin->squares);
    for (int i = 0; i < spec->n_parts; i++) {
        struct copy_run r = {c, lin, &spec->part[i], lin->first[i]};
        cpu_for_rows(c, spec->part[i].out, lin->in, copy_rows, &r);
    }
    copy_bias(lin, spec);
    if (c->tiles && dtype == DTYPE_BF16)
        pack_for_tiles(c, lin, spec->forward_only);
    else if (!c->tiles && (dtype == DTYPE_BF16 ? c->native_bf16 : c->pack_f32))
        pack(c, lin, spec->forward_only);
    *out = lin;
    return ERR_OK;
}

static void free_tiles(struct packed **tiles, int64_t count) {
    for (int64_t i = 0; tiles && i < count; i++)
        packed_free(tiles[i]);
    free(tiles);
}

void cpu_linear_free(struct device *dev, struct linear *lin) {
    if (!lin)
        return;
    for (int i = 0; i < lin->n_parts; i++) {
        free_tiles(lin->packed_forward[i], lin->forward[i].count);
        free(lin->tiled_forward[i]);
    }
    free(lin->tiled_backward);
    free_tiles(lin->packed_backward, lin->backward.count);
    cpu_mem_free(dev, lin->weight);
    free(lin->bias);
    free(lin->squares);
    free(lin);
}

struct operand adapter_operand(const struct cpu *c, const struct adapter_mem *ad, size_t offset,
                               int64_t stride, enum dtype with) {
    if (c->native_bf16 && with == DTYPE_BF16)
        return (struct operand){
            .data = (const uint16_t *)ad->work + offset, .dtype = DTYPE_BF16, .stride = stride};
    return operand_f32(ad->w + offset, stride);
}
