/* attention_cudnn: attention by cuDNN's fused graphs, behind a few functions.
 *
 * What:    a form of attention becomes a plan, which is run as often as wanted: bf16, causal,
 *          packed examples, grouped heads, a window; the backward pass by an algorithm that gives
 *          the same bytes every time.
 * Owns:    a plan belongs to the caller until fused_plan_free, the library until fused_close.
 * Threads: one control thread.
 * Errors:  what cuDNN does not take, or a library that is not there, is ERR_UNSUPPORTED with its
 *          reason; failed calls are ERR_DEVICE.
 *
 * Two files implement this, of which the Makefile takes one: attention_cudnn.cc, over the headers
 * of cuDNN and of its frontend, where they are; else attention_cudnn_absent.c. libcudnn.so.9 is
 * looked for when the library is opened, so ffwd runs without it.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_ATTENTION_CUDNN_H
#define FFWD_ENGINE_OPS_CUDA_ATTENTION_CUDNN_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/err.h"

/* What a graph reads and writes: matrices of a row for each token of the packed batch, bf16; the
 * statistics [T, heads] f32 are the log-sum-exp of the scaled scores. */
enum fused_operand {
    FUSED_Q,
    FUSED_K,
    FUSED_V,
    FUSED_OUT,
    FUSED_STATS,
    FUSED_DOUT,
    FUSED_DQ,
    FUSED_DK,
    FUSED_DV,
    FUSED_OPERANDS
};

/* All that a plan depends on; compared as bytes, so it is cleared before it is filled. */
struct fused_shape {
    int32_t backward; /* 0 or 1 */
    int32_t heads, kv_heads, head_dim;
    int32_t window; /* keys seen, itself included; 0: all */
    float scale;
    int32_t examples, longest;      /* a batch has at most so many, of at most so many tokens */
    int64_t tokens;                 /* of a batch, at most */
    int64_t stride[FUSED_OPERANDS]; /* elements between two tokens; 0: not used */
};

/* One run. Example i has lengths[i] tokens and begins at offsets[operand · pitch + i] elements
 * behind the operand's start; both lie in device memory, as all else does. */
struct fused_call {
    void *data[FUSED_OPERANDS]; /* 16-byte aligned */
    const int32_t *lengths;     /* [examples] */
    const int32_t *offsets;     /* [FUSED_OPERANDS, examples + 1], the last one: the end */
    int32_t pitch;
    void *workspace; /* fused_plan_workspace bytes, 256-byte aligned */
    cudaStream_t stream;
};

struct fused;
struct fused_plan;

/* sm: ten times the compute capability, 90 for Hopper. described: NULL for the current device; else
 * one that need not be here, in cuDNN's own JSON: plans can be made for it and not be run. */
enum err fused_open(int32_t sm, const char *described, struct fused **out,
                    struct err_msg *em) NODISCARD;
void fused_close(struct fused *f);
/* Of the library that was found: 91900 is 9.19.0. */
int32_t fused_version(const struct fused *f);

/* Takes about a second. */
enum err fused_plan_new(struct fused *f, const struct fused_shape *s, struct fused_plan **out,
                        struct err_msg *em) NODISCARD;
void fused_plan_free(struct fused_plan *p);
size_t fused_plan_workspace(const struct fused_plan *p);
/* The library's name for the engine and its settings. */
const char *fused_plan_name(const struct fused_plan *p);
/* Enqueues it. */
enum err fused_run(struct fused *f, const struct fused_plan *p, const struct fused_call *call,
                   struct err_msg *em) NODISCARD;

#ifdef __cplusplus
}
#endif

#endif
