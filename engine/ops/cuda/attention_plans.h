/* attention_plans: who computes attention, the library or our own kernels.
 *
 * What:    on Hopper, where cuDNN is there, bf16 attention is run by its plans (attention_cudnn.h),
 *          kept by shape. What it does not take, or takes too much memory for, our kernels do.
 * Owns:    the library and the plans.
 * Threads: one control thread.
 * Errors:  as ops.h: a fault is kept by the device.
 *
 * FFWD_CUDA_ATTENTION=own leaves all to our kernels; FFWD_CUDA_ATTENTION=cudnn asks for the library
 * on any device, and refuses to open one without it.
 *
 * Both give the same bytes every time, but not the same bytes as each other: who computes is among
 * the choices of a job (choices_text of ops.h), with the library's version. Within a job it follows
 * from the shape alone.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_ATTENTION_PLANS_H
#define FFWD_ENGINE_OPS_CUDA_ATTENTION_PLANS_H

#include "engine/ops/cuda/attention_cudnn.h"
#include "engine/ops/cuda/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum err cuda_attention_open(struct cuda *c, struct err_msg *em) NODISCARD;
void cuda_attention_close(struct cuda *c);

/* "own" or "cudnn-" and the version; the caller frees. */
char *cuda_attention_choice(const struct cuda *c);
/* From now on as such a text says; NULL: as if nothing had come before. False: it cannot be, or the
 * environment forbids it, and the device chooses anew. */
bool cuda_attention_choose(struct cuda *c, const char *choice);

/* Bytes of SLOT_FUSED for operations of up to these shapes. */
size_t cuda_attention_bytes(const struct cuda *c, const struct op_shapes *most);
/* Batches with a backward pass have up to so many tokens; memory is laid out for them. */
void cuda_attention_reserve(struct cuda *c, const struct op_shapes *most);

/* True: cuDNN does it, or there is a fault; false: nothing was done. As the operations of ops.h. */
bool cuda_attention_fused_forward(struct cuda *c, const struct attention *a, const struct batch *b,
                                  struct tensor q, struct tensor k, struct tensor v,
                                  struct tensor out, float *lse);
bool cuda_attention_fused_backward(struct cuda *c, const struct attention *a, const struct batch *b,
                                   struct tensor q, struct tensor k, struct tensor v,
                                   struct tensor out, const float *lse, struct tensor dout,
                                   struct tensor dq, struct tensor dk, struct tensor dv);

/* The plan of a library of this version for a batch of up to so many tokens in up to so many
 * examples: q, k, v and their gradients are columns of one matrix, all else is dense. */
struct fused_shape cuda_attention_shape(const struct attention *a, int32_t examples,
                                        int32_t longest, int64_t tokens, bool backward,
                                        int32_t version);
/* The most workspace that a plan may ask for. */
size_t cuda_attention_workspace_most(const struct fused_shape *s, int32_t version);

/* ---- attention_pack.cu ---- */

/* lengths [examples] and offsets [FUSED_OPERANDS, examples + 1] of the batch's examples, and of
 * empty ones at its end. */
void cuda_attention_pack(struct cuda *c, const struct fused_shape *s, const struct batch *b,
                         int32_t examples, int32_t *lengths, int32_t *offsets);
/* to [cols, rows] = fromᵀ, from [rows, cols] */
void cuda_attention_transpose(struct cuda *c, const float *from, float *to, int64_t rows,
                              int64_t cols);

#ifdef __cplusplus
}
#endif

#endif
