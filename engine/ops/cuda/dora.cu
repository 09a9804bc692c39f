/* dora: the norms of W + scale · B A by row, and the outputs scaled by m / n (Liu et al. 2024).
 *
 * A row's squared norm is ‖W_o‖² + 2 scale · B_o · (A W_oᵀ) + scale² · B_o (A Aᵀ) B_oᵀ: ‖W_o‖² is
 * known since linear_new, and the rest costs rank products with W and no matrix of W's size. */
#include "engine/ops/cuda/linear.h"
#include "engine/ops/cuda/product.h"
#include "engine/ops/cuda/reduce.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned STRIP = 32;               /* columns of a block of the backward pass */
constexpr unsigned GROUPS = THREADS / STRIP; /* of threads, each with every GROUPS-th token */

/* squares[row] = ‖W_row‖², a block for each row. */
template <typename T> __global__ void row_squares(view<const T> w, int64_t cols, float *squares) {
    const T *row = w.row(blockIdx.x);
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x)
        sum += static_cast<double>(to_float(row[i])) * static_cast<double>(to_float(row[i]));
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        squares[blockIdx.x] = static_cast<float>(sum);
}

/* gram [rank, rank] = A Aᵀ, a block for each element. */
__global__ void gram_elements(const float *a, int64_t in, double *gram) {
    const float *x = a + static_cast<int64_t>(blockIdx.x) * in;
    const float *y = a + static_cast<int64_t>(blockIdx.y) * in;
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < in; i += blockDim.x)
        sum += static_cast<double>(x[i]) * static_cast<double>(y[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        gram[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

/* n[o] for the outputs of a part, from p [rank, out] = A Wᵀ. */
__global__ void norm_outputs(const float *squares, const float *b, const float *p,
                             const double *gram, int64_t out, int rank, double scale, float *n) {
    int64_t o = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (o >= out)
        return;
    double square = static_cast<double>(squares[o]);
    for (int k = 0; k < rank; k++) {
        double gb = 0.0;
        for (int l = 0; l < rank; l++)
            gb += gram[k * rank + l] * static_cast<double>(b[o * rank + l]);
        square += static_cast<double>(b[o * rank + k]) *
                  (2 * scale * static_cast<double>(p[k * out + o]) + scale * scale * gb);
    }
    n[o] = square > 0.0 ? static_cast<float>(sqrt(square)) : 0.0f;
}

__global__ void fill_ones(float *n, int64_t count) {
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count)
        n[i] = 1.0f;
}

/* The magnitudes of the part that a column belongs to. */
struct magnitudes {
    int64_t end[LINEAR_PARTS];     /* of the part's columns */
    const float *m[LINEAR_PARTS];  /* by column of the whole linear; NULL: the part has no LoRA */
    float *gradient[LINEAR_PARTS]; /* the same */
    const float *n, *bias;
};
__device__ inline int part_of(const magnitudes &g, int64_t col) {
    int part = 0;
    while (part < LINEAR_PARTS - 1 && col >= g.end[part])
        part++;
    return part;
}
/* m / n: 1 where the part has no LoRA, 0 for a row of zeros. */
__device__ inline float factor_of_column(const magnitudes &g, int64_t col) {
    const float *m = g.m[part_of(g, col)];
    return !m ? 1.0f : g.n[col] > 0.0f ? m[col] / g.n[col] : 0.0f;
}

template <typename T>
__global__ void scale_outputs(magnitudes g, view<const T> z, view<const T> residual, view<T> y,
                              int64_t cols) {
    int64_t row = blockIdx.x, col = static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x;
    if (col >= cols)
        return;
    float bias = g.bias ? g.bias[col] : 0.0f;
    float value = factor_of_column(g, col) * (to_float(z.row(row)[col]) - bias) + bias;
    y.row(row)[col] =
        from_float<T>(residual.data ? value + to_float(residual.row(row)[col]) : value);
}

/* A block: STRIP columns through all tokens, so that their sums have one order. */
template <typename T>
__global__ void scale_gradients(magnitudes g, view<const T> dy, view<T> z, int64_t rows,
                                int64_t cols) {
    __shared__ float sums[GROUPS][STRIP];
    unsigned lane = threadIdx.x % STRIP, group = threadIdx.x / STRIP;
    int64_t col = static_cast<int64_t>(blockIdx.x) * STRIP + lane;
    float sum = 0.0f;
    if (col < cols) {
        float factor = factor_of_column(g, col), bias = g.bias ? g.bias[col] : 0.0f;
        for (int64_t row = group; row < rows; row += GROUPS) {
            float d = to_float(dy.row(row)[col]);
            sum += d * (to_float(z.row(row)[col]) - bias);
            z.row(row)[col] = from_float<T>(factor * d);
        }
    }
    sums[group][lane] = sum;
    __syncthreads();
    if (group > 0 || col >= cols)
        return;
    for (unsigned i = 1; i < GROUPS; i++)
        sum += sums[i][lane];
    float *gradient = g.gradient[part_of(g, col)];
    if (gradient && g.n[col] > 0.0f)
        gradient[col] += sum / g.n[col];
}

/* ---- host ---- */

extern "C" void cuda_row_squares(struct cuda *c, struct tensor w, float *squares) {
    with_type(w.dtype, [&](auto zero) {
        using T = decltype(zero);
        launch(c, "row_squares", row_squares<T>, dim3(static_cast<unsigned>(w.rows)),
               threads_for(w.cols / 8, THREADS), 0, view_of<const T>(w), w.cols, squares);
    });
}

extern "C" size_t cuda_dora_bytes(int64_t rank, int64_t out) {
    return static_cast<size_t>(rank * rank) * sizeof(double) +
           static_cast<size_t>(rank * out) * sizeof(float);
}

/* n of one part with LoRA. */
static void part_norms(struct cuda *c, const struct linear *lin, const struct lora *lora,
                       const struct adapter_mem *ad, int i, float *n) {
    int64_t rank = lora->rank[i], out = lin->first[i + 1] - lin->first[i];
    double *gram = static_cast<double *>(cuda_scratch(c, SLOT_NORMS, cuda_dora_bytes(rank, out)));
    if (!gram)
        return;
    float *p = reinterpret_cast<float *>(gram + rank * rank);
    struct tensor a = cuda_adapter_matrix(ad, lora->a[i], rank, lin->in, lin->weight.dtype);
    struct product product = {};
    product.m = rank, product.n = out, product.k = lin->in;
    product.a = factor_of(a, false);
    product.b = factor_of(tensor_rows(lin->weight, lin->first[i], out), true);
    product.alpha = 1.0f;
    product.d = {p, DTYPE_F32, rank, out, out};
    product_run(c, &product);
    launch(c, "gram_elements", gram_elements,
           dim3(static_cast<unsigned>(rank), static_cast<unsigned>(rank)),
           threads_for(lin->in / 8, THREADS), 0, ad->w + lora->a[i], lin->in, gram);
    launch(c, "norm_outputs", norm_outputs, dim3(blocks_for(out, THREADS)), THREADS, 0,
           lin->squares + lin->first[i], ad->w + lora->b[i], p, gram, out, static_cast<int>(rank),
           static_cast<double>(lora->scale), n + lin->first[i]);
}

extern "C" void cuda_dora_norms(struct device *dev, const struct linear *lin,
                                const struct lora *lora, const struct adapter_mem *ad, float *n) {
    struct cuda *c = cuda_of(dev);
    for (int i = 0; i < lin->n_parts; i++) {
        int64_t out = lin->first[i + 1] - lin->first[i];
        if (lora->rank[i] > 0)
            part_norms(c, lin, lora, ad, i, n);
        else
            launch(c, "fill_ones", fill_ones, dim3(blocks_for(out, THREADS)), THREADS, 0,
                   n + lin->first[i], out);
    }
}

static magnitudes magnitudes_of(const struct linear *lin, const struct lora *lora,
                                const struct adapter_mem *ad, const float *n) {
    magnitudes g = {};
    g.n = n;
    g.bias = lin->bias;
    for (int i = 0; i < LINEAR_PARTS; i++) {
        g.end[i] = lin->first[i < lin->n_parts ? i + 1 : lin->n_parts];
        if (i < lin->n_parts && lora->rank[i] > 0) {
            g.m[i] = ad->w + lora->m[i] - lin->first[i];
            g.gradient[i] = ad->g + lora->m[i] - lin->first[i];
        }
    }
    return g;
}

extern "C" void cuda_dora_forward(struct device *dev, const struct linear *lin,
                                  const struct lora *lora, const struct adapter_mem *ad,
                                  const float *n, struct tensor z, const struct tensor *residual,
                                  struct tensor y) {
    magnitudes g = magnitudes_of(lin, lora, ad, n);
    dim3 grid(static_cast<unsigned>(z.rows), blocks_for(z.cols, THREADS));
    with_type(z.dtype, [&](auto zero) {
        using T = decltype(zero);
        view<const T> add = {};
        if (residual)
            add = view_of<const T>(*residual);
        launch(cuda_of(dev), "scale_outputs", scale_outputs<T>, grid, THREADS, 0, g,
               view_of<const T>(z), add, view_of<T>(y), z.cols);
    });
}

extern "C" void cuda_dora_backward(struct device *dev, const struct linear *lin,
                                   const struct lora *lora, const struct adapter_mem *ad,
                                   const float *n, struct tensor dy, struct tensor z) {
    magnitudes g = magnitudes_of(lin, lora, ad, n);
    with_type(z.dtype, [&](auto zero) {
        using T = decltype(zero);
        launch(cuda_of(dev), "scale_gradients", scale_gradients<T>, dim3(blocks_for(z.cols, STRIP)),
               THREADS, 0, g, view_of<const T>(dy), view_of<T>(z), z.rows, z.cols);
    });
}
