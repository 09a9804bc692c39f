/* adapter: the LoRA weights' buffers and their arithmetic. */
#include "engine/ops/cuda/reduce.cuh"

#include <string.h>

extern "C" {
#include "base/mem.h"
}

constexpr unsigned THREADS = 256;
constexpr unsigned SUM_BLOCKS = 512; /* partial sums at most; they never depend on the device */
constexpr size_t PER_THREAD = 16;

/* Index of the thread's first element, and the step to its next. */
__device__ inline size_t first_index() {
    return static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline size_t grid_step() {
    return static_cast<size_t>(gridDim.x) * blockDim.x;
}

__global__ void narrow_weights(const float *w, bf16 *work, size_t n) {
    for (size_t i = first_index(); i < n; i += grid_step())
        work[i] = from_float<bf16>(w[i]);
}

__global__ void square_sums(const float *x, size_t n, double *partial) {
    double sum = 0.0;
    for (size_t i = first_index(); i < n; i += grid_step())
        sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

/* One block: *total = Σ partial. */
__global__ void fold_sums(const double *partial, unsigned n, double *total) {
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < n; i += blockDim.x)
        sum += partial[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *total = sum;
}

/* Each element is read before it is written: dst may be a or b. */
__global__ void axpy(float *dst, const float *a, float alpha, const float *b, size_t n) {
    for (size_t i = first_index(); i < n; i += grid_step())
        dst[i] = a[i] + alpha * b[i];
}

/* o.lr, root: with the corrections 1 / (1 - βᵗ) of the moments folded in. *sumsq: ‖g‖². */
__global__ void adamw_step(struct adamw o, float root, const double *sumsq, float *w, bf16 *work,
                           const float *g, float *m, float *v, size_t n) {
    double clip = static_cast<double>(o.max_norm) / (sqrt(*sumsq) + 1e-6);
    float scale = clip < 1.0 ? static_cast<float>(clip) : 1.0f;
    if (!(*sumsq < static_cast<double>(INFINITY)))
        return;
    for (size_t i = first_index(); i < n; i += grid_step()) {
        float gi = g[i] * scale;
        float mi = o.beta1 * m[i] + (1.0f - o.beta1) * gi;
        float vi = o.beta2 * v[i] + (1.0f - o.beta2) * gi * gi;
        m[i] = mi;
        v[i] = vi;
        float wi = w[i] * (1.0f - o.weight_decay) - o.lr * mi / (sqrtf(vi) * root + o.eps);
        w[i] = wi;
        work[i] = from_float<bf16>(wi);
    }
}

/* w = base + tau · direction; direction NULL: base */
__global__ void move_weights(float *w, bf16 *work, const float *base, float tau,
                             const float *direction, size_t n) {
    for (size_t i = first_index(); i < n; i += grid_step()) {
        float wi = direction ? base[i] + tau * direction[i] : base[i];
        w[i] = wi;
        work[i] = from_float<bf16>(wi);
    }
}

/* ---- host ---- */

static dim3 grid_for(size_t n) {
    size_t blocks = (n + 4 * THREADS - 1) / (4 * THREADS);
    return dim3(static_cast<unsigned>(blocks < 4096 ? blocks : 4096));
}

extern "C" enum err cuda_adapter_alloc(struct device *dev, size_t n, enum dtype dtype,
                                       struct adapter_mem *out, struct err_msg *em) {
    (void)dtype;
    size_t bytes, all;
    void *w = nullptr;
    memset(out, 0, sizeof *out);
    if (!mem_mul(n, sizeof(float), &bytes) || !mem_mul(n, 2 * sizeof(float) + sizeof(bf16), &all) ||
        !mem_add(all, 512, &all))
        return err_set(em, ERR_NO_MEMORY, "an adapter of %zu weights does not fit in memory", n);
    bytes = (bytes + 255) / 256 * 256; /* w, g and work each begin on 256 bytes */
    all = 2 * bytes + n * sizeof(bf16);
    enum err e = cuda_mem_alloc(dev, all, &w, em);
    if (e != ERR_OK)
        return e;
    cuda_mem_zero(dev, w, all);
    out->n = n;
    out->w = static_cast<float *>(w);
    out->g = out->w + bytes / sizeof(float);
    out->work = static_cast<char *>(w) + 2 * bytes;
    return ERR_OK;
}

extern "C" void cuda_adapter_free(struct device *dev, struct adapter_mem *ad) {
    cuda_mem_free(dev, ad->w);
    memset(ad, 0, sizeof *ad);
}

extern "C" void cuda_adapter_refresh(struct device *dev, const struct adapter_mem *ad) {
    launch(cuda_of(dev), "narrow_weights", narrow_weights, grid_for(ad->n), THREADS, 0, ad->w,
           static_cast<bf16 *>(ad->work), ad->n);
}

extern "C" size_t cuda_sumsq_bytes(void) {
    return (SUM_BLOCKS + 1) * sizeof(double);
}

/* Where Σ x² will be; NULL after a fault. */
static double *sum_squares(struct cuda *c, const float *x, size_t n) {
    double *partial = static_cast<double *>(cuda_scratch(c, SLOT_PARTIALS, cuda_sumsq_bytes()));
    if (!partial)
        return nullptr;
    double *total = partial + SUM_BLOCKS;
    size_t wanted = n / (PER_THREAD * THREADS) + 1;
    unsigned blocks = wanted < SUM_BLOCKS ? static_cast<unsigned>(wanted) : SUM_BLOCKS;
    launch(c, "square_sums", square_sums, dim3(blocks), THREADS, 0, x, n, partial);
    launch(c, "fold_sums", fold_sums, dim3(1), threads_for(blocks, THREADS), 0, partial, blocks,
           total);
    return total;
}

extern "C" enum err cuda_vec_sumsq(struct device *dev, const float *x, size_t n, double *sum,
                                   struct err_msg *em) {
    const double *total = sum_squares(cuda_of(dev), x, n);
    return total ? cuda_download(dev, sum, total, sizeof *sum, em) : cuda_sync(dev, em);
}

extern "C" void cuda_vec_axpy(struct device *dev, float *dst, const float *a, float alpha,
                              const float *b, size_t n) {
    launch(cuda_of(dev), "axpy", axpy, grid_for(n), THREADS, 0, dst, a, alpha, b, n);
}

/* The sum sets out for the host before the update, and is waited for after that is under way. */
extern "C" enum err cuda_adamw(struct device *dev, const struct adamw *o,
                               const struct adapter_mem *ad, float *m, float *v, double *sumsq,
                               struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    const double *total = sum_squares(c, ad->g, ad->n);
    double step = static_cast<double>(o->step);
    struct adamw folded = *o;
    folded.weight_decay = o->lr * o->weight_decay;
    folded.lr = static_cast<float>(o->lr / (1.0 - pow(o->beta1, step)));
    float root = static_cast<float>(1.0 / sqrt(1.0 - pow(o->beta2, step)));
    if (!total)
        return cuda_sync(dev, em);
    cuda_download_begin(c, total, sizeof *total);
    launch(c, "adamw_step", adamw_step, grid_for(ad->n), THREADS, 0, folded, root, total, ad->w,
           static_cast<bf16 *>(ad->work), ad->g, m, v, ad->n);
    cuda_download_end(c, sumsq, sizeof *sumsq);
    return cuda_fault_return(c, em);
}

extern "C" void cuda_adapter_move(struct device *dev, const struct adapter_mem *ad,
                                  const float *base, float tau, const float *direction) {
    launch(cuda_of(dev), "move_weights", move_weights, grid_for(ad->n), THREADS, 0, ad->w,
           static_cast<bf16 *>(ad->work), base, tau, tau == 0.0f ? nullptr : direction, ad->n);
}
