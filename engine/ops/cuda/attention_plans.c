/* attention_plans: see attention_plans.h.
 *
 * A plan takes a second to make and holds for all batches within its bounds, so bounds are few: the
 * number of examples and the longest one are powers of two, from 128 for the latter. Lengths and
 * places are data; examples beyond those of the batch are empty. The tokens of a batch bound only
 * the workspace: they are what was reserved.
 *
 * The statistics that cuDNN keeps are our lse, natural logarithms, but [T, heads] where ours are
 * [heads, T]: the layout with offsets that other users of the library have. It is turned around on
 * the way in and out, so either pass may be the library's or ours. */
#include "engine/ops/cuda/attention_plans.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define PLANS 64
#define HOPPER 90
#define LONGEST_LEAST 128
#define ALIGN ((size_t)256)
#define OWN "own"
#define CUDNN "cudnn-"

/* What a plan may ask for beside the sums that grow with the tokens. Before version ORDERED a
 * backward pass that gives the same bytes every time keeps all scores, heads · longest² of each
 * example: a batch is then taken in several runs, each with scores of SCORES bytes at most. */
#define FORWARD_MORE ((size_t)16 << 20)
#define BACKWARD_MORE ((size_t)64 << 20)
#define ORDERED 92500
#define SCORES ((int64_t)1 << 30)

struct entry {
    struct fused_shape shape;
    uint64_t used;           /* when it was needed last; 0: no entry */
    struct fused_plan *plan; /* NULL: refused */
};

struct attention_plans {
    struct fused *library; /* NULL: all is left to our kernels */
    bool forced;           /* by the environment */
    bool on;               /* the library is used by the job at hand */
    int64_t tokens;        /* of a batch with a backward pass, reserved */
    uint64_t now;
    struct entry entry[PLANS];
};

/* ---- who computes --------------------------------------------------------------------------- */

static void say(const struct attention_plans *p, const struct err_msg *why) {
    static bool said;
    if (said)
        return;
    said = true;
    if (p->library)
        log_info("cuda.attention", "cudnn version=%d", fused_version(p->library));
    else
        log_info("cuda.attention", "own reason=%s", why->text);
}

enum err cuda_attention_open(struct cuda *c, struct err_msg *em) {
    const char *wish = getenv("FFWD_CUDA_ATTENTION");
    struct attention_plans *p = c->attention = xcalloc(1, sizeof *p);
    struct err_msg why = ERR_MSG_INIT;
    bool own = wish && strcmp(wish, "own") == 0, cudnn = wish && strcmp(wish, "cudnn") == 0;
    if (wish && *wish && !own && !cudnn)
        return err_set(em, ERR_INPUT, "FFWD_CUDA_ATTENTION is \"own\" or \"cudnn\", not \"%s\"",
                       wish);
    p->forced = own || cudnn;
    if (own || (!cudnn && c->sm != HOPPER))
        return ERR_OK;
    enum err e = fused_open(c->sm, NULL, &p->library, &why);
    if (e != ERR_OK && cudnn)
        return err_set(em, e, "FFWD_CUDA_ATTENTION asks for cuDNN: %s", why.text);
    p->on = p->library != NULL;
    say(p, &why);
    return ERR_OK;
}

void cuda_attention_close(struct cuda *c) {
    struct attention_plans *p = c->attention;
    if (!p)
        return;
    cuda_graphs_clear(c); /* they run the plans' kernels */
    for (int i = 0; i < PLANS; i++)
        fused_plan_free(p->entry[i].plan);
    fused_close(p->library);
    free(p);
}

static char *name(const struct attention_plans *p, bool library) {
    return library ? xasprintf(CUDNN "%d", fused_version(p->library)) : xstrdup(OWN);
}

char *cuda_attention_choice(const struct cuda *c) {
    return name(c->attention, c->attention->on);
}

bool cuda_attention_choose(struct cuda *c, const char *choice) {
    struct attention_plans *p = c->attention;
    bool fits = true;
    p->on = p->library != NULL;
    if (choice) {
        char *here = name(p, p->on);
        fits = strcmp(choice, here) == 0;
        free(here);
        if (!fits && !p->forced && strcmp(choice, OWN) == 0) {
            p->on = false;
            fits = true;
        }
    }
    return fits;
}

/* ---- shapes --------------------------------------------------------------------------------- */

static int32_t power_of_two(int32_t least, int32_t n) {
    while (least < n && least <= INT32_MAX / 2)
        least *= 2;
    return least;
}

static bool grouped(const struct fused_shape *s) {
    return s->heads != s->kv_heads;
}

static struct fused_shape shape_of(const struct attention *a, int32_t examples, int32_t longest,
                                   bool backward, int32_t version) {
    struct fused_shape s;
    memset(&s, 0, sizeof s); /* padding too */
    s.backward = backward;
    s.heads = a->n_heads, s.kv_heads = a->n_kv_heads, s.head_dim = a->head_dim;
    s.window = a->window, s.scale = a->scale;
    s.examples = power_of_two(1, examples);
    s.longest = power_of_two(LONGEST_LEAST, longest);
    int64_t scores = 2 * (int64_t)s.longest * s.longest * s.heads;
    while (backward && version < ORDERED && s.examples > 1 && s.examples > SCORES / scores)
        s.examples /= 2;
    s.stride[FUSED_STATS] = a->n_heads;
    return s;
}

struct fused_shape cuda_attention_shape(const struct attention *a, int32_t examples,
                                        int32_t longest, int64_t tokens, bool backward,
                                        int32_t version) {
    struct fused_shape s = shape_of(a, examples, longest, backward, version);
    int64_t q = (int64_t)a->n_heads * a->head_dim, kv = (int64_t)a->n_kv_heads * a->head_dim;
    s.stride[FUSED_Q] = s.stride[FUSED_K] = s.stride[FUSED_V] = q + 2 * kv;
    s.stride[FUSED_OUT] = q;
    if (backward) {
        s.tokens = tokens;
        s.stride[FUSED_DOUT] = q;
        s.stride[FUSED_DQ] = q + 2 * kv;
        s.stride[FUSED_DK] = s.stride[FUSED_DV] = grouped(&s) ? kv : q + 2 * kv;
    }
    return s;
}

/* dq's sums in f32; where heads are grouped dk and dv of each query's head; rowsum(dout · out). The
 * frontend counts them as rows of what they become. */
size_t cuda_attention_workspace_most(const struct fused_shape *s, int32_t version) {
    if (!s->backward)
        return FORWARD_MORE;
    int64_t each = s->heads / s->kv_heads * (s->stride[FUSED_DK] + s->stride[FUSED_DV]);
    int64_t row = s->stride[FUSED_DQ] + (grouped(s) ? each : 0) + s->heads;
    return (size_t)(s->tokens * row) * sizeof(float) + BACKWARD_MORE +
           (version < ORDERED ? (size_t)SCORES : 0);
}

/* ---- memory --------------------------------------------------------------------------------- */

/* Where things lie in SLOT_FUSED; dk and dv only where heads are grouped: as columns of a wider
 * matrix they would make the workspace as much wider. */
struct places {
    size_t stats, lengths, offsets, dk, dv, bytes;
};

static size_t next(size_t *at, size_t bytes) {
    size_t here = *at;
    *at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return here;
}

static struct places place(const struct fused_shape *s, int32_t examples, int64_t tokens,
                           size_t workspace) {
    size_t index = ((size_t)examples + 1) * sizeof(int32_t), rows = (size_t)tokens;
    size_t keys = s->backward && grouped(s) ? rows * (size_t)(s->kv_heads * s->head_dim) * 2 : 0;
    struct places at = {0};
    (void)next(&at.bytes, workspace);
    at.stats = next(&at.bytes, rows * (size_t)s->heads * sizeof(float));
    at.lengths = next(&at.bytes, index);
    at.offsets = next(&at.bytes, FUSED_OPERANDS * index);
    at.dk = next(&at.bytes, keys);
    at.dv = next(&at.bytes, keys);
    return at;
}

size_t cuda_attention_bytes(const struct cuda *c, const struct op_shapes *most) {
    if (!c->attention->library || most->dtype != DTYPE_BF16 || most->heads == 0)
        return 0;
    if (most->tokens > INT32_MAX)
        return SIZE_MAX; /* no device has so much, and sums below would overflow */
    const struct attention a = {.n_heads = (int32_t)most->heads,
                                .n_kv_heads = (int32_t)(most->keys / most->head_dim),
                                .head_dim = (int32_t)most->head_dim};
    int32_t version = fused_version(c->attention->library), seqs = (int32_t)most->seqs;
    struct fused_shape s = cuda_attention_shape(&a, seqs, 1, most->tokens, most->backward, version);
    return place(&s, power_of_two(1, seqs), most->tokens,
                 cuda_attention_workspace_most(&s, version))
        .bytes;
}

void cuda_attention_reserve(struct cuda *c, const struct op_shapes *most) {
    if (most->backward && most->tokens > c->attention->tokens)
        c->attention->tokens = most->tokens;
}

/* ---- plans ---------------------------------------------------------------------------------- */

/* One that can be made anew: the oldest, or none. */
static struct entry *vacate(struct cuda *c) {
    struct attention_plans *p = c->attention;
    struct entry *oldest = &p->entry[0];
    for (int i = 1; i < PLANS; i++)
        if (p->entry[i].used < oldest->used)
            oldest = &p->entry[i];
    if (oldest->plan)
        cuda_graphs_clear(c); /* they run its kernels */
    fused_plan_free(oldest->plan);
    memset(oldest, 0, sizeof *oldest);
    return oldest;
}

static void log_refusal(const struct fused_shape *s, const char *why) {
    log_info("cuda.attention",
             "own %s heads=%d/%d head_dim=%d window=%d examples=%d longest=%d reason=%s",
             s->backward ? "backward" : "forward", s->heads, s->kv_heads, s->head_dim, s->window,
             s->examples, s->longest, why);
}

static struct fused_plan *make(struct cuda *c, const struct fused_shape *s) {
    struct err_msg why = ERR_MSG_INIT;
    struct fused_plan *plan;
    size_t most = cuda_attention_workspace_most(s, fused_version(c->attention->library));
    if (fused_plan_new(c->attention->library, s, &plan, &why) != ERR_OK) {
        log_refusal(s, why.text);
        return NULL;
    }
    if (fused_plan_workspace(plan) > most) {
        err_set(&why, ERR_UNSUPPORTED, "cuDNN wants a workspace of %zu bytes, %zu are planned",
                fused_plan_workspace(plan), most);
        log_refusal(s, why.text);
        fused_plan_free(plan);
        plan = NULL;
    }
    return plan;
}

/* The entry of a shape; NULL after a fault. Loading a plan's code may wait inside CUDA, so nothing
 * is under way then. */
static struct entry *entry_for(struct cuda *c, const struct fused_shape *s) {
    struct attention_plans *p = c->attention;
    struct entry *found = NULL;
    for (int i = 0; i < PLANS && !found; i++)
        if (p->entry[i].used && memcmp(&p->entry[i].shape, s, sizeof *s) == 0)
            found = &p->entry[i];
    if (!found) {
        if (cuda_not_captured(c, "a plan of cuDNN's") || !cuda_finish(c, "attention"))
            return NULL;
        found = vacate(c);
        found->shape = *s;
        found->plan = make(c, s);
    }
    found->used = ++p->now;
    return found;
}

/* ---- runs ----------------------------------------------------------------------------------- */

/* Rows that cuDNN's wide loads may read, at places that 32 bits can say. */
static bool fits(struct tensor t, int64_t tokens) {
    return t.dtype == DTYPE_BF16 && (uintptr_t)t.data % 16 == 0 && t.stride % 8 == 0 &&
           t.stride <= INT32_MAX / tokens;
}

/* A run under preparation. */
struct use {
    struct fused_shape shape;
    struct fused_call call;
    const struct fused_plan *plan;
    int32_t runs; /* of shape.examples each */
    struct places at;
};

static bool put(struct use *u, enum fused_operand op, struct tensor t) {
    u->shape.stride[op] = t.stride;
    u->call.data[op] = t.data;
    return fits(t, t.rows);
}

/* True: u->plan is set, or there is a fault. */
static bool prepare(struct cuda *c, struct use *u, const struct batch *b) {
    struct entry *e = entry_for(c, &u->shape);
    if (!e || !e->plan)
        return !e;
    size_t workspace = fused_plan_workspace(e->plan);
    u->runs = (b->n_seqs + u->shape.examples - 1) / u->shape.examples;
    int32_t examples = u->runs * u->shape.examples;
    u->at = place(&u->shape, examples, b->n_tokens, workspace);
    char *scratch = cuda_scratch(c, SLOT_FUSED, u->at.bytes);
    if (!scratch)
        return true;
    int32_t *lengths = (int32_t *)(void *)(scratch + u->at.lengths);
    int32_t *offsets = (int32_t *)(void *)(scratch + u->at.offsets);
    cuda_attention_pack(c, &u->shape, b, examples, lengths, offsets);
    u->call.lengths = lengths;
    u->call.offsets = offsets;
    u->call.pitch = examples + 1;
    u->call.workspace = scratch;
    u->call.stream = c->stream;
    u->call.data[FUSED_STATS] = scratch + u->at.stats;
    if (u->shape.backward && grouped(&u->shape)) {
        u->call.data[FUSED_DK] = scratch + u->at.dk;
        u->call.data[FUSED_DV] = scratch + u->at.dv;
    }
    u->plan = e->plan;
    return true;
}

static void run(struct cuda *c, const struct use *u) {
    struct err_msg em = ERR_MSG_INIT;
    struct fused_call call = u->call;
    for (int32_t i = 0; i < u->runs && c->fault.code == ERR_OK; i++) {
        cuda_launched(c, "cudnnBackendExecute");
        enum err e = fused_run(c->attention->library, u->plan, &call, &em);
        if (e != ERR_OK)
            cuda_fault_set(c, e, em.text);
        call.lengths += u->shape.examples;
        call.offsets += u->shape.examples;
    }
}

bool cuda_attention_fused_forward(struct cuda *c, const struct attention *a, const struct batch *b,
                                  struct tensor q, struct tensor k, struct tensor v,
                                  struct tensor out, float *lse) {
    struct use u = {0};
    if (!c->attention->on || b->n_tokens == 0)
        return false;
    u.shape = shape_of(a, b->n_seqs, b->max_len, false, fused_version(c->attention->library));
    if (!put(&u, FUSED_Q, q) || !put(&u, FUSED_K, k) || !put(&u, FUSED_V, v) ||
        !put(&u, FUSED_OUT, out) || !prepare(c, &u, b))
        return false;
    if (!u.plan)
        return true;
    run(c, &u);
    cuda_attention_transpose(c, u.call.data[FUSED_STATS], lse, b->n_tokens, a->n_heads);
    return true;
}

/* Rows of dk or dv of their own become columns of what they belong to. */
static void copy_rows(struct cuda *c, const struct use *u, enum fused_operand op,
                      struct tensor to) {
    const struct tensor from = {u->call.data[op], to.dtype, to.rows, to.cols, to.cols};
    if (from.data != to.data)
        cuda_rows_gather(&c->base, from, NULL, to);
}

bool cuda_attention_fused_backward(struct cuda *c, const struct attention *a, const struct batch *b,
                                   struct tensor q, struct tensor k, struct tensor v,
                                   struct tensor out, const float *lse, struct tensor dout,
                                   struct tensor dq, struct tensor dk, struct tensor dv) {
    struct attention_plans *p = c->attention;
    struct use u = {0};
    if (!p->on || b->n_tokens == 0)
        return false;
    u.shape = shape_of(a, b->n_seqs, b->max_len, true, fused_version(p->library));
    u.shape.tokens = b->n_tokens <= p->tokens ? p->tokens : power_of_two(1, b->n_tokens);
    if (!put(&u, FUSED_Q, q) || !put(&u, FUSED_K, k) || !put(&u, FUSED_V, v) ||
        !put(&u, FUSED_OUT, out) || !put(&u, FUSED_DOUT, dout) || !put(&u, FUSED_DQ, dq) ||
        !put(&u, FUSED_DK, dk) || !put(&u, FUSED_DV, dv))
        return false;
    if (grouped(&u.shape))
        u.shape.stride[FUSED_DK] = u.shape.stride[FUSED_DV] = dk.cols;
    if (!prepare(c, &u, b))
        return false;
    if (!u.plan)
        return true;
    cuda_attention_transpose(c, lse, u.call.data[FUSED_STATS], a->n_heads, b->n_tokens);
    run(c, &u);
    copy_rows(c, &u, FUSED_DK, dk);
    copy_rows(c, &u, FUSED_DV, dv);
    return true;
}
