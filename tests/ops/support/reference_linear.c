/* reference: products, linear with LoRA and dropout. */
#include <string.h>

#include "engine/ops/philox.h"
#include "tests/ops/support/reference.h"

void ref_product(struct mat a, bool a_t, struct mat b, bool b_t, struct mat c, bool accumulate) {
    int64_t depth = a_t ? a.rows : a.cols;
    for (int64_t i = 0; i < c.rows; i++)
        for (int64_t j = 0; j < c.cols; j++) {
            double sum = accumulate ? *mat_at(c, i, j) : 0.0;
            for (int64_t k = 0; k < depth; k++)
                sum += *(a_t ? mat_at(a, k, i) : mat_at(a, i, k)) *
                       *(b_t ? mat_at(b, j, k) : mat_at(b, k, j));
            *mat_at(c, i, j) = sum;
        }
}

double ref_dropout(const struct dropout *d, uint64_t key, int64_t col) {
    struct philox r = philox_site(d->seed, d->step, d->site, key, (uint32_t)(col / 4));
    return philox_uniform(r.x[col % 4]) >= d->p ? 1.0 / (1.0 - (double)d->p) : 0.0;
}

static double dropped(const struct ref_linear *l, int64_t t, int64_t c) {
    return *mat_at(l->x, t, c) * *mat_at(l->mask, t, c);
}

/* Σ_c drop(x)[t, c] A_i[r, c] */
static double shrunk(const struct ref_linear *l, int i, int64_t t, int64_t r) {
    double sum = 0;
    for (int64_t c = 0; c < l->x.cols; c++)
        sum += dropped(l, t, c) * *mat_at(l->a[i], r, c);
    return sum;
}

void ref_linear_forward(const struct ref_linear *l, struct mat y, struct mat s) {
    int64_t column = 0, s_column = 0;
    for (int i = 0; i < l->n_parts; i++) {
        int64_t rank = l->a[i].rows;
        for (int64_t t = 0; t < l->x.rows; t++) {
            double small[256];
            for (int64_t r = 0; r < rank; r++) {
                small[r] = shrunk(l, i, t, r);
                if (s.v)
                    *mat_at(s, t, s_column + r) = small[r];
            }
            for (int64_t o = 0; o < l->w[i].rows; o++) {
                double sum = l->residual.v ? *mat_at(l->residual, t, column + o) : 0.0;
                sum += l->bias[i].v ? l->bias[i].v[o] : 0.0;
                for (int64_t c = 0; c < l->x.cols; c++)
                    sum += *mat_at(l->x, t, c) * *mat_at(l->w[i], o, c);
                for (int64_t r = 0; r < rank; r++)
                    sum += l->scale * small[r] * *mat_at(l->b[i], o, r);
                *mat_at(y, t, column + o) = sum;
            }
        }
        column += l->w[i].rows;
        s_column += rank;
    }
}

void ref_linear_backward(const struct ref_linear *l, struct mat dy, struct mat dx, struct mat *da,
                         struct mat *db) {
    int64_t column = 0;
    memset(dx.v, 0, (size_t)(dx.rows * dx.cols) * sizeof *dx.v);
    for (int i = 0; i < l->n_parts; i++) {
        int64_t out = l->w[i].rows, rank = l->a[i].rows;
        for (int64_t t = 0; t < l->x.rows; t++) {
            const double *d = mat_at(dy, t, column);
            for (int64_t o = 0; o < out; o++)
                for (int64_t c = 0; c < l->x.cols; c++)
                    *mat_at(dx, t, c) += d[o] * *mat_at(l->w[i], o, c);
            for (int64_t r = 0; r < rank; r++) {
                double ds = 0, s = shrunk(l, i, t, r);
                for (int64_t o = 0; o < out; o++) {
                    ds += l->scale * d[o] * *mat_at(l->b[i], o, r);
                    *mat_at(db[i], o, r) += l->scale * d[o] * s;
                }
                for (int64_t c = 0; c < l->x.cols; c++) {
                    *mat_at(da[i], r, c) += ds * dropped(l, t, c);
                    *mat_at(dx, t, c) += ds * *mat_at(l->a[i], r, c) * *mat_at(l->mask, t, c);
                }
            }
        }
        column += out;
    }
}
