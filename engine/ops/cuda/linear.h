/* linear: the frozen matrices of one product on the device.
 *
 * What:    struct linear, which the loss head reads too.
 * Owns:    one block of device memory: the matrix, the squares of its rows' norms (for DoRA), and
 *          the bias in f32 and in the matrix's type.
 * Threads: read-only after linear_new.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_LINEAR_H
#define FFWD_ENGINE_OPS_CUDA_LINEAR_H

#include "engine/ops/cuda/cuda.h"

struct linear {
    int64_t in, out; /* out: of all parts together */
    int n_parts;
    int64_t first[LINEAR_PARTS + 1]; /* first row of a part; the last is out */
    struct tensor weight;            /* [out, in], the parts one below the other */
    float *squares;                  /* [out] ‖W_o‖² */
    float *bias;                     /* [out], or NULL */
    void *bias_narrow;               /* the same in the weight's type; f32: bias itself */
};

/* The bias as a product whose result is of this type wants it. */
static inline const void *linear_bias(const struct linear *lin, enum dtype result) {
    return result == DTYPE_F32 ? (const void *)lin->bias : lin->bias_narrow;
}

#endif
