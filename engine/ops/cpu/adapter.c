/* adapter: the LoRA weights' buffers and their arithmetic. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cpu/cpu.h"

/* Elements of a block: sums are folded block by block, in order. */
#define BLOCK 16384

enum err cpu_adapter_alloc(struct device *dev, size_t n, enum dtype dtype, struct adapter_mem *out,
                           struct err_msg *em) {
    struct cpu *c = cpu_of(dev);
    size_t bytes;
    void *w = NULL, *g = NULL;
    memset(out, 0, sizeof *out);
    if (!mem_mul(n, sizeof(float), &bytes))
        return err_set(em, ERR_NO_MEMORY, "an adapter of %zu weights does not fit in memory", n);
    enum err e = cpu_mem_alloc(dev, bytes, &w, em);
    if (e == ERR_OK)
        e = cpu_mem_alloc(dev, bytes, &g, em);
    if (e == ERR_OK && dtype == DTYPE_BF16 && c->choice->native_bf16)
        e = cpu_mem_alloc(dev, bytes / 2, &out->work, em);
    if (e != ERR_OK) {
        cpu_mem_free(dev, w);
        cpu_mem_free(dev, g);
        return e;
    }
    memset(w, 0, bytes);
    memset(g, 0, bytes);
    if (out->work)
        memset(out->work, 0, bytes / 2);
    out->n = n;
    out->w = w;
    out->g = g;
    return ERR_OK;
}

void cpu_adapter_free(struct device *dev, struct adapter_mem *ad) {
    cpu_mem_free(dev, ad->w);
    cpu_mem_free(dev, ad->g);
    cpu_mem_free(dev, ad->work);
    memset(ad, 0, sizeof *ad);
}

struct vec_run {
    struct cpu *c;
    int64_t n;
    float *dst, *m, *v;
    const float *a, *b;
    uint16_t *narrow;
    float alpha;
    const struct adamw *adamw;
    double *sums;
};

static int64_t block_count(const struct vec_run *r, int64_t item) {
    return r->n - item * BLOCK < BLOCK ? r->n - item * BLOCK : BLOCK;
}

static void run_blocks(struct vec_run *r, void (*fn)(void *arg, int64_t item, int worker)) {
    team_run(r->c->team, (r->n + BLOCK - 1) / BLOCK, fn, r);
}

static void refresh_item(void *arg, int64_t item, int worker) {
    struct vec_run *r = arg;
    (void)worker;
    r->c->k->narrow_bf16(r->narrow + item * BLOCK, r->a + item * BLOCK, block_count(r, item));
}

void cpu_adapter_refresh(struct device *dev, const struct adapter_mem *ad) {
    struct vec_run r = {.c = cpu_of(dev), .n = (int64_t)ad->n, .a = ad->w, .narrow = ad->work};
    if (ad->work)
        run_blocks(&r, refresh_item);
}

static void sumsq_item(void *arg, int64_t item, int worker) {
    struct vec_run *r = arg;
    (void)worker;
    r->sums[item] = r->c->k->sumsq(r->a + item * BLOCK, block_count(r, item));
}

enum err cpu_vec_sumsq(struct device *dev, const float *x, size_t n, double *sum,
                       struct err_msg *em) {
    struct vec_run r = {.c = cpu_of(dev), .n = (int64_t)n, .a = x};
    size_t blocks = (n + BLOCK - 1) / BLOCK;
    (void)em;
    r.sums = cpu_shared(r.c, SLOT_ROW, (blocks + 1) * sizeof *r.sums);
    run_blocks(&r, sumsq_item);
    *sum = 0;
    for (size_t i = 0; i < blocks; i++)
        *sum += r.sums[i];
    return ERR_OK;
}

static void axpy_item(void *arg, int64_t item, int worker) {
    struct vec_run *r = arg;
    int64_t at = item * BLOCK;
    (void)worker;
    r->c->k->axpy(r->dst + at, r->a + at, r->alpha, r->b + at, block_count(r, item));
}

void cpu_vec_axpy(struct device *dev, float *dst, const float *a, float alpha, const float *b,
                  size_t n) {
    struct vec_run r = {
        .c = cpu_of(dev), .n = (int64_t)n, .dst = dst, .a = a, .alpha = alpha, .b = b};
    run_blocks(&r, axpy_item);
}

static void adamw_item(void *arg, int64_t item, int worker) {
    struct vec_run *r = arg;
    int64_t at = item * BLOCK;
    (void)worker;
    r->c->k->adamw(r->adamw, r->alpha, r->dst + at, r->a + at, r->m + at, r->v + at,
                   block_count(r, item));
}

static float clipping(double norm, float most) {
    double scale = (double)most / (norm + 1e-6);
    return scale < 1.0 ? (float)scale : 1.0f;
}

enum err cpu_adamw(struct device *dev, const struct adamw *o, const struct adapter_mem *ad,
                   float *m, float *v, double *sumsq, struct err_msg *em) {
    enum err e = cpu_vec_sumsq(dev, ad->g, ad->n, sumsq, em);
    if (e != ERR_OK || !isfinite(*sumsq))
        return e;
    struct vec_run r = {.c = cpu_of(dev),
                        .n = (int64_t)ad->n,
                        .adamw = o,
                        .alpha = clipping(sqrt(*sumsq), o->max_norm),
                        .dst = ad->w,
                        .a = ad->g,
                        .m = m,
                        .v = v};
    run_blocks(&r, adamw_item);
    cpu_adapter_refresh(dev, ad);
    return ERR_OK;
}

void cpu_adapter_move(struct device *dev, const struct adapter_mem *ad, const float *base,
                      float tau, const float *direction) {
    if (tau == 0.0f)
        memcpy(ad->w, base, ad->n * sizeof *base);
    else
        cpu_vec_axpy(dev, ad->w, base, tau, direction, ad->n);
    cpu_adapter_refresh(dev, ad);
}
