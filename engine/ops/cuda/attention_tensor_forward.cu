/* attention_tensor_forward: the algorithm of attention_forward.cu on tensor cores (Dao 2023):
 * scores, weights and results stay in registers; only keys and values pass through shared memory.
 */
#include "engine/ops/cuda/attention_tensor.cuh"

constexpr int KEYS = 64; /* of a tile */

struct tensor_forward_args {
    struct attention a;
    const int32_t *seq_start;
    int64_t n_tokens;
    float *lse;
};

/* Running maximum and sum of the lane's two rows, and how much of earlier sums is kept. */
struct running_rows {
    float max[2], sum[2], keep[2];
};

/* Scores become weights exp(score - max). */
__device__ inline void soften_rows(sums<KEYS> &s, running_rows &r) {
#pragma unroll
    for (int low = 0; low < 2; low++) {
        float top = -INFINITY, sum = 0.0f;
        for (int j = 0; j < KEYS / 8; j++)
            top = fmaxf(top, fmaxf(s.v[j][2 * low], s.v[j][2 * low + 1]));
        top = fmaxf(r.max[low], lanes_max(top, 4));
        float shift = top == -INFINITY ? 0.0f : top; /* no key seen so far: weights of 0 */
        for (int j = 0; j < KEYS / 8; j++)
            for (int e = 2 * low; e < 2 * low + 2; e++) {
                s.v[j][e] = expf(s.v[j][e] - shift);
                sum += s.v[j][e];
            }
        r.keep[low] = expf(r.max[low] - shift);
        r.sum[low] = r.sum[low] * r.keep[low] + lanes_sum(sum, 4);
        r.max[low] = top;
    }
}

template <int D> __device__ inline void scale_rows(sums<D> &o, const float (&by)[2]) {
#pragma unroll
    for (int j = 0; j < D / 8; j++)
        for (int e = 0; e < 4; e++)
            o.v[j][e] *= by[e / 2];
}

template <int D>
__global__ void __launch_bounds__(TENSOR_THREADS)
    attend_tensor(tensor_forward_args f, view<const bf16> q, view<const bf16> k, view<const bf16> v,
                  view<bf16> out) {
    extern __shared__ float shared[];
    bf16 *q_tile = reinterpret_cast<bf16 *>(shared), *k_tile = q_tile + OWN * PITCH<D>;
    bf16 *v_tile = k_tile + KEYS * PITCH<D>;
    example e = example_at(f.seq_start, blockIdx.z);
    int32_t first = static_cast<int32_t>(blockIdx.x) * OWN, window = f.a.window;
    if (first >= e.len)
        return;
    int head = static_cast<int>(blockIdx.y), kv = head / (f.a.n_heads / f.a.n_kv_heads);
    int own = static_cast<int>(threadIdx.x / WARP) * 16; /* the warp's first row of the tile */
    int32_t oldest = window > 0 && first >= window ? first - window + 1 : 0;
    int32_t end = first + OWN < e.len ? first + OWN : e.len;
    running_rows r = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {0.0f, 0.0f}};
    sums<D> o;
    o.clear();
    load_rows<D, OWN>(q_tile, q, head, e, first);
    for (int32_t k0 = oldest / KEYS * KEYS; k0 < end; k0 += KEYS) {
        __syncthreads();
        load_rows<D, KEYS>(k_tile, k, kv, e, k0);
        load_rows<D, KEYS>(v_tile, v, kv, e, k0);
        __syncthreads();
        sums<KEYS> s;
        s.clear();
        multiply_rows<D, KEYS>(s, q_tile, own, k_tile);
        for (int j = 0; j < KEYS / 8; j++)
            for (int i = 0; i < 4; i++)
                s.v[j][i] = sees(first + own + sum_row(i), k0 + sum_col(j, i), window)
                                ? f.a.scale * s.v[j][i]
                                : -INFINITY;
        soften_rows(s, r);
        scale_rows<D>(o, r.keep);
        add_rows<D, KEYS>(o, s, v_tile);
    }
    for (int low = 0; low < 2; low++) {
        int32_t query = first + own + sum_row(2 * low);
        if (query < e.len && threadIdx.x % 4 == 0)
            f.lse[head * f.n_tokens + e.start + query] = r.max[low] + logf(r.sum[low]);
    }
    float norm[2] = {1.0f / r.sum[0], 1.0f / r.sum[1]};
    scale_rows<D>(o, norm);
    save_rows<D>(o, out, head, e, first + own);
}

extern "C" bool cuda_attention_tensor_forward(struct cuda *c, const struct attention *a,
                                              const struct batch *b, struct tensor q,
                                              struct tensor k, struct tensor v, struct tensor out,
                                              float *lse) {
    if (!takes_tensor_cores(a->head_dim, q, k, v, out))
        return false;
    tensor_forward_args f = {*a, b->seq_start, b->n_tokens, lse};
    dim3 grid(blocks_for(b->max_len, OWN), static_cast<unsigned>(a->n_heads),
              static_cast<unsigned>(b->n_seqs));
    with_tensor_head(a->head_dim, [&](auto size) {
        constexpr int D = decltype(size)::value;
        launch(c, "attend_tensor", attend_tensor<D>, grid, TENSOR_THREADS,
               (OWN + 2 * KEYS) * PITCH<D> * sizeof(bf16), f, view_of<const bf16>(q),
               view_of<const bf16>(k), view_of<const bf16>(v), view_of<bf16>(out));
    });
    return true;
}
