/* DoRA as the paper writes it, with the whole matrix W + scale · B A. */
#include <math.h>

#include "tests/ops/support/reference.h"

void ref_dora_norms(const struct ref_linear *l, struct mat n) {
    int64_t column = 0;
    for (int i = 0; i < l->n_parts; i++)
        for (int64_t o = 0; o < l->w[i].rows; o++, column++) {
            double sum = 0;
            for (int64_t c = 0; c < l->w[i].cols; c++) {
                double w = *mat_at(l->w[i], o, c);
                for (int64_t r = 0; r < l->a[i].rows; r++)
                    w += l->scale * *mat_at(l->b[i], o, r) * *mat_at(l->a[i], r, c);
                sum += w * w;
            }
            n.v[column] = l->a[i].rows > 0 ? sqrt(sum) : 1;
        }
}

void ref_dora_forward(struct mat bias, struct mat m, struct mat n, struct mat z,
                      struct mat residual, struct mat y) {
    for (int64_t t = 0; t < z.rows; t++)
        for (int64_t o = 0; o < z.cols; o++)
            *mat_at(y, t, o) = (residual.v ? *mat_at(residual, t, o) : 0) + bias.v[o] +
                               m.v[o] / n.v[o] * (*mat_at(z, t, o) - bias.v[o]);
}

void ref_dora_backward(struct mat bias, struct mat m, struct mat n, struct mat dy, struct mat z,
                       struct mat dz, struct mat dm) {
    for (int64_t t = 0; t < z.rows; t++)
        for (int64_t o = 0; o < z.cols; o++) {
            *mat_at(dz, t, o) = m.v[o] / n.v[o] * *mat_at(dy, t, o);
            dm.v[o] += *mat_at(dy, t, o) * (*mat_at(z, t, o) - bias.v[o]) / n.v[o];
        }
}
