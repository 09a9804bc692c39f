/* attention_forward: softmax(scale · q kᵀ) v by tiles (Dao et al. 2022): a running maximum and sum
 * for each query, so that nothing of size length² is ever in memory. A block is one tile of queries
 * of one head of one example. */
#include "engine/ops/cuda/attention.cuh"
#include "engine/ops/cuda/attention_plans.h"

struct forward_args {
    struct attention a;
    const int32_t *seq_start;
    int64_t n_tokens;
    float *lse;
};

/* A query's running maximum of the scaled scores, and the sum of exp(score - max). */
struct running {
    float max, sum;
};

/* Turns the thread's scores of a tile into weights exp(score - max); returns how much of what was
 * summed before is kept. Scores of keys that are not seen are -∞. */
__device__ inline float soften(float (&s)[PER_LANE], running &r) {
    float top = -INFINITY, sum = 0.0f;
    for (int j = 0; j < PER_LANE; j++)
        top = fmaxf(top, s[j]);
    top = fmaxf(r.max, lanes_max(top, LANES));
    float shift = top == -INFINITY ? 0.0f : top; /* no key seen so far: all weights become 0 */
    for (int j = 0; j < PER_LANE; j++) {
        s[j] = expf(s[j] - shift);
        sum += s[j];
    }
    float keep = expf(r.max - shift);
    r.sum = r.sum * keep + lanes_sum(sum, LANES);
    r.max = top;
    return keep;
}

template <typename T, int COLS>
__global__ void __launch_bounds__(ATTENTION_THREADS)
    attend(forward_args f, view<const T> q, view<const T> k, view<const T> v, view<T> out) {
    extern __shared__ float shared[];
    int d = f.a.head_dim, stride = tile_stride(d);
    float *q_tile = shared, *k_tile = q_tile + tile_floats(d), *v_tile = k_tile + tile_floats(d);
    float *weights = v_tile + tile_floats(d); /* [ROWS, ROWS + 1] */
    example e = example_at(f.seq_start, blockIdx.z);
    int32_t first = static_cast<int32_t>(blockIdx.x) * ROWS;
    if (first >= e.len)
        return;
    int head = static_cast<int>(blockIdx.y), kv = head / (f.a.n_heads / f.a.n_kv_heads);
    int row = static_cast<int>(threadIdx.x) / LANES, lane = static_cast<int>(threadIdx.x) % LANES;
    int32_t query = first + row;
    int32_t oldest = f.a.window > 0 && first >= f.a.window ? first - f.a.window + 1 : 0;
    running r = {-INFINITY, 0.0f};
    row_part<COLS> sum;
    sum.clear();
    load_tile(q_tile, q, head, d, e, first);
    for (int32_t k0 = oldest / ROWS * ROWS; k0 <= first; k0 += ROWS) {
        __syncthreads();
        load_tile(k_tile, k, kv, d, e, k0);
        load_tile(v_tile, v, kv, d, e, k0);
        __syncthreads();
        float s[PER_LANE];
        for (int j = 0; j < PER_LANE; j++) {
            int key = lane + j * LANES;
            s[j] = sees(query, k0 + key, f.a.window)
                       ? f.a.scale * dot(q_tile + row * stride, k_tile + key * stride, d)
                       : -INFINITY;
        }
        sum.scale(soften(s, r));
        for (int j = 0; j < PER_LANE; j++)
            weights[row * (ROWS + 1) + lane + j * LANES] = s[j];
        __syncwarp();
        for (int key = 0; key < ROWS; key++)
            sum.add(weights[row * (ROWS + 1) + key], v_tile + key * stride, lane, d);
        __syncwarp();
    }
    if (query >= e.len)
        return;
    sum.scale(1.0f / r.sum);
    sum.save(out.row(e.start + query) + static_cast<int64_t>(head) * d, lane, d);
    if (lane == 0)
        f.lse[head * f.n_tokens + e.start + query] = r.max + logf(r.sum);
}

extern "C" void cuda_attention_forward(struct device *dev, const struct attention *a,
                                       const struct batch *b, struct tensor q, struct tensor k,
                                       struct tensor v, struct tensor out, float *lse) {
    struct cuda *c = cuda_of(dev);
    forward_args f = {*a, b->seq_start, b->n_tokens, lse};
    dim3 grid(blocks_for(b->max_len, ROWS), static_cast<unsigned>(a->n_heads),
              static_cast<unsigned>(b->n_seqs));
    size_t floats = 3 * tile_floats(a->head_dim) + ROWS * (ROWS + 1);
    if (cuda_attention_fused_forward(c, a, b, q, k, v, out, lse) ||
        cuda_attention_tensor_forward(c, a, b, q, k, v, out, lse) || !head_fits(c, a->head_dim))
        return;
    with_type(q.dtype, [&](auto zero) {
        with_head(a->head_dim, [&](auto cols) {
            using T = decltype(zero);
            launch(c, "attend", attend<T, decltype(cols)::value>, grid, ATTENTION_THREADS,
                   floats * sizeof(float), f, view_of<const T>(q), view_of<const T>(k),
                   view_of<const T>(v), view_of<T>(out));
        });
    });
}
