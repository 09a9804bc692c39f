/* activation: SiLU and GELU, gated or not, and their derivatives in place. */
#include "engine/ops/cuda/element.cuh"

constexpr unsigned THREADS = 256;
constexpr float SQRT_2_OVER_PI = 0.79788456080286535588f;
constexpr float SQRT_1_2 = 0.70710678118654752440f;
constexpr float ONE_OVER_SQRT_2PI = 0.39894228040143267794f;
constexpr float CUBIC = 0.044715f;
constexpr float FAR = 30.0f; /* tanh is ±1 from here on; its argument must not overflow */

struct slope {
    float value, derivative;
};

/* act(x) and act'(x). The forms are those that stay finite for every finite x. */
template <int KIND> __device__ inline slope activate(float x) {
    if (KIND == ACT_SILU) {
        float s = 1.0f / (1.0f + expf(-x));
        return {x * s, s * (1.0f + x * (1.0f - s))};
    }
    if (KIND == ACT_GELU) {
        float phi = 0.5f * erfcf(-x * SQRT_1_2);
        return {x * phi, phi + x * expf(-0.5f * x * x) * ONE_OVER_SQRT_2PI};
    }
    float y = fminf(fmaxf(x, -FAR), FAR);
    float t = tanhf(SQRT_2_OVER_PI * (y + CUBIC * y * y * y));
    return {0.5f * x * (1.0f + t), 0.5f * (1.0f + t) + 0.5f * y * (1.0f - t * t) * SQRT_2_OVER_PI *
                                                           (1.0f + 3.0f * CUBIC * y * y)};
}

/* out = act(in), or act(gate) · up with in = gate|up. Block x is a row, block y a piece of it. */
template <typename T, int N, int KIND, bool GATED>
__global__ void act_rows(view<const T> in, view<T> out, int64_t cols) {
    int64_t row = blockIdx.x;
    int64_t col = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * N;
    if (col >= cols)
        return;
    float x[N], up[N];
    load<T, N>(x, in.row(row) + col);
    if (GATED)
        load<T, N>(up, in.row(row) + cols + col);
    for (int i = 0; i < N; i++)
        x[i] = activate<KIND>(x[i]).value * (GATED ? up[i] : 1.0f);
    store<T, N>(out.row(row) + col, x);
}

template <typename T, int N, int KIND, bool GATED>
__global__ void act_back(view<const T> dout, view<T> in, int64_t cols) {
    int64_t row = blockIdx.x;
    int64_t col = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * N;
    if (col >= cols)
        return;
    float d[N], x[N], up[N];
    load<T, N>(d, dout.row(row) + col);
    load<T, N>(x, in.row(row) + col);
    if (GATED)
        load<T, N>(up, in.row(row) + cols + col);
    for (int i = 0; i < N; i++) {
        slope s = activate<KIND>(x[i]);
        x[i] = d[i] * s.derivative * (GATED ? up[i] : 1.0f);
        up[i] = d[i] * s.value;
    }
    store<T, N>(in.row(row) + col, x);
    if (GATED)
        store<T, N>(in.row(row) + cols + col, up);
}

/* ---- host ---- */

/* f(number<KIND>(), number<GATED>()) */
template <typename F> static void with_act(const struct act *a, F f) {
    auto gated = [&](auto kind) {
        if (a->gated)
            f(kind, number<1>());
        else
            f(kind, number<0>());
    };
    if (a->kind == ACT_SILU)
        gated(number<ACT_SILU>());
    else if (a->kind == ACT_GELU)
        gated(number<ACT_GELU>());
    else
        gated(number<ACT_GELU_TANH>());
}

/* f(T(), number<N>(), number<KIND>(), number<GATED>(), grid); narrow: the [T, I] side. */
template <typename F>
static void each_piece(const struct act *a, struct tensor in, struct tensor narrow, F f) {
    with_type(in.dtype, [&](auto zero) {
        using T = decltype(zero);
        with_width<T>(is_wide(in) && is_wide(narrow), [&](auto width) {
            dim3 grid(static_cast<unsigned>(narrow.rows),
                      blocks_for(narrow.cols, THREADS * decltype(width)::value));
            with_act(a, [&](auto kind, auto gated) { f(zero, width, kind, gated, grid); });
        });
    });
}

extern "C" void cuda_act_forward(struct device *dev, const struct act *a, struct tensor in,
                                 struct tensor out) {
    each_piece(a, in, out, [&](auto zero, auto width, auto kind, auto gated, dim3 grid) {
        using T = decltype(zero);
        launch(
            cuda_of(dev), "act_rows",
            act_rows<T, decltype(width)::value, decltype(kind)::value, decltype(gated)::value != 0>,
            grid, THREADS, 0, view_of<const T>(in), view_of<T>(out), out.cols);
    });
}

extern "C" void cuda_act_backward(struct device *dev, const struct act *a, struct tensor dout,
                                  struct tensor in) {
    each_piece(a, in, dout, [&](auto zero, auto width, auto kind, auto gated, dim3 grid) {
        using T = decltype(zero);
        launch(
            cuda_of(dev), "act_back",
            act_back<T, decltype(width)::value, decltype(kind)::value, decltype(gated)::value != 0>,
            grid, THREADS, 0, view_of<const T>(dout), view_of<T>(in), dout.cols);
    });
}
