/* safetensors: one weight file, memory-mapped, and a writer of the same format.
 *
 * What:    a file is a u64 LE header length N, N bytes of JSON, then the tensors' bytes. Opening
 *          checks all of it before any byte of data is used: length bounds, UTF-8, JSON, dtypes,
 *          overflow, and that the data is covered without holes or overlaps.
 * Owns:    struct safetensors owns the mapping and the names; views live as long as it does.
 * Threads: read-only after opening.
 * Errors:  ERR_INPUT naming the file, the byte and the reason.
 *
 * Format: github.com/huggingface/safetensors, README and safetensors/src/tensor.rs.
 */
#ifndef FFWD_ENGINE_MODEL_SAFETENSORS_H
#define FFWD_ENGINE_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"

struct safetensor {
    const char *name;
    const char *dtype; /* as in the file: "F32", "BF16", … */
    int rank;
    uint64_t shape[LIMIT_TENSOR_RANK];
    const void *data; /* not aligned to more than a byte */
    size_t bytes;
};

struct safetensors;

enum err safetensors_open(const char *path, struct safetensors **out, struct err_msg *em) NODISCARD;
void safetensors_close(struct safetensors *st);
const char *safetensors_path(const struct safetensors *st);
size_t safetensors_count(const struct safetensors *st);
/* i-th tensor in the order of names. */
const struct safetensor *safetensors_at(const struct safetensors *st, size_t i);
/* NULL if there is none of that name. */
const struct safetensor *safetensors_find(const struct safetensors *st, const char *name);

/* Writes the tensors as the reference writer does — dtype by descending alignment, then name,
 * header padded with spaces to a multiple of 8, metadata {"format":"pt"} — atomically. The
 * entries' `bytes` must be what dtype and shape say. */
enum err safetensors_write(const char *path, const struct safetensor *tensors, size_t n,
                           struct err_msg *em) NODISCARD;

/* Bits of an element of a dtype; 0 for an unknown name. */
unsigned safetensors_dtype_bits(const char *dtype);
/* Place of a dtype in the format's own list, which is by rising alignment; -1 if unknown. */
int safetensors_dtype_order(const char *dtype);

#endif
