/* reference: every operation of engine/ops/ops.h once more, in f64 and as plainly as possible.
 *
 * What:    the definition that the devices are compared with; its own derivatives are compared
 *          with finite differences of its forward pass.
 * Owns:    nothing; results go into matrices of the caller.
 * Threads: pure functions.
 * Errors:  none; shapes are the caller's duty.
 */
#ifndef FFWD_TESTS_OPS_REFERENCE_H
#define FFWD_TESTS_OPS_REFERENCE_H

#include "engine/ops/ops.h"
#include "tests/ops/support/scene.h"

/* c = a b (+ c); a_t, b_t: that matrix is transposed. */
void ref_product(struct mat a, bool a_t, struct mat b, bool b_t, struct mat c, bool accumulate);

/* A linear with parts; a[i] [rank, in], b[i] [out_i, rank]; rank 0: a[i].rows = 0. */
struct ref_linear {
    int n_parts;
    double scale;
    struct mat x, w[LINEAR_PARTS], bias[LINEAR_PARTS]; /* bias [1, out] or v NULL */
    struct mat a[LINEAR_PARTS], b[LINEAR_PARTS];
    struct mat mask;     /* [T, in], values 0 or 1 / (1 - p) */
    struct mat residual; /* v NULL: none */
};
/* s: [T, Σrank]; either may have v NULL. */
void ref_linear_forward(const struct ref_linear *l, struct mat y, struct mat s);
/* dx overwritten; da, db added to. */
void ref_linear_backward(const struct ref_linear *l, struct mat dy, struct mat dx, struct mat *da,
                         struct mat *db);
/* bias, m (1 where a part has no LoRA), n: [1, Σout]; residual v NULL: none; dm is added to. */
void ref_dora_norms(const struct ref_linear *l, struct mat n);
void ref_dora_forward(struct mat bias, struct mat m, struct mat n, struct mat z,
                      struct mat residual, struct mat y);
void ref_dora_backward(struct mat bias, struct mat m, struct mat n, struct mat dy, struct mat z,
                       struct mat dz, struct mat dm);
/* keep / (1 - p), or 0, straight from philox.h */
double ref_dropout(const struct dropout *d, uint64_t key, int64_t col);

/* weight, bias: [1, H]; bias.v may be NULL. */
void ref_norm_forward(enum norm_kind kind, double eps, struct mat x, struct mat weight,
                      struct mat bias, struct mat y);
void ref_norm_backward(enum norm_kind kind, double eps, struct mat dy, struct mat x,
                       struct mat weight, struct mat dx); /* dx added to */

/* cos, sin [positions, dim / 2] */
void ref_rope(struct mat cos, struct mat sin, const struct batch *host, int32_t n_heads,
              int32_t head_dim, bool inverse, struct mat x);

/* lse [n_heads, T] */
void ref_attention_forward(const struct attention *a, const struct batch *host, struct mat q,
                           struct mat k, struct mat v, struct mat out, struct mat lse);
void ref_attention_backward(const struct attention *a, const struct batch *host, struct mat q,
                            struct mat k, struct mat v, struct mat dout, struct mat dq,
                            struct mat dk, struct mat dv);

void ref_act_forward(const struct act *a, struct mat in, struct mat out);
void ref_act_backward(const struct act *a, struct mat dout, struct mat in, struct mat din);

/* nll [1, n], correct[n] */
void ref_head_loss(struct mat x, struct mat w, const int32_t *targets, double grad_scale,
                   struct mat nll, uint8_t *correct, struct mat dx);

void ref_adamw(const struct adamw *o, struct mat w, struct mat g, struct mat m, struct mat v);

#endif
