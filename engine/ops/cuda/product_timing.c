/* product_timing: which of the library's proposals is the fastest for a shape.
 *
 * Each is run once without counting: its code is loaded then. Then all are timed in turns, to
 * and fro, so that a clock that drifts meets them alike, and of each its best round counts: what
 * disturbs a round only makes it longer. Of those that are within MARGIN of the fastest the
 * library's earliest is taken: among near ties noise has no say, as long as it stays below the
 * margin. */
#include <math.h>

#include "engine/ops/cuda/product_plan.h"

#define ROUNDS 5
#define MARGIN 1.03f
#define HOPEFUL 2        /* rounds for all; from then on not for those that take */
#define HOPELESS 1.5f    /* times the fastest */
#define ROUND_MS 0.1f    /* short products are repeated until a round takes about so long, */
#define ROUND_RUNS 16    /* but no more often than this */
#define BUDGET_MS 200.0f /* for a shape: no further round begins after it */

/* Milliseconds of a run, by so many; infinity if it does not run. */
static float time_runs(struct cuda *c, const struct plan *plan, const cublasLtMatmulAlgo_t *algo,
                       const struct product *p, int runs) {
    float ms = 0;
    bool ok = cuda_check(c, cudaEventRecord(c->products->start, c->stream), "cudaEventRecord");
    for (int i = 0; i < runs && ok; i++)
        ok = product_enqueue(c, plan, algo, p) == CUBLAS_STATUS_SUCCESS;
    ok = ok && cuda_check(c, cudaEventRecord(c->products->stop, c->stream), "cudaEventRecord") &&
         cuda_wait(c, c->products->stop, "timing of products") &&
         cuda_check(c, cudaEventElapsedTime(&ms, c->products->start, c->products->stop),
                    "cudaEventElapsedTime");
    return ok ? ms / (float)runs : INFINITY;
}

static float least_of(const float *ms, int n) {
    float least = INFINITY;
    for (int i = 0; i < n; i++)
        least = fminf(least, ms[i]);
    return least;
}

/* best[i]: infinity where the proposal cannot be run. Returns the milliseconds of all. */
static float warm_up(struct cuda *c, const struct plan *plan,
                     const cublasLtMatmulHeuristicResult_t *found, int n, const struct product *p,
                     float *best) {
    float spent = 0;
    for (int i = 0; i < n; i++) {
        best[i] = INFINITY;
        if (found[i].state != CUBLAS_STATUS_SUCCESS ||
            product_enqueue(c, plan, &found[i].algo, p) != CUBLAS_STATUS_SUCCESS)
            continue;
        best[i] = time_runs(c, plan, &found[i].algo, p, 1);
        spent += 2 * best[i];
    }
    return spent;
}

static int runs_of_round(float ms) {
    float runs = ROUND_MS / ms;
    return runs > (float)ROUND_RUNS ? ROUND_RUNS : runs > 1.0f ? (int)runs : 1;
}

int product_fastest(struct cuda *c, const struct plan *plan,
                    const cublasLtMatmulHeuristicResult_t *found, int n, const struct product *p) {
    float best[CANDIDATES], spent = warm_up(c, plan, found, n, p, best);
    float least = least_of(best, n);
    int runs = runs_of_round(least), first = 0;
    for (int round = 0; round < ROUNDS && spent < BUDGET_MS; round++) {
        for (int k = 0; k < n && c->fault.code == ERR_OK; k++) {
            int i = round % 2 ? n - 1 - k : k;
            if (!(best[i] < INFINITY) || (round >= HOPEFUL && best[i] > HOPELESS * least))
                continue;
            float ms = time_runs(c, plan, &found[i].algo, p, runs);
            spent += ms * (float)runs;
            best[i] = fminf(best[i], ms);
        }
        least = least_of(best, n);
    }
    while (first < n - 1 && !(best[first] <= MARGIN * least))
        first++;
    return c->fault.code == ERR_OK && best[first] < INFINITY ? first : 0;
}
