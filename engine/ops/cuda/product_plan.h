/* product_plan: what the files of products share and nobody else sees.
 *
 * What:    the plan of a shape, and who chooses its algorithm: the job at hand, a table that came
 *          with the program, the file that processes share, or timing, in this order.
 * Owns:    struct products owns all of it.
 * Threads: one control thread.
 * Errors:  as ops.h: a fault is kept by the device.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_PRODUCT_PLAN_H
#define FFWD_ENGINE_OPS_CUDA_PRODUCT_PLAN_H

#include <cublasLt.h>

#include "engine/ops/cuda/choices.h"
#include "engine/ops/cuda/choices_file.h"
#include "engine/ops/cuda/product.h"

#define BUCKETS 1024
#define CANDIDATES 8 /* proposals that are timed */

/* All that a plan depends on; compared as bytes. */
struct key {
    int64_t m, n, k, lda, ldb, ldc, ldd;
    int32_t in_dtype, out_dtype, a_transposed, b_transposed, accumulate, biased;
    int32_t align_a, align_b, align_c, align_d;
};

struct plan {
    struct key key;
    struct plan *next;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c, d; /* in cuBLASLt's order */
    cublasLtMatmulAlgo_t algo;
};

struct products {
    cublasLtHandle_t handle;
    char *identity;      /* device, driver and library: one line */
    bool timing;         /* the environment lets proposals be timed */
    bool untimed;        /* the job at hand takes the first ones, and writes nothing down */
    struct choices *job; /* what it has chosen so far */
    struct choices_file *shipped; /* that came with the program, never written to; NULL: none */
    struct choices_file *file;    /* NULL: none */
    cudaEvent_t start, stop;      /* of timing */
    int count;
    struct plan *bucket[BUCKETS];
};

/* product.c */

/* Keeps a fault. True if rc is success. */
bool product_check(struct cuda *c, cublasStatus_t rc, const char *call);
/* Forgets all plans, and the graphs that run them. */
void product_plans_clear(struct cuda *c);
/* The library's proposals, the best first; returns how many. 0 after a fault. */
int product_propose(struct cuda *c, const struct plan *plan, cublasLtMatmulHeuristicResult_t *found,
                    int wanted);
/* Enqueues p by this algorithm. */
cublasStatus_t product_enqueue(struct cuda *c, const struct plan *plan,
                               const cublasLtMatmulAlgo_t *algo, const struct product *p);

/* product_choice.c */

enum err product_choices_open(struct cuda *c, struct err_msg *em) NODISCARD;
void product_choices_close(struct products *p);
/* The plan's algorithm. free_d: what d holds may be overwritten. False after a fault. */
bool product_choose(struct cuda *c, struct plan *plan, const struct product *p, bool free_d);

/* product_timing.c */

/* The number of the proposal to take: of those that are about as fast as the fastest, the first. d
 * is overwritten. */
int product_fastest(struct cuda *c, const struct plan *plan,
                    const cublasLtMatmulHeuristicResult_t *found, int n, const struct product *p);

#endif
