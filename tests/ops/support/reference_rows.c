/* reference: norms, rotation, activations, AdamW. */
#include <math.h>

#include "tests/ops/support/reference.h"

static void norm_stats(enum norm_kind kind, double eps, const double *x, int64_t n, double *mean,
                       double *inv) {
    double square = 0;
    *mean = 0;
    for (int64_t i = 0; i < n && kind == NORM_LAYER; i++)
        *mean += x[i] / (double)n;
    for (int64_t i = 0; i < n; i++)
        square += (x[i] - *mean) * (x[i] - *mean) / (double)n;
    *inv = 1.0 / sqrt(square + eps);
}

void ref_norm_forward(enum norm_kind kind, double eps, struct mat x, struct mat weight,
                      struct mat bias, struct mat y) {
    for (int64_t t = 0; t < x.rows; t++) {
        double mean, inv;
        norm_stats(kind, eps, mat_at(x, t, 0), x.cols, &mean, &inv);
        for (int64_t i = 0; i < x.cols; i++)
            *mat_at(y, t, i) =
                (*mat_at(x, t, i) - mean) * inv * weight.v[i] + (bias.v ? bias.v[i] : 0.0);
    }
}

/* d y_j / d x_i = w_j inv (δ_ij - [layer] 1/n - u_i u_j / n), u = (x - mean) inv */
void ref_norm_backward(enum norm_kind kind, double eps, struct mat dy, struct mat x,
                       struct mat weight, struct mat dx) {
    double n = (double)x.cols;
    for (int64_t t = 0; t < x.rows; t++) {
        double mean, inv;
        norm_stats(kind, eps, mat_at(x, t, 0), x.cols, &mean, &inv);
        for (int64_t i = 0; i < x.cols; i++) {
            double sum = 0, ui = (*mat_at(x, t, i) - mean) * inv;
            for (int64_t j = 0; j < x.cols; j++) {
                double uj = (*mat_at(x, t, j) - mean) * inv;
                double slope =
                    (i == j ? 1.0 : 0.0) - (kind == NORM_LAYER ? 1.0 / n : 0.0) - ui * uj / n;
                sum += *mat_at(dy, t, j) * weight.v[j] * inv * slope;
            }
            *mat_at(dx, t, i) += sum;
        }
    }
}

void ref_rope(struct mat cos, struct mat sin, const struct batch *host, int32_t n_heads,
              int32_t head_dim, bool inverse, struct mat x) {
    int64_t half = cos.cols;
    for (int64_t t = 0; t < x.rows; t++)
        for (int64_t h = 0; h < n_heads; h++)
            for (int64_t i = 0; i < half; i++) {
                double *x1 = mat_at(x, t, h * head_dim + i), *x2 = x1 + half;
                double c = *mat_at(cos, host->pos[t], i), s = *mat_at(sin, host->pos[t], i);
                double a = *x1, b = *x2;
                s = inverse ? -s : s;
                *x1 = a * c - b * s;
                *x2 = b * c + a * s;
            }
}

#define SQRT_2_OVER_PI 0.79788456080286535588
#define PI 3.14159265358979323846

static double act_value(enum act_kind kind, double x) {
    if (kind == ACT_SILU)
        return x / (1.0 + exp(-x));
    if (kind == ACT_GELU)
        return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
    return 0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x)));
}

static double act_slope(enum act_kind kind, double x) {
    if (kind == ACT_SILU) {
        double s = 1.0 / (1.0 + exp(-x));
        return s + x * s * (1.0 - s);
    }
    if (kind == ACT_GELU)
        return 0.5 * (1.0 + erf(x / sqrt(2.0))) + x * exp(-0.5 * x * x) / sqrt(2.0 * PI);
    double t = tanh(SQRT_2_OVER_PI * (x + 0.044715 * x * x * x));
    return 0.5 * (1.0 + t) +
           0.5 * x * (1.0 - t * t) * SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * x * x);
}

void ref_act_forward(const struct act *a, struct mat in, struct mat out) {
    for (int64_t t = 0; t < out.rows; t++)
        for (int64_t i = 0; i < out.cols; i++) {
            double up = a->gated ? *mat_at(in, t, out.cols + i) : 1.0;
            *mat_at(out, t, i) = act_value(a->kind, *mat_at(in, t, i)) * up;
        }
}

void ref_act_backward(const struct act *a, struct mat dout, struct mat in, struct mat din) {
    for (int64_t t = 0; t < dout.rows; t++)
        for (int64_t i = 0; i < dout.cols; i++) {
            double x = *mat_at(in, t, i), d = *mat_at(dout, t, i);
            double up = a->gated ? *mat_at(in, t, dout.cols + i) : 1.0;
            *mat_at(din, t, i) = d * up * act_slope(a->kind, x);
            if (a->gated)
                *mat_at(din, t, dout.cols + i) = d * act_value(a->kind, x);
        }
}

void ref_adamw(const struct adamw *o, struct mat w, struct mat g, struct mat m, struct mat v) {
    double b1 = (double)o->beta1, b2 = (double)o->beta2, norm = 0;
    for (int64_t i = 0; i < w.rows * w.cols; i++)
        norm += g.v[i] * g.v[i];
    double scale = fmin((double)o->max_norm / (sqrt(norm) + 1e-6), 1); /* as torch */
    for (int64_t i = 0; i < w.rows * w.cols; i++) {
        double gi = g.v[i] * scale;
        m.v[i] = b1 * m.v[i] + (1 - b1) * gi;
        v.v[i] = b2 * v.v[i] + (1 - b2) * gi * gi;
        double mean = m.v[i] / (1 - pow(b1, (double)o->step));
        double square = v.v[i] / (1 - pow(b2, (double)o->step));
        w.v[i] -= (double)o->lr * (double)o->weight_decay * w.v[i];
        w.v[i] -= (double)o->lr * mean / (sqrt(square) + (double)o->eps);
    }
}
