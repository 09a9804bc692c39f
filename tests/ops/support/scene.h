/* scene: matrices and device memory of one test, and comparisons with the reference.
 *
 * What:    dense f64 matrices with reproducible random contents, their copies on a device in any
 *          element type and stride, and checks by normalized error.
 * Owns:    a scene owns all it hands out, until scene_clear.
 * Threads: one.
 * Errors:  everything that goes wrong is a failed assertion.
 */
#ifndef FFWD_TESTS_OPS_SCENE_H
#define FFWD_TESTS_OPS_SCENE_H

#include <stdint.h>

#include "engine/ops/ops.h"

struct mat {
    int64_t rows, cols;
    double *v; /* dense */
};
static inline double *mat_at(struct mat m, int64_t row, int64_t col) {
    return m.v + row * m.cols + col;
}

struct scene {
    struct device *dev;
    const struct ops *ops;
    enum dtype dtype;
    uint64_t random; /* state of the generator */
    uint64_t digest; /* of all results checked so far */
    const char *label;
    int n_host, n_device;
    void *host[256];
    void *device[256];
};

void scene_clear(struct scene *s);

double scene_uniform(struct scene *s);                             /* [-1, 1) */
int64_t scene_below(struct scene *s, int64_t n);                   /* 0 … n - 1 */
struct mat scene_mat(struct scene *s, int64_t rows, int64_t cols); /* zeros */
struct mat scene_copy(struct scene *s, struct mat m);
/* Random in [-scale, scale), rounded to dtype so that device and reference start alike. */
struct mat scene_random(struct scene *s, int64_t rows, int64_t cols, double scale,
                        enum dtype dtype);
double round_to(enum dtype dtype, double x);

void *scene_host(struct scene *s, size_t bytes);   /* zeros */
void *scene_device(struct scene *s, size_t bytes); /* filled with a pattern that is NaN in f32 */
void *scene_upload(struct scene *s, const void *host, size_t bytes);

/* A tensor on the device, stride = cols + pad; what is not written by an operation stays NaN. */
struct tensor scene_tensor(struct scene *s, int64_t rows, int64_t cols, int64_t pad,
                           enum dtype dtype);
struct tensor scene_put(struct scene *s, struct mat m, int64_t pad, enum dtype dtype);
struct mat scene_get(struct scene *s, struct tensor t);
float *scene_put_f32(struct scene *s, struct mat m); /* dense */
struct mat scene_get_f32(struct scene *s, const float *p, int64_t rows, int64_t cols);
/* The same values in host memory, dense. */
void *scene_host_values(struct scene *s, struct mat m, enum dtype dtype);

/* Asserts |got - want| <= limit · |want| (Euclidean), and adds got's bytes to the digest. */
void scene_check(struct scene *s, const char *what, struct mat got, struct mat want, double limit);
void scene_check_tensor(struct scene *s, const char *what, struct tensor got, struct mat want,
                        double limit);
/* Asserts that the elements between the columns of t and its stride were left alone. */
void scene_check_padding(struct scene *s, const char *what, struct tensor t);

/* Limits of a result in dtype: rounding of products and sums, and of the result itself. */
double limit_of(enum dtype dtype);

/* Runs a case in f32 and bf16 on every device of this build: devices.c, for the CPU, or
 * tests/cuda/support/devices.c. */
void each_device(void (*run)(struct scene *s, const void *arg), const void *arg);

/* Central difference of loss(arg) by *at. */
double difference(double (*loss)(void *arg), void *arg, double *at, double step);
/* Asserts that a derivative of the reference agrees with finite differences, at `samples` random
 * elements of m. */
void scene_check_slope(struct scene *s, const char *what, double (*loss)(void *arg), void *arg,
                       struct mat m, struct mat slope, int samples);

/* A packed batch of examples with these lengths; device copies, and the same in host memory. */
struct scene_batch {
    struct batch device, host;
};
struct scene_batch scene_pack(struct scene *s, const int32_t *lengths, int n);

#endif
