/* weights: where frozen tensors come from, one at a time.
 *
 * What:    a source hands out tensors by name and shape: from the memory-mapped files of a model
 *          folder (model.safetensors, or shards with model.safetensors.index.json), or random for
 *          a named shape. Only the tensors handed out and not yet released are in host memory.
 * Owns:    the source owns the mappings; a host_tensor is released by its taker.
 * Threads: one source, one thread.
 * Errors:  ERR_INPUT naming file and tensor: missing, of another shape or dtype, not of the model.
 */
#ifndef FFWD_ENGINE_MODEL_WEIGHTS_H
#define FFWD_ENGINE_MODEL_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/model/config.h"

struct weights;

/* [rows, cols] row-major, aligned to its elements. */
struct host_tensor {
    const void *data;
    enum dtype dtype;
    int64_t rows, cols;
    void *owned; /* freed by host_tensor_release; NULL: data lies in a mapping */
};

enum err weights_open(const char *dir, struct weights **out, struct err_msg *em) NODISCARD;
/* Matrices and biases uniform in ±0.04 (zeros would flatter a benchmark), stored as dtype; norms
 * 1. The same values in every run. */
struct weights *weights_random(enum dtype dtype);
void weights_close(struct weights *w);

/* Whether the tensor is there, in a dtype that is read, with this shape (cols 0: a vector of `rows`
 * elements). Touches no data. */
enum err weights_check(struct weights *w, const char *name, int64_t rows, int64_t cols,
                       struct err_msg *em) NODISCARD;
/* After all were checked: refuses tensors that nobody asked for, except those whose names end as
 * one of `ignored` says, and head where it is a copy of embed (tied weights stored twice). */
enum err weights_finish(struct weights *w, const char *const *ignored, const char *embed,
                        const char *head, struct err_msg *em) NODISCARD;
/* Checks, and hands out the data. */
enum err weights_take(struct weights *w, const char *name, int64_t rows, int64_t cols,
                      struct host_tensor *out, struct err_msg *em) NODISCARD;
void host_tensor_release(struct host_tensor *t);
/* n elements of src as dst_dtype (F32 or BF16, rounded to nearest even). */
void convert_elements(const void *src, enum dtype src_dtype, void *dst, enum dtype dst_dtype,
                      int64_t n);

#endif
