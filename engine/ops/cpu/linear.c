/* linear: the frozen weights of a product. */
#include "engine/ops/cpu/linear.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct copy_run {
    const struct cpu *c;
    struct linear *lin;
    const struct linear_part *part;
    int64_t first; /* row of lin where the part begins */
};

/* Converts rows of a part, by way of f32 where the types differ. */
static void copy_rows(void *arg, int64_t first, int64_t count, int worker) {
    struct copy_run *r = arg;
    struct cpu *c = (struct cpu *)(uintptr_t)r->c;
    int64_t in = r->lin->in, from = (int64_t)dtype_size(r->part->weight_dtype);
    int64_t to = (int64_t)dtype_size(r->lin->dtype);
    const char *src = (const char *)r->part->weight + first * in * from;
    char *dst = (char *)r->lin->weight + (r->first + first) * in * to;
    if (r->part->weight_dtype == r->lin->dtype) {
        memcpy(dst, src, (size_t)(count * in * to));
        return;
    }
    float *buf = cpu_scratch_f32(c, worker, SLOT_ROW, in);
    for (int64_t i = 0; i < count; i++) {
        const float *row = cpu_widen(c, r->part->weight_dtype, src + i * in * from, in, buf);
        cpu_narrow(c, r->lin->dtype, dst + i * in * to, row, in);
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

enum err cpu_linear_new(struct device *dev, const struct linear_spec *spec, enum dtype dtype,
                        struct linear **out, struct err_msg *em) {
    struct cpu *c = cpu_of(dev);
    struct linear *lin = xcalloc(1, sizeof *lin);
    *out = NULL;
    lin->in = spec->in;
    lin->n_parts = spec->n_parts;
    lin->dtype = dtype;
    for (int i = 0; i < spec->n_parts; i++)
        lin->first[i + 1] = lin->first[i] + spec->part[i].out;
    lin->out = lin->first[lin->n_parts];
    size_t bytes;
    enum err e = ERR_NO_MEMORY;
    if (!mem_mul((size_t)lin->out, (size_t)lin->in, &bytes) ||
        !mem_mul(bytes, dtype_size(dtype), &bytes))
        err_set(em, e, "a matrix of %lld x %lld elements does not fit in memory",
                (long long)lin->out, (long long)lin->in);
    else
        e = cpu_mem_alloc(dev, bytes, &lin->weight, em);
    if (e != ERR_OK) {
        free(lin);
        return e;
    }
    for (int i = 0; i < spec->n_parts; i++) {
        struct copy_run r = {c, lin, &spec->part[i], lin->first[i]};
        cpu_for_rows(c, spec->part[i].out, lin->in, copy_rows, &r);
    }
    copy_bias(lin, spec);
    *out = lin;
    return ERR_OK;
}

void cpu_linear_free(struct device *dev, struct linear *lin) {
    if (!lin)
        return;
    cpu_mem_free(dev, lin->weight);
    free(lin->bias);
    free(lin);
}

struct lora_plan lora_plan_make(const struct linear *lin, const struct lora *lora) {
    struct lora_plan p = {0};
    for (int i = 0; lora && i < lin->n_parts; i++) {
        p.first[i] = p.rank;
        if (lora->rank[i] == 0)
            continue;
        struct lora_group *last = p.n_groups > 0 ? &p.group[p.n_groups - 1] : NULL;
        if (last && last->offset + (size_t)(last->rank * lin->in) == lora->a[i])
            last->rank += lora->rank[i];
        else
            p.group[p.n_groups++] = (struct lora_group){p.rank, lora->rank[i], lora->a[i]};
        p.rank += lora->rank[i];
    }
    return p;
}

struct operand adapter_operand(const struct cpu *c, const struct adapter_mem *ad, size_t offset,
                               int64_t stride, enum dtype with) {
    if (c->bf16 && with == DTYPE_BF16)
        return (struct operand){(const uint16_t *)ad->work + offset, DTYPE_BF16, stride, false};
    return (struct operand){ad->w + offset, DTYPE_F32, stride, false};
}
