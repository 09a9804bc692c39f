/* reference: attention and the loss head. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/ops/support/reference.h"

/* One query: its example, and the keys it sees as rows [first, row]. */
struct query {
    int64_t row, head, kv, first;
};

static int64_t first_key(const struct attention *a, const struct batch *b, int64_t row) {
    int64_t start = row - b->pos[row];
    int64_t first = a->window > 0 ? row - a->window + 1 : start;
    return first > start ? first : start;
}

static double dot_at(struct mat a, int64_t a_row, int64_t a_head, struct mat b, int64_t b_row,
                     int64_t b_head, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++)
        sum += *mat_at(a, a_row, a_head * d + i) * *mat_at(b, b_row, b_head * d + i);
    return sum;
}

/* p[j - first]: probabilities of the keys; returns log Σ exp. */
static double softmax(const struct attention *a, const struct query *u, struct mat q, struct mat k,
                      double *p) {
    double max = -INFINITY, sum = 0;
    int64_t n = u->row - u->first + 1;
    for (int64_t j = 0; j < n; j++) {
        p[j] = (double)a->scale * dot_at(q, u->row, u->head, k, u->first + j, u->kv, a->head_dim);
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < n; j++)
        sum += p[j] = exp(p[j] - max);
    for (int64_t j = 0; j < n; j++)
        p[j] /= sum;
    return max + log(sum);
}

static struct query query_at(const struct attention *a, const struct batch *b, int64_t row,
                             int64_t head) {
    return (struct query){row, head, head / (a->n_heads / a->n_kv_heads), first_key(a, b, row)};
}

void ref_attention_forward(const struct attention *a, const struct batch *b, struct mat q,
                           struct mat k, struct mat v, struct mat out, struct mat lse) {
    int64_t d = a->head_dim;
    double *p = xcalloc((size_t)q.rows, sizeof *p);
    for (int64_t row = 0; row < q.rows; row++)
        for (int64_t head = 0; head < a->n_heads; head++) {
            struct query u = query_at(a, b, row, head);
            double l = softmax(a, &u, q, k, p);
            if (lse.v)
                *mat_at(lse, head, row) = l;
            for (int64_t i = 0; i < d; i++) {
                double sum = 0;
                for (int64_t j = u.first; j <= row; j++)
                    sum += p[j - u.first] * *mat_at(v, j, u.kv * d + i);
                *mat_at(out, row, head * d + i) = sum;
            }
        }
    free(p);
}

void ref_attention_backward(const struct attention *a, const struct batch *b, struct mat q,
                            struct mat k, struct mat v, struct mat dout, struct mat dq,
                            struct mat dk, struct mat dv) {
    int64_t d = a->head_dim;
    double *p = xcalloc((size_t)q.rows * 2, sizeof *p), *dp = p + q.rows;
    memset(dq.v, 0, (size_t)(dq.rows * dq.cols) * sizeof *dq.v);
    memset(dk.v, 0, (size_t)(dk.rows * dk.cols) * sizeof *dk.v);
    memset(dv.v, 0, (size_t)(dv.rows * dv.cols) * sizeof *dv.v);
    for (int64_t row = 0; row < q.rows; row++)
        for (int64_t head = 0; head < a->n_heads; head++) {
            struct query u = query_at(a, b, row, head);
            double mean = 0;
            softmax(a, &u, q, k, p);
            for (int64_t j = u.first; j <= row; j++) {
                dp[j - u.first] = dot_at(dout, row, head, v, j, u.kv, d);
                mean += p[j - u.first] * dp[j - u.first];
            }
            for (int64_t j = u.first; j <= row; j++) {
                double pj = p[j - u.first];
                double ds = (double)a->scale * pj * (dp[j - u.first] - mean);
                for (int64_t i = 0; i < d; i++) {
                    *mat_at(dv, j, u.kv * d + i) += pj * *mat_at(dout, row, head * d + i);
                    *mat_at(dq, row, head * d + i) += ds * *mat_at(k, j, u.kv * d + i);
                    *mat_at(dk, j, u.kv * d + i) += ds * *mat_at(q, row, head * d + i);
                }
            }
        }
    free(p);
}

void ref_head_loss(struct mat x, struct mat w, const int32_t *targets, double grad_scale,
                   struct mat nll, uint8_t *correct, struct mat dx) {
    int64_t vocab = w.rows;
    double *z = xcalloc((size_t)vocab, sizeof *z);
    for (int64_t t = 0; t < x.rows; t++) {
        int64_t best = 0;
        double sum = 0;
        for (int64_t o = 0; o < vocab; o++) {
            z[o] = 0;
            for (int64_t c = 0; c < x.cols; c++)
                z[o] += *mat_at(x, t, c) * *mat_at(w, o, c);
            if (z[o] > z[best])
                best = o;
        }
        for (int64_t o = 0; o < vocab; o++)
            sum += exp(z[o] - z[best]);
        double lse = z[best] + log(sum);
        nll.v[t] = lse - z[targets[t]];
        if (correct)
            correct[t] = best == targets[t];
        for (int64_t c = 0; dx.v && c < x.cols; c++) {
            double d = 0;
            for (int64_t o = 0; o < vocab; o++)
                d += (exp(z[o] - lse) - (o == targets[t] ? 1.0 : 0.0)) * *mat_at(w, o, c);
            *mat_at(dx, t, c) = grad_scale * d;
        }
    }
    free(z);
}
