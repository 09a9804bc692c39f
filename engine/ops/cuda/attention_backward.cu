/* attention_backward: gradients of q, k, v with the probabilities computed again from lse (Dao et
 * al. 2022, algorithm 4). With P = exp(scale·S - lse), D = rowsum(dout · out):
 *   dV = Pᵀ dout,  dS = scale · P · (dout Vᵀ - D),  dQ = dS K,  dK = dSᵀ Q.
 * One kernel for D, one whose blocks own keys (dK, dV, over all query heads of their group), one
 * whose blocks own queries (dQ). Every sum is made by one thread in order: no atomics, the same
 * bytes every time; the price is that S and dout Vᵀ are computed twice. */
#include "engine/ops/cuda/attention.cuh"
#include "engine/ops/cuda/attention_plans.h"

template <typename T> struct backward_args {
    struct attention a;
    const int32_t *seq_start;
    int64_t n_tokens;
    const float *lse, *delta; /* [heads, T] */
    view<const T> q, k, v, dout;
};

/* D[head, token], a warp for each. */
template <typename T>
__global__ void row_products(view<const T> out, view<const T> dout, int n_heads, int head_dim,
                             int64_t n_tokens, float *delta) {
    int64_t token = blockIdx.x;
    unsigned lane = threadIdx.x % WARP;
    for (int head = static_cast<int>(threadIdx.x / WARP); head < n_heads;
         head += static_cast<int>(blockDim.x / WARP)) {
        const T *a = out.row(token) + static_cast<int64_t>(head) * head_dim;
        const T *b = dout.row(token) + static_cast<int64_t>(head) * head_dim;
        float sum = 0.0f;
        for (int i = static_cast<int>(lane); i < head_dim; i += static_cast<int>(WARP))
            sum += to_float(a[i]) * to_float(b[i]);
        sum = lanes_sum(sum, WARP);
        if (lane == 0)
            delta[head * n_tokens + token] = sum;
    }
}

/* P and dS of one query and one key. */
struct link {
    float p, ds;
};
template <typename T>
__device__ inline link link_of(const backward_args<T> &f, example e, int head, int32_t query,
                               int32_t key, const float *q, const float *k, const float *v,
                               const float *dout) {
    if (query >= e.len || key >= e.len || !sees(query, key, f.a.window))
        return {0.0f, 0.0f};
    int64_t at = head * f.n_tokens + e.start + query;
    float p = expf(f.a.scale * dot(q, k, f.a.head_dim) - f.lse[at]);
    return {p, f.a.scale * p * (dot(dout, v, f.a.head_dim) - f.delta[at])};
}

/* Shared memory: four tiles, then P and dS as [own row, other row]. */
struct tiles {
    float *q, *k, *v, *dout, *p, *ds;
};
__device__ inline tiles tiles_at(float *shared, int head_dim) {
    size_t n = tile_floats(head_dim);
    float *p = shared + 4 * n;
    return {shared, shared + n, shared + 2 * n, shared + 3 * n, p, p + ROWS * (ROWS + 1)};
}
static size_t tiles_bytes(int head_dim) {
    return (4 * tile_floats(head_dim) + 2 * ROWS * (ROWS + 1)) * sizeof(float);
}

/* A block: ROWS keys of one key/value head of one example. */
template <typename T, int COLS>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    key_gradients(backward_args<T> f, view<T> dk, view<T> dv) {
    extern __shared__ float shared[];
    int d = f.a.head_dim, stride = tile_stride(d), group = f.a.n_heads / f.a.n_kv_heads;
    tiles t = tiles_at(shared, d);
    example e = example_at(f.seq_start, blockIdx.z);
    int32_t first = static_cast<int32_t>(blockIdx.x) * ROWS;
    if (first >= e.len)
        return;
    int kv = static_cast<int>(blockIdx.y);
    int row = static_cast<int>(threadIdx.x) / LANES, lane = static_cast<int>(threadIdx.x) % LANES;
    int32_t end = f.a.window > 0 && first + ROWS + f.a.window < e.len
                      ? first + ROWS + f.a.window - 1
                      : e.len; /* no query from here on sees these keys */
    row_part<COLS> dk_sum, dv_sum;
    dk_sum.clear();
    dv_sum.clear();
    load_tile(t.k, f.k, kv, d, e, first);
    load_tile(t.v, f.v, kv, d, e, first);
    for (int head = kv * group; head < (kv + 1) * group; head++)
        for (int32_t q0 = first; q0 < end; q0 += ROWS) {
            __syncthreads();
            load_tile(t.q, f.q, head, d, e, q0);
            load_tile(t.dout, f.dout, head, d, e, q0);
            __syncthreads();
            for (int j = 0; j < PER_LANE; j++) {
                int other = lane + j * LANES;
                link l = link_of(f, e, head, q0 + other, first + row, t.q + other * stride,
                                 t.k + row * stride, t.v + row * stride, t.dout + other * stride);
                t.p[row * (ROWS + 1) + other] = l.p;
                t.ds[row * (ROWS + 1) + other] = l.ds;
            }
            __syncwarp();
            for (int other = 0; other < ROWS; other++) {
                dv_sum.add(t.p[row * (ROWS + 1) + other], t.dout + other * stride, lane, d);
                dk_sum.add(t.ds[row * (ROWS + 1) + other], t.q + other * stride, lane, d);
            }
            __syncwarp();
        }
    if (first + row >= e.len)
        return;
    int64_t column = static_cast<int64_t>(kv) * d;
    dk_sum.save(dk.row(e.start + first + row) + column, lane, d);
    dv_sum.save(dv.row(e.start + first + row) + column, lane, d);
}

/* A block: ROWS queries of one head of one example. */
template <typename T, int COLS>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    query_gradients(backward_args<T> f, view<T> dq) {
    extern __shared__ float shared[];
    int d = f.a.head_dim, stride = tile_stride(d);
    tiles t = tiles_at(shared, d);
    example e = example_at(f.seq_start, blockIdx.z);
    int32_t first = static_cast<int32_t>(blockIdx.x) * ROWS;
    if (first >= e.len)
        return;
    int head = static_cast<int>(blockIdx.y), kv = head / (f.a.n_heads / f.a.n_kv_heads);
    int row = static_cast<int>(threadIdx.x) / LANES, lane = static_cast<int>(threadIdx.x) % LANES;
    int32_t oldest = f.a.window > 0 && first >= f.a.window ? first - f.a.window + 1 : 0;
    row_part<COLS> sum;
    sum.clear();
    load_tile(t.q, f.q, head, d, e, first);
    load_tile(t.dout, f.dout, head, d, e, first);
    for (int32_t k0 = oldest / ROWS * ROWS; k0 <= first; k0 += ROWS) {
        __syncthreads();
        load_tile(t.k, f.k, kv, d, e, k0);
        load_tile(t.v, f.v, kv, d, e, k0);
        __syncthreads();
        for (int j = 0; j < PER_LANE; j++) {
            int other = lane + j * LANES;
            t.ds[row * (ROWS + 1) + other] =
                link_of(f, e, head, first + row, k0 + other, t.q + row * stride,
                        t.k + other * stride, t.v + other * stride, t.dout + row * stride)
                    .ds;
        }
        __syncwarp();
        for (int other = 0; other < ROWS; other++)
            sum.add(t.ds[row * (ROWS + 1) + other], t.k + other * stride, lane, d);
        __syncwarp();
    }
    if (first + row < e.len)
        sum.save(dq.row(e.start + first + row) + static_cast<int64_t>(head) * d, lane, d);
}

/* ---- host ---- */

template <typename T>
static void run(struct cuda *c, const backward_args<T> &f, const struct batch *b, struct tensor dq,
                struct tensor dk, struct tensor dv) {
    unsigned tiles = blocks_for(b->max_len, ROWS), seqs = static_cast<unsigned>(b->n_seqs);
    dim3 keys(tiles, static_cast<unsigned>(f.a.n_kv_heads), seqs);
    dim3 queries(tiles, static_cast<unsigned>(f.a.n_heads), seqs);
    size_t shared = tiles_bytes(f.a.head_dim);
    with_head(f.a.head_dim, [&](auto cols) {
        constexpr int COLS = decltype(cols)::value;
        launch(c, "key_gradients", key_gradients<T, COLS>, keys, ATTENTION_THREADS, shared, f,
               view_of<T>(dk), view_of<T>(dv));
        launch(c, "query_gradients", query_gradients<T, COLS>, queries, ATTENTION_THREADS, shared,
               f, view_of<T>(dq));
    });
}

extern "C" void cuda_attention_backward(struct device *dev, const struct attention *a,
                                        const struct batch *b, struct tensor q, struct tensor k,
                                        struct tensor v, struct tensor out, const float *lse,
                                        struct tensor dout, struct tensor dq, struct tensor dk,
                                        struct tensor dv) {
    struct cuda *c = cuda_of(dev);
    if (cuda_attention_fused_backward(c, a, b, q, k, v, out, lse, dout, dq, dk, dv))
        return;
    size_t bytes = static_cast<size_t>(a->n_heads) * static_cast<size_t>(b->n_tokens);
    float *delta = static_cast<float *>(cuda_scratch(c, SLOT_DELTA, bytes * sizeof(float)));
    if (!delta || !head_fits(c, a->head_dim))
        return;
    with_type(q.dtype, [&](auto zero) {
        using T = decltype(zero);
        backward_args<T> f = {*a,
                              b->seq_start,
                              b->n_tokens,
                              lse,
                              delta,
                              view_of<const T>(q),
                              view_of<const T>(k),
                              view_of<const T>(v),
                              view_of<const T>(dout)};
        launch(c, "row_products", row_products<T>, dim3(static_cast<unsigned>(b->n_tokens)),
               threads_for(a->n_heads * static_cast<int64_t>(WARP), 256), 0, view_of<const T>(out),
               view_of<const T>(dout), a->n_heads, a->head_dim, static_cast<int64_t>(b->n_tokens),
               delta);
        if (!cuda_attention_tensor_backward(c, a, b, q, k, v, lse, delta, dout, dq, dk, dv))
            run(c, f, b, dq, dk, dv);
    });
}
