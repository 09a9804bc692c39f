/* profile: see profile.h. */
#include "engine/ops/profile.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

struct profile {
    struct ops table; /* first: a device's pointer to its table leads here */
    const struct ops *inner;
    struct device *dev;
    int64_t vocab;
    struct profile_entry *entries;
    size_t n;
    double start;
};

static struct profile *begin(struct device *dev) {
    struct profile *p = (struct profile *)(uintptr_t)dev->ops;
    p->start = clock_mono();
    return p;
}

static struct profile_entry *entry_for(struct profile *p, const char *label) {
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->entries[i].label, label) == 0)
            return &p->entries[i];
    p->entries = xreallocarray(p->entries, p->n + 1, sizeof *p->entries);
    struct profile_entry *e = &p->entries[p->n++];
    *e = (struct profile_entry){0};
    snprintf(e->label, sizeof e->label, "%s", label);
    return e;
}

__attribute__((format(printf, 4, 5))) static void end(struct profile *p, double flops, double bytes,
                                                      const char *format, ...) {
    struct err_msg em = ERR_MSG_INIT;
    char label[PROFILE_LABEL];
    va_list args;
    (void)p->inner->sync(p->dev, &em); /* a fault stays pending for the caller's own sync */
    double seconds = clock_mono() - p->start;
    va_start(args, format);
    vsnprintf(label, sizeof label, format, args);
    va_end(args);
    struct profile_entry *e = entry_for(p, label);
    e->calls++;
    e->seconds += seconds;
    e->flops += flops;
    e->bytes += bytes;
}

static double bytes_of(struct tensor t) {
    return (double)t.rows * (double)t.cols * (double)dtype_size(t.dtype);
}

/* ---- products ------------------------------------------------------------------------------- */

/* Σ rank_i · (in + out_i): LoRA's weights in products; out_i is not known here, so each part is
 * taken to have its share of out. */
static double lora_weights(const struct lora *lora, int64_t in, int64_t out) {
    double rank = 0;
    int parts = 0;
    for (int i = 0; lora && i < LINEAR_PARTS; i++) {
        rank += lora->rank[i];
        parts += lora->rank[i] > 0;
    }
    return parts > 0 ? rank * ((double)in + (double)out / parts) : 0;
}

static void linear_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                           const struct adapter_mem *ad, const struct dropout *drop,
                           const struct batch *b, struct tensor x, const struct tensor *residual,
                           struct tensor y, struct tensor s) {
    struct profile *p = begin(dev);
    p->inner->linear_forward(dev, lin, lora, ad, drop, b, x, residual, y, s);
    double weights = (double)x.cols * (double)y.cols;
    double moved = bytes_of(x) + bytes_of(y) + weights * (double)dtype_size(x.dtype) +
                   (residual ? bytes_of(*residual) : 0);
    end(p, 2.0 * (double)x.rows * (weights + lora_weights(lora, x.cols, y.cols)), moved,
        "product forward %lld->%lld", (long long)x.cols, (long long)y.cols);
}

static void linear_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                            const struct adapter_mem *ad, const struct dropout *drop,
                            const struct batch *b, struct tensor dy, struct tensor x,
                            struct tensor s, const struct tensor *dx) {
    struct profile *p = begin(dev);
    p->inner->linear_backward(dev, lin, lora, ad, drop, b, dy, x, s, dx);
    int64_t in = dx ? dx->cols : x.cols;
    double weights = dx ? (double)in * (double)dy.cols : 0;
    double moved = bytes_of(dy) + (lora ? bytes_of(x) : 0) + (dx ? bytes_of(*dx) : 0) +
                   weights * (double)dtype_size(dy.dtype);
    end(p, 2.0 * (double)dy.rows * (weights + 2.0 * lora_weights(lora, in, dy.cols)), moved,
        "product backward %lld->%lld", (long long)dy.cols, (long long)in);
}

static void dora_norms(struct device *dev, const struct linear *lin, const struct lora *lora,
                       const struct adapter_mem *ad, float *n) {
    struct profile *p = begin(dev);
    p->inner->dora_norms(dev, lin, lora, ad, n);
    end(p, 0, 0, "dora norms");
}

static void dora_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                         const struct adapter_mem *ad, const float *n, struct tensor z,
                         const struct tensor *residual, struct tensor y) {
    struct profile *p = begin(dev);
    p->inner->dora_forward(dev, lin, lora, ad, n, z, residual, y);
    end(p, 0, bytes_of(z) + bytes_of(y), "dora forward");
}

static void dora_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                          const struct adapter_mem *ad, const float *n, struct tensor dy,
                          struct tensor z) {
    struct profile *p = begin(dev);
    p->inner->dora_backward(dev, lin, lora, ad, n, dy, z);
    end(p, 0, bytes_of(dy) + 2 * bytes_of(z), "dora backward");
}

static void head_loss(struct device *dev, const struct linear *head, struct tensor x,
                      const int32_t *targets, const float *grad_scale, float *nll, uint8_t *correct,
                      const struct tensor *dx) {
    struct profile *p = begin(dev);
    p->inner->head_loss(dev, head, x, targets, grad_scale, nll, correct, dx);
    double passes = dx ? 2 : 1, weights = (double)x.cols * (double)p->vocab;
    end(p, passes * 2.0 * (double)x.rows * weights,
        passes * (bytes_of(x) + weights * (double)dtype_size(x.dtype)), "loss head %lld->%lld",
        (long long)x.cols, (long long)p->vocab);
}

/* ---- attention ------------------------------------------------------------------------------ */

/* Multiply-adds of one product with all pairs of query and key, of all heads. Examples are taken to
 * be as long as the longest; batch's arrays are in device memory. */
static double pairs(const struct attention *a, const struct batch *b) {
    double len = b->max_len, seqs = len > 0 ? b->n_tokens / len : 0;
    double seen = a->window > 0 && a->window < len ? a->window : (len + 1) / 2;
    return seqs * len * seen * a->n_heads * a->head_dim;
}

static void attention_forward(struct device *dev, const struct attention *a, const struct batch *b,
                              struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                              float *lse) {
    struct profile *p = begin(dev);
    p->inner->attention_forward(dev, a, b, q, k, v, out, lse);
    end(p, 4 * pairs(a, b), bytes_of(q) + bytes_of(k) + bytes_of(v) + bytes_of(out),
        "attention forward");
}

static void attention_backward(struct device *dev, const struct attention *a, const struct batch *b,
                               struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                               const float *lse, struct tensor dout, struct tensor dq,
                               struct tensor dk, struct tensor dv) {
    struct profile *p = begin(dev);
    p->inner->attention_backward(dev, a, b, q, k, v, out, lse, dout, dq, dk, dv);
    end(p, 10 * pairs(a, b), 2 * (bytes_of(q) + bytes_of(k) + bytes_of(v) + bytes_of(out)),
        "attention backward");
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void embed(struct device *dev, struct tensor table, const struct batch *b, float scale,
                  struct tensor x) {
    struct profile *p = begin(dev);
    p->inner->embed(dev, table, b, scale, x);
    end(p, 0, 2 * bytes_of(x), "embedding");
}

static void norm_forward(struct device *dev, const struct norm *n, struct tensor x, struct tensor y,
                         float *stats) {
    struct profile *p = begin(dev);
    p->inner->norm_forward(dev, n, x, y, stats);
    end(p, 0, bytes_of(x) + bytes_of(y), "norm forward");
}

static void norm_apply(struct device *dev, const struct norm *n, struct tensor x,
                       const float *stats, struct tensor y) {
    struct profile *p = begin(dev);
    p->inner->norm_apply(dev, n, x, stats, y);
    end(p, 0, bytes_of(x) + bytes_of(y), "norm again");
}

static void norm_backward(struct device *dev, const struct norm *n, struct tensor dy,
                          struct tensor x, const float *stats, struct tensor dx) {
    struct profile *p = begin(dev);
    p->inner->norm_backward(dev, n, dy, x, stats, dx);
    end(p, 0, bytes_of(dy) + bytes_of(x) + 2 * bytes_of(dx), "norm backward");
}

static void rope(struct device *dev, const struct rope *r, const struct batch *b, int32_t n_heads,
                 int32_t head_dim, bool inverse, struct tensor x) {
    struct profile *p = begin(dev);
    p->inner->rope(dev, r, b, n_heads, head_dim, inverse, x);
    end(p, 0, 2 * bytes_of(x), "rotation");
}

static void act_forward(struct device *dev, const struct act *a, struct tensor in,
                        struct tensor out) {
    struct profile *p = begin(dev);
    p->inner->act_forward(dev, a, in, out);
    end(p, 0, bytes_of(in) + bytes_of(out), "activation forward");
}

static void act_backward(struct device *dev, const struct act *a, struct tensor dout,
                         struct tensor in) {
    struct profile *p = begin(dev);
    p->inner->act_backward(dev, a, dout, in);
    end(p, 0, bytes_of(dout) + 2 * bytes_of(in), "activation backward");
}

static void rows_gather(struct device *dev, struct tensor x, const int32_t *rows,
                        struct tensor out) {
    struct profile *p = begin(dev);
    p->inner->rows_gather(dev, x, rows, out);
    end(p, 0, 2 * bytes_of(out), "gather and scatter");
}

static void rows_scatter(struct device *dev, struct tensor dout, const int32_t *rows,
                         struct tensor dx) {
    struct profile *p = begin(dev);
    p->inner->rows_scatter(dev, dout, rows, dx);
    end(p, 0, bytes_of(dout) + bytes_of(dx), "gather and scatter");
}

/* ---- the adapter ---------------------------------------------------------------------------- */

static void adapter_refresh(struct device *dev, const struct adapter_mem *ad) {
    struct profile *p = begin(dev);
    p->inner->adapter_refresh(dev, ad);
    end(p, 0, 6.0 * (double)ad->n, "optimizer");
}

static enum err vec_sumsq(struct device *dev, const float *x, size_t n, double *sum,
                          struct err_msg *em) {
    struct profile *p = begin(dev);
    enum err e = p->inner->vec_sumsq(dev, x, n, sum, em);
    end(p, 0, 4.0 * (double)n, "optimizer");
    return e;
}

static enum err adamw(struct device *dev, const struct adamw *o, const struct adapter_mem *ad,
                      float *m, float *v, double *sumsq, struct err_msg *em) {
    struct profile *p = begin(dev);
    enum err e = p->inner->adamw(dev, o, ad, m, v, sumsq, em);
    end(p, 0, 34.0 * (double)ad->n, "optimizer");
    return e;
}

static void adapter_move(struct device *dev, const struct adapter_mem *ad, const float *base,
                         float tau, const float *direction) {
    struct profile *p = begin(dev);
    p->inner->adapter_move(dev, ad, base, tau, direction);
    end(p, 0, 14.0 * (double)ad->n, "optimizer");
}

/* Each time anew: what is done as a whole cannot be told apart. */
static void repeat(struct device *dev, const struct work_key *key, void (*work)(void *arg),
                   void *arg) {
    (void)dev, (void)key;
    work(arg);
}

/* ---- on and off ----------------------------------------------------------------------------- */

struct profile *profile_on(struct device *dev, int64_t vocab) {
    struct profile *p = xcalloc(1, sizeof *p);
    p->inner = dev->ops;
    p->dev = dev;
    p->vocab = vocab;
    p->table = *dev->ops;
    p->table.repeat = repeat;
    p->table.linear_forward = linear_forward;
    p->table.linear_backward = linear_backward;
    p->table.dora_norms = dora_norms;
    p->table.dora_forward = dora_forward;
    p->table.dora_backward = dora_backward;
    p->table.head_loss = head_loss;
    p->table.attention_forward = attention_forward;
    p->table.attention_backward = attention_backward;
    p->table.embed = embed;
    p->table.norm_forward = norm_forward;
    p->table.norm_apply = norm_apply;
    p->table.norm_backward = norm_backward;
    p->table.rope = rope;
    p->table.act_forward = act_forward;
    p->table.act_backward = act_backward;
    p->table.rows_gather = rows_gather;
    p->table.rows_scatter = rows_scatter;
    p->table.adapter_refresh = adapter_refresh;
    p->table.vec_sumsq = vec_sumsq;
    p->table.adamw = adamw;
    p->table.adapter_move = adapter_move;
    dev->ops = &p->table;
    return p;
}

void profile_off(struct profile *p) {
    p->dev->ops = p->inner;
}

void profile_free(struct profile *p) {
    if (!p)
        return;
    free(p->entries);
    free(p);
}

static int by_time(const void *a, const void *b) {
    double x = ((const struct profile_entry *)a)->seconds;
    double y = ((const struct profile_entry *)b)->seconds;
    return (x < y) - (x > y);
}

const struct profile_entry *profile_entries(struct profile *p, size_t *n) {
    if (p->n > 0)
        qsort(p->entries, p->n, sizeof *p->entries, by_time);
    *n = p->n;
    return p->entries;
}

enum err profile_bandwidth(struct device *dev, double *bytes_per_s, struct err_msg *em) {
    const size_t n = (size_t)16 << 20;
    void *memory;
    *bytes_per_s = 0;
    enum err e = dev->ops->mem_alloc(dev, 3 * n * sizeof(float), &memory, em);
    if (e != ERR_OK)
        return e;
    float *x = memory;
    dev->ops->mem_zero(dev, x, 3 * n * sizeof *x);
    for (int i = 0; i < 5 && e == ERR_OK; i++) {
        double start = clock_mono();
        dev->ops->vec_axpy(dev, x, x + n, 1.0f, x + 2 * n, n);
        e = dev->ops->sync(dev, em);
        double speed = 3.0 * (double)(n * sizeof *x) / (clock_mono() - start);
        *bytes_per_s = speed > *bytes_per_s ? speed : *bytes_per_s;
    }
    dev->ops->mem_free(dev, memory);
    return e;
}
