/* kernels: the inner loops of the CPU, compiled once per instruction set.
 *
 * What:    functions on rows of f32 (kernels_rows.inc, kernels_math.inc) and on blocks in cache
 *          (kernels_blocks.inc), built from the same source for each instruction set, with what
 *          the larger sets do better in their own files, and chosen when the device is opened.
 * Owns:    nothing.
 * Threads: pure functions of their arguments.
 * Errors:  none. Rows may be unaligned; in and out may be the same row where said so. Sums run in
 *          16 interleaved lanes and are folded in a fixed order, the same for every build.
 */
#ifndef FFWD_ENGINE_OPS_CPU_KERNELS_H
#define FFWD_ENGINE_OPS_CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/ops/ops.h"

/* Instruction sets, each with all that comes before it. */
enum isa { ISA_BASE, ISA_AVX2, ISA_AVX512, ISA_AVX512_BF16, ISA_AVX512_FP16, ISA_AMX, ISA_COUNT };

struct blocks; /* blocks.h */

struct kernels {
    const char *name;
    const struct blocks *f32, *bf16; /* bf16 NULL: not in this instruction set */
    void (*widen_bf16)(float *dst, const uint16_t *src, int64_t n);
    void (*widen_f16)(float *dst, const uint16_t *src, int64_t n);
    void (*narrow_bf16)(uint16_t *dst, const float *src, int64_t n); /* to nearest, ties to even */
    /* The same, by lines that go to memory and not to the cache; the caller sees to an sfence.
     * NULL: not in this instruction set. */
    void (*narrow_bf16_past_cache)(uint16_t *dst, const float *src, int64_t n);
    void (*narrow_f16)(uint16_t *dst, const float *src, int64_t n);
    /* dst = a + alpha · b; dst may be a or b */
    void (*axpy)(float *dst, const float *a, float alpha, const float *b, int64_t n);
    void (*scale)(float *dst, const float *src, float alpha, int64_t n); /* dst may be src */
    float (*dot)(const float *a, const float *b, int64_t n);
    double (*sumsq)(const float *x, int64_t n); /* in f64 */
    /* dst = src · mask / (1 - p) for the columns first … first + n - 1; first a multiple of 4;
     * dst may be src. */
    void (*dropout)(float *dst, const float *src, const struct dropout *d, uint64_t key,
                    int64_t first, int64_t n);

    /* stats[0] = mean (0 for RMS), stats[1] = 1 / sqrt(mean square + eps) */
    void (*norm_stats)(enum norm_kind kind, float eps, const float *x, int64_t n, float *stats);
    /* y = (x - mean) / std · weight + bias (bias may be NULL); y may be x */
    void (*norm_apply)(const float *x, const float *stats, const float *weight, const float *bias,
                       int64_t n, float *y);
    /* dx += d norm(x) / dx · dy */
    void (*norm_backward)(enum norm_kind kind, const float *dy, const float *x, const float *stats,
                          const float *weight, int64_t n, float *dx);

    /* one head: (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin); sign -1 turns back */
    void (*rotate)(float *x, const float *cos, const float *sin, float sign, int64_t half);

    /* out = act(in) · up (up NULL: act(in)) */
    void (*act_forward)(enum act_kind kind, const float *in, const float *up, int64_t n,
                        float *out);
    /* din and dup (NULL when up is) replace in and up */
    void (*act_backward)(enum act_kind kind, const float *dout, int64_t n, float *in, float *up);

    float (*max)(const float *x, int64_t n); /* n >= 1; NaN if there is one */
    /* x[i] = exp(scale · x[i] - shift); returns their sum */
    float (*exp_sum)(float *x, float scale, float shift, int64_t n);
    /* sum of exp(x[i] - shift), x unchanged */
    float (*sum_exp)(const float *x, float shift, int64_t n);

    /* g counts as scale · g */
    void (*adamw)(const struct adamw *o, float scale, float *w, const float *g, float *m, float *v,
                  int64_t n);
    /* c[m, n] = op(a) op(b) (+ c): the product of the plain C fallback; b is [k, n], or [n, k] if
     * b_trans; a is [m, k], or [k, m] if a_trans */
    void (*product)(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, int a_trans,
                    const float *b, int64_t ldb, int b_trans, float *c, int64_t ldc,
                    int accumulate);
};

extern const struct kernels kernels_base, kernels_avx2, kernels_avx512, kernels_avx512_bf16,
    kernels_avx512_fp16, kernels_amx;

/* The largest instruction set that this processor and system have, and that FFWD_CPU_ISA allows:
 * base, avx2, avx512, avx512_bf16, avx512_fp16 or amx. The variable exists so that every path can
 * be tested on the machine at hand. */
enum isa isa_best(void);
const char *isa_name(enum isa isa);
const struct kernels *kernels_of(enum isa isa);

#endif
