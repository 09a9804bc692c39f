/* scene: see scene.h. */
#include "tests/ops/support/scene.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cpu/half.h"

void scene_clear(struct scene *s) {
    for (int i = 0; i < s->n_host; i++)
        free(s->host[i]);
    for (int i = 0; i < s->n_device; i++)
        s->ops->mem_free(s->dev, s->device[i]);
    s->n_host = s->n_device = 0;
}

/* splitmix64 */
static uint64_t next_random(struct scene *s) {
    uint64_t z = s->random += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

double scene_uniform(struct scene *s) {
    return (double)(next_random(s) >> 11) * 0x1p-52 - 1.0;
}

int64_t scene_below(struct scene *s, int64_t n) {
    return (int64_t)(next_random(s) % (uint64_t)n);
}

void *scene_host(struct scene *s, size_t bytes) {
    cr_assert_lt(s->n_host, 256);
    return s->host[s->n_host++] = xcalloc(bytes ? bytes : 1, 1);
}

void *scene_device(struct scene *s, size_t bytes) {
    struct err_msg em = ERR_MSG_INIT;
    void *p;
    cr_assert_lt(s->n_device, 256);
    cr_assert_eq(s->ops->mem_alloc(s->dev, bytes, &p, &em), ERR_OK, "%s", em.text);
    s->device[s->n_device++] = p;
    void *pattern = xmalloc(bytes ? bytes : 1);
    memset(pattern, 0xff, bytes);
    s->ops->upload(s->dev, p, pattern, bytes);
    free(pattern);
    return p;
}

void *scene_upload(struct scene *s, const void *host, size_t bytes) {
    void *p = scene_device(s, bytes);
    s->ops->upload(s->dev, p, host, bytes);
    return p;
}

struct mat scene_mat(struct scene *s, int64_t rows, int64_t cols) {
    return (struct mat){rows, cols, scene_host(s, (size_t)(rows * cols) * sizeof(double))};
}

struct mat scene_copy(struct scene *s, struct mat m) {
    struct mat to = scene_mat(s, m.rows, m.cols);
    memcpy(to.v, m.v, (size_t)(m.rows * m.cols) * sizeof *m.v);
    return to;
}

static uint16_t bf16_of(float x) {
    uint32_t b;
    memcpy(&b, &x, sizeof b);
    return (uint16_t)((b + 0x7fffu + (b >> 16 & 1)) >> 16);
}

static float bf16_value(uint16_t h) {
    uint32_t b = (uint32_t)h << 16;
    float x;
    memcpy(&x, &b, sizeof x);
    return x;
}

double round_to(enum dtype dtype, double x) {
    if (dtype == DTYPE_F32)
        return (double)(float)x;
    if (dtype == DTYPE_BF16)
        return (double)bf16_value(bf16_of((float)x));
    return (double)half_to_float(half_from_float((float)x));
}

struct mat scene_random(struct scene *s, int64_t rows, int64_t cols, double scale,
                        enum dtype dtype) {
    struct mat m = scene_mat(s, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++)
        m.v[i] = round_to(dtype, scale * scene_uniform(s));
    return m;
}

static void encode(enum dtype dtype, double x, void *to) {
    float f = (float)x;
    uint16_t h = dtype == DTYPE_BF16 ? bf16_of(f) : half_from_float(f);
    if (dtype == DTYPE_F32)
        memcpy(to, &f, sizeof f);
    else
        memcpy(to, &h, sizeof h);
}

static double decode(enum dtype dtype, const void *from) {
    float f;
    uint16_t h;
    memcpy(&h, from, sizeof h);
    if (dtype == DTYPE_BF16)
        return (double)bf16_value(h);
    if (dtype == DTYPE_F16)
        return (double)half_to_float(h);
    memcpy(&f, from, sizeof f);
    return (double)f;
}

void *scene_host_values(struct scene *s, struct mat m, enum dtype dtype) {
    size_t size = dtype_size(dtype);
    char *p = scene_host(s, (size_t)(m.rows * m.cols) * size);
    for (int64_t i = 0; i < m.rows * m.cols; i++)
        encode(dtype, m.v[i], p + i * (int64_t)size);
    return p;
}

struct tensor scene_tensor(struct scene *s, int64_t rows, int64_t cols, int64_t pad,
                           enum dtype dtype) {
    struct tensor t = {.dtype = dtype, .rows = rows, .cols = cols, .stride = cols + pad};
    t.data = scene_device(s, (size_t)(rows * t.stride) * dtype_size(dtype));
    return t;
}

/* The tensor's memory, padding included, in host memory. */
static char *tensor_bytes(struct scene *s, struct tensor t) {
    size_t bytes = (size_t)(t.rows * t.stride) * dtype_size(t.dtype);
    struct err_msg em = ERR_MSG_INIT;
    char *p = scene_host(s, bytes);
    cr_assert_eq(s->ops->download(s->dev, p, t.data, bytes, &em), ERR_OK, "%s", em.text);
    return p;
}

struct tensor scene_put(struct scene *s, struct mat m, int64_t pad, enum dtype dtype) {
    struct tensor t = scene_tensor(s, m.rows, m.cols, pad, dtype);
    char *host = tensor_bytes(s, t);
    int64_t size = (int64_t)dtype_size(dtype);
    for (int64_t i = 0; i < m.rows; i++)
        for (int64_t j = 0; j < m.cols; j++)
            encode(dtype, *mat_at(m, i, j), host + (i * t.stride + j) * size);
    s->ops->upload(s->dev, t.data, host, (size_t)(t.rows * t.stride * size));
    return t;
}

struct mat scene_get(struct scene *s, struct tensor t) {
    struct mat m = scene_mat(s, t.rows, t.cols);
    char *host = tensor_bytes(s, t);
    int64_t size = (int64_t)dtype_size(t.dtype);
    for (int64_t i = 0; i < m.rows; i++)
        for (int64_t j = 0; j < m.cols; j++)
            *mat_at(m, i, j) = decode(t.dtype, host + (i * t.stride + j) * size);
    return m;
}

float *scene_put_f32(struct scene *s, struct mat m) {
    return scene_put(s, m, 0, DTYPE_F32).data;
}

struct mat scene_get_f32(struct scene *s, const float *p, int64_t rows, int64_t cols) {
    struct tensor t = {(void *)(uintptr_t)p, DTYPE_F32, rows, cols, cols};
    return scene_get(s, t);
}

void scene_check(struct scene *s, const char *what, struct mat got, struct mat want, double limit) {
    double error = 0, size = 0;
    cr_assert_eq(got.rows, want.rows);
    cr_assert_eq(got.cols, want.cols);
    for (int64_t i = 0; i < got.rows * got.cols; i++) {
        double d = got.v[i] - want.v[i];
        error += d * d;
        size += want.v[i] * want.v[i];
        uint64_t bits;
        memcpy(&bits, &got.v[i], sizeof bits);
        s->digest = (s->digest ^ bits) * 0x100000001B3ull;
        s->digest ^= s->digest >> 29;
    }
    cr_assert(sqrt(error) <= limit * sqrt(size) + 1e-30,
              "%s, %s, %s: error %.3g of %.3g is more than %.3g of it", s->label,
              dtype_name(s->dtype), what, sqrt(error), sqrt(size), limit);
}

void scene_check_tensor(struct scene *s, const char *what, struct tensor got, struct mat want,
                        double limit) {
    scene_check(s, what, scene_get(s, got), want, limit);
}

void scene_check_padding(struct scene *s, const char *what, struct tensor t) {
    const unsigned char *p = (const unsigned char *)tensor_bytes(s, t);
    int64_t size = (int64_t)dtype_size(t.dtype);
    for (int64_t i = 0; i < t.rows; i++)
        for (int64_t j = t.cols * size; j < t.stride * size; j++)
            cr_assert_eq(p[i * t.stride * size + j], 0xff, "%s, %s: padding of row %lld written",
                         s->label, what, (long long)i);
}

double limit_of(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 3e-6 : 8e-3;
}

double difference(double (*loss)(void *arg), void *arg, double *at, double step) {
    double x = *at;
    *at = x + step;
    double up = loss(arg);
    *at = x - step;
    double down = loss(arg);
    *at = x;
    return (up - down) / (2 * step);
}

void scene_check_slope(struct scene *s, const char *what, double (*loss)(void *arg), void *arg,
                       struct mat m, struct mat slope, int samples) {
    double largest = 0;
    for (int64_t i = 0; i < slope.rows * slope.cols; i++)
        largest = fmax(largest, fabs(slope.v[i]));
    for (int n = 0; n < samples; n++) {
        int64_t i = scene_below(s, m.rows * m.cols);
        double d = difference(loss, arg, &m.v[i], 1e-5);
        cr_assert(fabs(d - slope.v[i]) <= 1e-6 * (largest + fabs(d)) + 1e-9,
                  "%s: derivative %lld is %.10g, differences give %.10g", what, (long long)i,
                  slope.v[i], d);
    }
}

struct scene_batch scene_pack(struct scene *s, const int32_t *lengths, int n) {
    struct scene_batch out = {0};
    int32_t tokens = 0, max_len = 0;
    for (int i = 0; i < n; i++) {
        tokens += lengths[i];
        max_len = lengths[i] > max_len ? lengths[i] : max_len;
    }
    size_t size = (size_t)tokens;
    int32_t *pos = scene_host(s, size * sizeof *pos);
    int32_t *start = scene_host(s, (size_t)(n + 1) * sizeof *start);
    uint64_t *keys = scene_host(s, size * sizeof *keys);
    for (int i = 0; i < n; i++) {
        start[i + 1] = start[i] + lengths[i];
        for (int32_t j = 0; j < lengths[i]; j++) {
            pos[start[i] + j] = j;
            keys[start[i] + j] = (uint64_t)i << 32 | (uint64_t)j;
        }
    }
    out.host = (struct batch){.n_tokens = tokens,
                              .n_seqs = n,
                              .max_len = max_len,
                              .pos = pos,
                              .seq_start = start,
                              .keys = keys};
    out.device = out.host;
    out.device.pos = scene_upload(s, pos, size * sizeof *pos);
    out.device.seq_start = scene_upload(s, start, (size_t)(n + 1) * sizeof *start);
    out.device.keys = scene_upload(s, keys, size * sizeof *keys);
    return out;
}
