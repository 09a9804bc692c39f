/* pack: which rows of a step share a forward pass.
 *
 * What:    best-fit-decreasing bin packing of row lengths into bins of a fixed capacity. Attention
 *          never crosses rows and positions restart, so packing changes speed only.
 * Owns:    struct packing owns its lists; free with packing_clear.
 * Threads: pure function.
 * Errors:  none; a row longer than the capacity gets a bin of its own.
 */
#ifndef FFWD_ENGINE_TEXT_PACK_H
#define FFWD_ENGINE_TEXT_PACK_H

#include <stdint.h>

struct packing {
    int n_bins;
    int *bin_start; /* [n_bins + 1] into order */
    int *order;     /* [n] indices into lengths; within a bin ascending */
};

/* lengths: [n] tokens. Deterministic: ties are broken by index; bins are ordered by their lowest
 * index. capacity ≤ 0: one row per bin, in order. */
void packing_make(const int32_t *lengths, int n, int64_t capacity, struct packing *out);
void packing_clear(struct packing *p);

#endif
