/* model: a frozen base model on a device, and one forward/backward pass over a packed batch.
 *
 * What:    opens a Hugging Face folder (config.json + safetensors), holds the frozen weights on a
 *          device, plans the memory of a pass once, and computes loss and LoRA gradients.
 * Owns:    a model owns its weights; a pass owns its activations. Models outlive passes.
 * Threads: one control thread.
 * Errors:  a malformed folder is ERR_INPUT naming the file, the tensor or field and the byte; what
 *          does not fit is ERR_NO_MEMORY with the bytes needed.
 */
#ifndef FFWD_ENGINE_MODEL_MODEL_H
#define FFWD_ENGINE_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/model/config.h"
#include "engine/ops/ops.h"

struct model;
struct adapter; /* engine/model/adapter.h */
struct pass;

/* Reads config.json and the headers of the weight files and checks that they fit, as model_open
 * does before it allocates anything. Needs no device. */
enum err model_check(const char *dir, struct model_config *out, struct err_msg *em) NODISCARD;
/* dtype: of frozen weights and activations, DTYPE_BF16 or DTYPE_F32. */
enum err model_open(struct device *dev, const char *dir, enum dtype dtype, struct model **out,
                    struct err_msg *em) NODISCARD;
/* Random weights. */
enum err model_open_random(struct device *dev, const struct model_config *cfg, enum dtype dtype,
                           struct model **out, struct err_msg *em) NODISCARD;
/* A named shape (model_config_shape) with random weights. */
enum err model_open_shape(struct device *dev, const char *shape, enum dtype dtype,
                          struct model **out, struct err_msg *em) NODISCARD;
void model_close(struct model *m);
const struct model_config *model_config(const struct model *m);
struct device *model_device(const struct model *m);
enum dtype model_dtype(const struct model *m);
/* Weights in matrix products per token, head included: N of the FLOP convention. */
int64_t model_matmul_weights(const struct model *m);
int64_t model_config_matmul_weights(const struct model_config *c);
/* FLOPs of one forward pass over sequences of these lengths: 2·N·tokens + causal attention
 * (4·heads·head_dim·Σ len·(len+1)/2 per layer). A LoRA training step is counted as twice that. */
double model_forward_flops(const struct model *m, const int32_t *lengths, int n);

/* What a pass must be able to hold. */
struct pass_limits {
    int32_t tokens, seqs, targets;
    bool training; /* keep activations for the backward pass */
    /* Of so many layers, the lowest with LoRA, only the input is kept: the backward pass computes
     * the rest of their activations again, to the same bytes. */
    int32_t recomputed;
};
/* adapter NULL: base alone (evaluation only). Plans and allocates everything; passes allocate
 * nothing afterwards. */
enum err pass_new(struct model *m, struct adapter *ad, const struct pass_limits *limits,
                  struct pass **out, struct err_msg *em) NODISCARD;
/* A pass for evaluation in the memory of a training pass, which is as good as unused between two
 * steps: without activations to keep, far more tokens fit there. *tokens (≥ 1, targets among them)
 * is lowered to what fits; examples are no longer than owner's. The answer follows from owner's
 * limits, model and adapter alone. Freed before owner. Each of the two overwrites what the other
 * left in memory. */
enum err pass_new_inside(struct pass *owner, int32_t seqs, int32_t *tokens, struct pass **out,
                         struct err_msg *em) NODISCARD;
void pass_free(struct pass *p);
size_t pass_bytes(const struct pass *p); /* device bytes it holds */

/* A packed batch in host memory; see struct batch for the fields. */
struct host_batch {
    int32_t n_tokens, n_seqs, n_targets;
    const int32_t *ids, *pos, *seq_start, *target_rows, *target_ids;
    const uint64_t *keys;
};

/* Forward only. nll [n_targets] (nats) and correct [n_targets] (may be NULL) are host memory. */
enum err pass_eval(struct pass *p, const struct host_batch *b, float *nll, uint8_t *correct,
                   struct err_msg *em) NODISCARD;
/* Forward and backward: adds grad_scale · d Σnll / d(A, B) to the adapter's gradient. drop: p, seed
 * and step of LoRA dropout; the site is set by the model. */
enum err pass_train(struct pass *p, const struct host_batch *b, float grad_scale,
                    const struct dropout *drop, float *nll, uint8_t *correct,
                    struct err_msg *em) NODISCARD;
/* The same in two halves, so that the host prepares batches while the device computes: a start
 * enqueues a batch, which may be changed once it returns; pass_losses waits for the oldest one that
 * is under way, and gives the losses of its *n targets. Of one pass at most PASS_STARTED batches
 * are. */
enum { PASS_STARTED = 2 };
enum err pass_eval_start(struct pass *p, const struct host_batch *b, struct err_msg *em) NODISCARD;
enum err pass_train_start(struct pass *p, const struct host_batch *b, float grad_scale,
                          const struct dropout *drop, struct err_msg *em) NODISCARD;
/* pass_train_start in two halves: the first checks a batch and lets it set out for the device while
 * that works on those before; it may be given another one instead, and other passes may work,
 * before the second. */
enum err pass_train_load(struct pass *p, const struct host_batch *b, float grad_scale,
                         const struct dropout *drop, struct err_msg *em) NODISCARD;
enum err pass_train_loaded(struct pass *p, struct err_msg *em) NODISCARD;
enum err pass_losses(struct pass *p, float *nll, uint8_t *correct, int32_t *n,
                     struct err_msg *em) NODISCARD;
int pass_started(const struct pass *p); /* batches under way */
void pass_abandon(struct pass *p);      /* nobody asks for the losses of those under way */
/* Logits [n_rows, vocab] f32 of the first n_rows tokens of the batch, to host memory. Takes and
 * returns device memory for a few rows of logits. */
enum err pass_logits(struct pass *p, const struct host_batch *b, int32_t n_rows, float *logits,
                     struct err_msg *em) NODISCARD;

/* FLOP/s of the products of a training step alone — every frozen matrix forward and for the input's
 * gradient, head included, LoRA's own not — on the shapes of the pass's last batch, best of
 * up to `repeats`. Comes after a pass_train, whose activations it overwrites. */
enum err pass_product_speed(struct pass *p, int repeats, double *flops,
                            struct err_msg *em) NODISCARD;

#endif
