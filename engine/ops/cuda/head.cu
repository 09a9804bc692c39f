/* head: cross entropy through the frozen output matrix, a chunk of rows at a time. Logits of one
 * chunk are all that is ever stored, in f32; they are overwritten by their gradient, in the type of
 * the matrix, and dx is that gradient's product with it. */
#include "engine/ops/cuda/linear.h"
#include "engine/ops/cuda/product.h"
#include "engine/ops/cuda/reduce.cuh"

constexpr unsigned THREADS = 512;
constexpr int64_t LOGIT_BYTES = static_cast<int64_t>(512) << 20; /* of a chunk */
constexpr int64_t CHUNK_ROWS = 4096, CHUNK_ROWS_MIN = 64;

/* The largest of what a thread has seen, its lowest column, and Σ exp(logit - max). */
struct summary {
    float max, sum;
    int32_t arg;
};

__device__ inline bool is_better(float max, int32_t arg, const summary &than) {
    return max > than.max || (max == than.max && arg < than.arg);
}

/* Both together. Symmetric in its arguments, so that all lanes of a butterfly agree. */
__device__ inline summary merge(summary a, summary b) {
    summary best = is_better(b.max, b.arg, a) ? b : a;
    if (best.max == -INFINITY)
        return best;
    best.sum = a.sum * expf(a.max - best.max) + b.sum * expf(b.max - best.max);
    return best;
}

/* One more logit of a higher column: one exponential. A NaN stays in the sum. */
__device__ inline void include(summary &s, float logit, int32_t column) {
    if (logit > s.max) {
        s.sum = s.sum * expf(s.max - logit) + 1.0f;
        s.max = logit;
        s.arg = column;
    } else if (logit != -INFINITY) {
        s.sum += expf(logit - s.max);
    }
}

__device__ inline summary block_merge(summary s) {
    __shared__ summary warps[WARP];
    for (int step = WARP / 2; step > 0; step /= 2) {
        summary other = {__shfl_xor_sync(WHOLE_WARP, s.max, step),
                         __shfl_xor_sync(WHOLE_WARP, s.sum, step),
                         __shfl_xor_sync(WHOLE_WARP, s.arg, step)};
        s = merge(s, other);
    }
    if (threadIdx.x % WARP == 0)
        warps[threadIdx.x / WARP] = s;
    __syncthreads();
    summary all = warps[0];
    for (unsigned w = 1; w < blockDim.x / WARP; w++)
        all = merge(all, warps[w]);
    return all;
}

/* Of a row that has no target. */
template <typename T>
__device__ void no_loss(T *gradient, int64_t vocab, bool wanted, float *nll, uint8_t *correct) {
    if (threadIdx.x == 0) {
        *nll = 0.0f;
        *correct = 0;
    }
    for (int64_t i = threadIdx.x; wanted && i < vocab; i += blockDim.x)
        gradient[i] = from_float<T>(0.0f);
}

/* A block: one row of logits. With scale, its value times softmax - onehot replaces them in place:
 * elements of T are no larger than f32, so a tile's results never reach what the next tiles still
 * have to read. */
template <typename T>
__global__ void loss_rows(float *logits, int64_t vocab, const int32_t *targets, const float *scale,
                          float *nll, uint8_t *correct) {
    int64_t row = blockIdx.x;
    float *z = logits + row * vocab;
    T *out = reinterpret_cast<T *>(z);
    int32_t target = targets[row];
    if (target < 0) {
        no_loss(out, vocab, scale != nullptr, nll + row, correct + row);
        return;
    }
    float at_target = z[target];
    summary s = {-INFINITY, 0.0f, INT32_MAX};
    for (int64_t i = threadIdx.x; i < vocab; i += blockDim.x)
        include(s, z[i], static_cast<int32_t>(i));
    s = block_merge(s);
    float lse = s.max + logf(s.sum), loss = lse - at_target;
    float factor = scale && loss < INFINITY ? *scale : NAN;
    if (threadIdx.x == 0) {
        nll[row] = loss;
        correct[row] = s.arg == target;
    }
    for (int64_t first = 0; scale && first < vocab; first += blockDim.x) {
        int64_t i = first + threadIdx.x;
        float d = i < vocab ? expf(z[i] - lse) - (i == target ? 1.0f : 0.0f) : 0.0f;
        __syncthreads();
        if (i < vocab)
            out[i] = from_float<T>(factor * d);
        __syncthreads();
    }
}

extern "C" int64_t cuda_head_chunk(int64_t rows, int64_t vocab) {
    int64_t most = LOGIT_BYTES / (static_cast<int64_t>(sizeof(float)) * (vocab > 0 ? vocab : 1));
    most = most > CHUNK_ROWS ? CHUNK_ROWS : most < CHUNK_ROWS_MIN ? CHUNK_ROWS_MIN : most;
    return rows < most ? rows : most;
}

/* logits = x Wᵀ + bias, in f32. */
static void make_logits(struct cuda *c, const struct linear *head, struct tensor x,
                        struct tensor logits) {
    struct product p = {};
    p.m = x.rows, p.n = head->out, p.k = head->in;
    p.a = factor_of(x, false);
    p.b = factor_of(head->weight, true);
    p.alpha = 1.0f;
    p.bias = linear_bias(head, DTYPE_F32);
    p.d = logits;
    product_run(c, &p);
}

/* dx = gradient W; the gradient's rows begin where the logits' did. */
static void make_dx(struct cuda *c, const struct linear *head, struct tensor logits,
                    struct tensor dx) {
    struct product p = {};
    struct tensor gradient = logits;
    gradient.dtype = dx.dtype;
    gradient.stride = logits.stride * static_cast<int64_t>(sizeof(float) / dtype_size(dx.dtype));
    p.m = dx.rows, p.n = head->in, p.k = head->out;
    p.a = factor_of(gradient, false);
    p.b = factor_of(head->weight, false);
    p.alpha = 1.0f;
    p.d = dx;
    product_run(c, &p);
}

extern "C" void cuda_head_loss(struct device *dev, const struct linear *head, struct tensor x,
                               const int32_t *targets, const float *grad_scale, float *nll,
                               uint8_t *correct, const struct tensor *dx) {
    struct cuda *c = cuda_of(dev);
    int64_t chunk = cuda_head_chunk(x.rows, head->out);
    size_t bytes = static_cast<size_t>(chunk * head->out) * sizeof(float);
    float *memory = static_cast<float *>(cuda_scratch(c, SLOT_LOGITS, bytes));
    for (int64_t first = 0; memory && first < x.rows; first += chunk) {
        int64_t rows = x.rows - first < chunk ? x.rows - first : chunk;
        struct tensor logits = {memory, DTYPE_F32, rows, head->out, head->out};
        make_logits(c, head, tensor_rows(x, first, rows), logits);
        with_type(x.dtype, [&](auto zero) {
            launch(c, "loss_rows", loss_rows<decltype(zero)>, dim3(static_cast<unsigned>(rows)),
                   threads_for(head->out / 8, THREADS), 0, memory, head->out, targets + first,
                   dx ? grad_scale : nullptr, nll + first, correct + first);
        });
        if (dx)
            make_dx(c, head, logits, tensor_rows(*dx, first, rows));
    }
}
