/* product: matrix products by cuBLASLt, planned once per shape.
 *
 * What:    D = alpha · op(A) op(B) + C + bias on row-major matrices, f32 or bf16 in, sums in f32.
 * Owns:    the plans: descriptors and the algorithm of every shape seen.
 * Threads: one control thread.
 * Errors:  as ops.h: a fault is kept by the device.
 *
 * Only algorithms whose sums have a fixed order are allowed: no split sums, or split sums that are
 * added up in a separate step. Of those that the library proposes for a shape the fastest is taken,
 * timed when the shape is first seen, and kept in a file of the user's cache folder, so that the
 * same shape on the same device, driver and library gives the same bytes from then on.
 * FFWD_CUDA_ALGORITHMS names another file; "off" takes the library's first proposal and times
 * nothing. A job that is resumed has the choices of its resume point first.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_PRODUCT_H
#define FFWD_ENGINE_OPS_CUDA_PRODUCT_H

#include "engine/ops/cuda/cuda.h"

#define PRODUCT_WORKSPACE ((size_t)32 << 20)

#ifdef __cplusplus
extern "C" {
#endif

/* A matrix in memory; transposed: the product reads its transpose. */
struct factor {
    const void *data;
    enum dtype dtype;
    int64_t stride;
    bool transposed;
};

struct product {
    int64_t m, n, k;    /* D [m, n], op(A) [m, k], op(B) [k, n] */
    struct factor a, b; /* of one dtype */
    float alpha;
    const struct tensor *c; /* NULL: nothing; D's dtype; may be D itself */
    const void *bias;       /* [n] in D's dtype, or NULL */
    struct tensor d;        /* [m, n] */
};

enum err products_new(struct cuda *c, struct products **out, struct err_msg *em);
void products_free(struct cuda *c);
/* As choices_text and choices_use of ops.h, for products alone. */
char *products_text(const struct cuda *c);
bool products_use(struct cuda *c, const char *text);
/* Enqueues the product; m, n or k of 0: nothing happens. */
void product_run(struct cuda *c, const struct product *p);
/* Chooses its algorithm now, while d holds nothing that anybody needs: where algorithms are timed,
 * d is overwritten. */
void product_plan(struct cuda *c, const struct product *p);

/* t, or its transpose, as a factor. */
static inline struct factor factor_of(struct tensor t, bool transposed) {
    struct factor f = {t.data, t.dtype, t.stride, transposed};
    return f;
}

#ifdef __cplusplus
}
#endif

#endif
