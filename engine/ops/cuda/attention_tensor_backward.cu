/* attention_tensor_backward: the algorithm of attention_backward.cu on tensor cores: a kernel whose
 * blocks own keys (dK, dV) and one whose blocks own queries (dQ), so that no atomics are needed. */
#include "engine/ops/cuda/attention_tensor.cuh"

constexpr int OTHER = 32; /* rows of a tile that a block walks over */

struct tensor_backward_args {
    struct attention a;
    const int32_t *seq_start;
    int64_t n_tokens;
    const float *lse, *delta; /* [heads, T] */
    view<const bf16> q, k, v, dout;
};

/* Shared memory: two tiles of own rows, two of others, and two numbers for each other row. */
template <int D> struct tensor_tiles {
    bf16 *own[2], *other[2];
    float *lse, *delta;
    __device__ explicit tensor_tiles(float *shared) {
        own[0] = reinterpret_cast<bf16 *>(shared);
        own[1] = own[0] + OWN * PITCH<D>;
        other[0] = own[1] + OWN * PITCH<D>;
        other[1] = other[0] + OTHER * PITCH<D>;
        lse = reinterpret_cast<float *>(other[1] + OTHER * PITCH<D>);
        delta = lse + OTHER;
    }
    static constexpr size_t bytes() {
        return (2 * OWN + 2 * OTHER) * PITCH<D> * sizeof(bf16) + 2 * OTHER * sizeof(float);
    }
};

/* From a score and dout · v: P and dS = scale · P · (dout · v - D). */
__device__ inline void turn(float &score, float &dp, bool seen, float scale, float lse,
                            float delta) {
    float p = seen ? expf(scale * score - lse) : 0.0f;
    dp = scale * p * (dp - delta);
    score = p;
}

template <int D>
__global__ void __launch_bounds__(TENSOR_THREADS)
    key_gradients_tensor(tensor_backward_args f, view<bf16> dk, view<bf16> dv) {
    extern __shared__ float shared[];
    tensor_tiles<D> t(shared); /* own: k, v; other: q, dout */
    example e = example_at(f.seq_start, blockIdx.z);
    int32_t first = static_cast<int32_t>(blockIdx.x) * OWN, window = f.a.window;
    if (first >= e.len)
        return;
    int kv = static_cast<int>(blockIdx.y), group = f.a.n_heads / f.a.n_kv_heads;
    int own = static_cast<int>(threadIdx.x / WARP) * 16, thread = static_cast<int>(threadIdx.x);
    int32_t end = window > 0 && first + OWN + window - 1 < e.len ? first + OWN + window - 1 : e.len;
    sums<D> dk_sum, dv_sum;
    dk_sum.clear();
    dv_sum.clear();
    load_rows<D, OWN>(t.own[0], f.k, kv, e, first);
    load_rows<D, OWN>(t.own[1], f.v, kv, e, first);
    for (int head = kv * group; head < (kv + 1) * group; head++)
        for (int32_t q0 = first; q0 < end; q0 += OTHER) {
            __syncthreads();
            load_rows<D, OTHER>(t.other[0], f.q, head, e, q0);
            load_rows<D, OTHER>(t.other[1], f.dout, head, e, q0);
            if (thread < OTHER) {
                int64_t at = head * f.n_tokens + e.start + q0 + thread;
                bool inside = q0 + thread < e.len;
                t.lse[thread] = inside ? f.lse[at] : 0.0f;
                t.delta[thread] = inside ? f.delta[at] : 0.0f;
            }
            __syncthreads();
            sums<OTHER> p, ds; /* [keys, queries] */
            p.clear();
            ds.clear();
            multiply_rows<D, OTHER>(p, t.own[0], own, t.other[0]);
            multiply_rows<D, OTHER>(ds, t.own[1], own, t.other[1]);
            for (int j = 0; j < OTHER / 8; j++)
                for (int i = 0; i < 4; i++) {
                    int col = sum_col(j, i);
                    bool seen =
                        q0 + col < e.len && sees(q0 + col, first + own + sum_row(i), window);
                    turn(p.v[j][i], ds.v[j][i], seen, f.a.scale, t.lse[col], t.delta[col]);
                }
            add_rows<D, OTHER>(dv_sum, p, t.other[1]);
            add_rows<D, OTHER>(dk_sum, ds, t.other[0]);
        }
    save_rows<D>(dk_sum, dk, kv, e, first + own);
    save_rows<D>(dv_sum, dv, kv, e, first + own);
}

template <int D>
__global__ void __launch_bounds__(TENSOR_THREADS)
    query_gradients_tensor(tensor_backward_args f, view<bf16> dq) {
    extern __shared__ float shared[];
    tensor_tiles<D> t(shared); /* own: q, dout; other: k, v */
    example e = example_at(f.seq_start, blockIdx.z);
    int32_t first = static_cast<int32_t>(blockIdx.x) * OWN, window = f.a.window;
    if (first >= e.len)
        return;
    int head = static_cast<int>(blockIdx.y), kv = head / (f.a.n_heads / f.a.n_kv_heads);
    int own = static_cast<int>(threadIdx.x / WARP) * 16;
    int32_t oldest = window > 0 && first >= window ? first - window + 1 : 0;
    int32_t end = first + OWN < e.len ? first + OWN : e.len;
    float lse[2], delta[2]; /* of the lane's two rows */
    for (int low = 0; low < 2; low++) {
        int32_t query = first + own + sum_row(2 * low);
        int64_t at = head * f.n_tokens + e.start + query;
        lse[low] = query < e.len ? f.lse[at] : 0.0f;
        delta[low] = query < e.len ? f.delta[at] : 0.0f;
    }
    sums<D> sum;
    sum.clear();
    load_rows<D, OWN>(t.own[0], f.q, head, e, first);
    load_rows<D, OWN>(t.own[1], f.dout, head, e, first);
    for (int32_t k0 = oldest / OTHER * OTHER; k0 < end; k0 += OTHER) {
        __syncthreads();
        load_rows<D, OTHER>(t.other[0], f.k, kv, e, k0);
        load_rows<D, OTHER>(t.other[1], f.v, kv, e, k0);
        __syncthreads();
        sums<OTHER> p, ds; /* [queries, keys] */
        p.clear();
        ds.clear();
        multiply_rows<D, OTHER>(p, t.own[0], own, t.other[0]);
        multiply_rows<D, OTHER>(ds, t.own[1], own, t.other[1]);
        for (int j = 0; j < OTHER / 8; j++)
            for (int i = 0; i < 4; i++) {
                int32_t query = first + own + sum_row(i);
                bool seen = query < e.len && sees(query, k0 + sum_col(j, i), window);
                turn(p.v[j][i], ds.v[j][i], seen, f.a.scale, lse[i / 2], delta[i / 2]);
            }
        add_rows<D, OTHER>(sum, ds, t.other[0]);
    }
    save_rows<D>(sum, dq, head, e, first + own);
}

extern "C" bool cuda_attention_tensor_backward(struct cuda *c, const struct attention *a,
                                               const struct batch *b, struct tensor q,
                                               struct tensor k, struct tensor v, const float *lse,
                                               const float *delta, struct tensor dout,
                                               struct tensor dq, struct tensor dk,
                                               struct tensor dv) {
    if (!takes_tensor_cores(a->head_dim, q, k, v, dout, dq, dk, dv))
        return false;
    tensor_backward_args f = {*a,
                              b->seq_start,
                              b->n_tokens,
                              lse,
                              delta,
                              view_of<const bf16>(q),
                              view_of<const bf16>(k),
                              view_of<const bf16>(v),
                              view_of<const bf16>(dout)};
    unsigned tiles = blocks_for(b->max_len, OWN), seqs = static_cast<unsigned>(b->n_seqs);
    dim3 keys(tiles, static_cast<unsigned>(a->n_kv_heads), seqs);
    dim3 queries(tiles, static_cast<unsigned>(a->n_heads), seqs);
    with_tensor_head(a->head_dim, [&](auto size) {
        constexpr int D = decltype(size)::value;
        launch(c, "key_gradients_tensor", key_gradients_tensor<D>, keys, TENSOR_THREADS,
               tensor_tiles<D>::bytes(), f, view_of<bf16>(dk), view_of<bf16>(dv));
        launch(c, "query_gradients_tensor", query_gradients_tensor<D>, queries, TENSOR_THREADS,
               tensor_tiles<D>::bytes(), f, view_of<bf16>(dq));
    });
    return true;
}
