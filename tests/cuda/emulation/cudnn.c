/* cudnn: the few functions of attention_cudnn.h, answered by attention as it is defined, in f64,
 * from the addresses, offsets and lengths that the library would be given. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/attention_cudnn.h"
#include "tests/cuda/emulation/emulation.h"

int emulated_cudnn;
size_t emulated_workspace;
long emulated_plans;

struct fused {
    int32_t version;
};
struct fused_plan {
    struct fused_shape shape;
    size_t workspace;
};

enum err fused_open(int32_t sm, const char *described, struct fused **out, struct err_msg *em) {
    (void)sm;
    *out = NULL;
    if (described || emulated_cudnn == 0)
        return err_set(em, ERR_UNSUPPORTED, "there is no emulated libcudnn");
    *out = xcalloc(1, sizeof **out);
    (*out)->version = emulated_cudnn;
    return ERR_OK;
}

void fused_close(struct fused *f) {
    free(f);
}

int32_t fused_version(const struct fused *f) {
    return f->version;
}

enum err fused_plan_new(struct fused *f, const struct fused_shape *s, struct fused_plan **out,
                        struct err_msg *em) {
    (void)f;
    emulated_waits("cuLibraryLoadData");
    emulated_check_capture("cuLibraryLoadData");
    *out = NULL;
    if (s->head_dim % 8 != 0 || s->head_dim > 128)
        return err_set(em, ERR_UNSUPPORTED, "heads are %d wide", s->head_dim);
    emulated_plans++;
    *out = xcalloc(1, sizeof **out);
    (*out)->shape = *s;
    (*out)->workspace =
        (size_t)(s->backward ? s->tokens * s->stride[FUSED_DQ] * 4 : 0) + 1000 + emulated_workspace;
    return ERR_OK;
}

void fused_plan_free(struct fused_plan *p) {
    emulated_plans -= p != NULL;
    free(p);
}

size_t fused_plan_workspace(const struct fused_plan *p) {
    return p->workspace;
}

const char *fused_plan_name(const struct fused_plan *p) {
    (void)p;
    return "emulated";
}

/* ---- one head of one example ---------------------------------------------------------------- */

struct head {
    const struct fused_shape *s;
    const struct fused_call *call;
    int32_t example, len, query, kv; /* head of the queries, of the keys */
};

/* The columns of one head in one row of an operand. */
static void *row_at(const struct head *h, enum fused_operand op, int32_t row) {
    bool keys = op == FUSED_K || op == FUSED_V || op == FUSED_DK || op == FUSED_DV;
    int64_t at = h->call->offsets[(int)op * h->call->pitch + h->example] + row * h->s->stride[op];
    size_t size = op == FUSED_STATS ? sizeof(float) : 2;
    at += (int64_t)(keys ? h->kv : h->query) * (op == FUSED_STATS ? 1 : h->s->head_dim);
    char *p = (char *)h->call->data[op] + (size_t)at * size;
    emulated_check_range(p, op == FUSED_STATS ? size : size * (size_t)h->s->head_dim, "attention");
    return p;
}

static double get(const void *row, int32_t i) {
    uint16_t half;
    float value;
    memcpy(&half, (const char *)row + 2 * i, sizeof half);
    uint32_t bits = (uint32_t)half << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void set(void *row, int32_t i, double x) {
    float value = (float)x;
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
    memcpy((char *)row + 2 * i, &half, sizeof half);
}

static double dot(const struct head *h, enum fused_operand a, int32_t i, enum fused_operand b,
                  int32_t j) {
    const void *x = row_at(h, a, i), *y = row_at(h, b, j);
    double sum = 0;
    for (int32_t c = 0; c < h->s->head_dim; c++)
        sum += get(x, c) * get(y, c);
    return sum;
}

static int32_t first_key(const struct head *h, int32_t query) {
    return h->s->window > 0 && query >= h->s->window ? query - h->s->window + 1 : 0;
}

/* sum [len, head_dim] += weight · row */
static void add(const struct head *h, double *sum, int32_t at, double weight, const void *row) {
    for (int32_t c = 0; c < h->s->head_dim; c++)
        sum[at * h->s->head_dim + c] += weight * get(row, c);
}

static void save(const struct head *h, enum fused_operand op, const double *sum) {
    for (int32_t i = 0; i < h->len; i++)
        for (int32_t c = 0; c < h->s->head_dim; c++)
            set(row_at(h, op, i), c, sum[i * h->s->head_dim + c]);
}

static void forward(const struct head *h, double *out) {
    double *p = xcalloc((size_t)h->len, sizeof *p);
    for (int32_t i = 0; i < h->len; i++) {
        double max = -INFINITY, sum = 0;
        for (int32_t j = first_key(h, i); j <= i; j++) {
            p[j] = (double)h->s->scale * dot(h, FUSED_Q, i, FUSED_K, j);
            max = fmax(max, p[j]);
        }
        for (int32_t j = first_key(h, i); j <= i; j++)
            sum += exp(p[j] - max);
        for (int32_t j = first_key(h, i); j <= i; j++)
            add(h, out, i, exp(p[j] - max) / sum, row_at(h, FUSED_V, j));
        *(float *)row_at(h, FUSED_STATS, i) = (float)(max + log(sum));
    }
    save(h, FUSED_OUT, out);
    free(p);
}

static void backward(const struct head *h, double *dq, double *dk, double *dv) {
    for (int32_t i = 0; i < h->len; i++) {
        double lse = *(const float *)row_at(h, FUSED_STATS, i);
        double mean = dot(h, FUSED_OUT, i, FUSED_DOUT, i), scale = h->s->scale;
        for (int32_t j = first_key(h, i); j <= i; j++) {
            double p = exp(scale * dot(h, FUSED_Q, i, FUSED_K, j) - lse);
            double ds = scale * p * (dot(h, FUSED_DOUT, i, FUSED_V, j) - mean);
            add(h, dv, j, p, row_at(h, FUSED_DOUT, i));
            add(h, dq, i, ds, row_at(h, FUSED_K, j));
            add(h, dk, j, ds, row_at(h, FUSED_Q, i));
        }
    }
    save(h, FUSED_DQ, dq);
}

/* The query heads of one head of keys. */
static void run_group(struct head h) {
    size_t n = (size_t)(h.len * h.s->head_dim);
    double *dk = xcalloc(2 * n + 1, sizeof *dk), *dv = dk + n;
    int32_t group = h.s->heads / h.s->kv_heads;
    for (h.query = h.kv * group; h.query < (h.kv + 1) * group; h.query++) {
        double *sum = xcalloc(n + 1, sizeof *sum); /* out or dq */
        if (h.s->backward)
            backward(&h, sum, dk, dv);
        else
            forward(&h, sum);
        free(sum);
    }
    if (h.s->backward) {
        save(&h, FUSED_DK, dk);
        save(&h, FUSED_DV, dv);
    }
    free(dk);
}

/* ---- a run ---------------------------------------------------------------------------------- */

struct run {
    const struct fused_plan *plan; /* whose code must still be loaded when a graph is launched */
    struct fused_call call;
};

static void run_plan(void *arg) {
    const struct run *r = arg;
    const struct fused_shape *s = &r->plan->shape;
    size_t index = (size_t)s->examples * sizeof(int32_t);
    emulated_check_range(r->call.workspace, r->plan->workspace, "attention, workspace");
    emulated_check_range(r->call.lengths, index, "attention, lengths");
    for (int op = 0; op < FUSED_OPERANDS; op++)
        emulated_check_range(r->call.offsets + op * r->call.pitch, index + sizeof(int32_t),
                             "attention, offsets");
    memset(r->call.workspace, 0xff, r->plan->workspace);
    for (int32_t i = 0; i < s->examples; i++) {
        struct head h = {s, &r->call, i, r->call.lengths[i], 0, 0};
        if (h.len < 0 || h.len > s->longest)
            emulated_stop("attention: an example of %d tokens, planned for %d", h.len, s->longest);
        for (h.kv = 0; h.kv < s->kv_heads; h.kv++)
            run_group(h);
    }
}

enum err fused_run(struct fused *f, const struct fused_plan *p, const struct fused_call *call,
                   struct err_msg *em) {
    const struct run r = {p, *call};
    (void)f;
    if (emulated_call("cudnnBackendExecute") != cudaSuccess)
        return err_set(em, ERR_DEVICE, "cudnnBackendExecute failed");
    emulated_on(call->stream);
    for (int op = 0; op < FUSED_OPERANDS; op++)
        if ((uintptr_t)call->data[op] % 16 != 0 || (uintptr_t)call->workspace % 256 != 0)
            emulated_stop("attention: operand %d or the workspace is not aligned", op);
    emulated_do(run_plan, &r, sizeof r);
    return ERR_OK;
}
