/* attention_pack: what cuDNN's graphs want laid out otherwise. */
#include "engine/ops/cuda/attention_plans.h"
#include "engine/ops/cuda/element.cuh"

constexpr unsigned THREADS = 128;

__global__ void index_examples(fused_shape s, const int32_t *seq_start, int32_t n_seqs,
                               int32_t examples, int32_t *lengths, int32_t *offsets) {
    int32_t i = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i > examples)
        return;
    int32_t start = seq_start[i < n_seqs ? i : n_seqs];
    for (int op = 0; op < FUSED_OPERANDS; op++)
        offsets[op * (examples + 1) + i] = static_cast<int32_t>(start * s.stride[op]);
    if (i < examples)
        lengths[i] = i < n_seqs ? seq_start[i + 1] - start : 0;
}

/* A block: some of a row of `to`. */
__global__ void transpose(const float *from, float *to, int64_t rows, int64_t cols) {
    int64_t col = blockIdx.y, row = blockIdx.x * static_cast<int64_t>(THREADS) + threadIdx.x;
    if (row < rows)
        to[col * rows + row] = from[row * cols + col];
}

extern "C" void cuda_attention_pack(struct cuda *c, const struct fused_shape *s,
                                    const struct batch *b, int32_t examples, int32_t *lengths,
                                    int32_t *offsets) {
    launch(c, "index_examples", index_examples, dim3(blocks_for(examples + 1, THREADS)), THREADS, 0,
           *s, b->seq_start, b->n_seqs, examples, lengths, offsets);
}

extern "C" void cuda_attention_transpose(struct cuda *c, const float *from, float *to, int64_t rows,
                                         int64_t cols) {
    dim3 grid(blocks_for(rows, THREADS), static_cast<unsigned>(cols));
    launch(c, "transpose", transpose, grid, THREADS, 0, from, to, rows, cols);
}
