/* DoRA: norms, outputs and gradients against the reference, which is checked by differences. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

struct dora_case {
    int64_t tokens, in, out[LINEAR_PARTS];
    int32_t rank[LINEAR_PARTS];
    bool bias, residual;
    int64_t pad;
};

static const struct dora_case cases[] = {
    {1, 1, {1}, {1}, false, false, 0},
    {7, 13, {11}, {3}, true, true, 3},
    {17, 31, {29, 7, 5}, {4, 4, 4}, true, false, 1},
    {41, 67, {31, 37, 41}, {0, 5, 2}, false, true, 2},
    {300, 130, {601, 70}, {8, 3}, true, false, 0},
    {70, 576, {640, 96, 32}, {16, 16, 16}, false, true, 0},
};

struct dora_scene {
    const struct dora_case *c;
    struct ref_linear ref;
    struct linear *lin;
    struct lora lora;
    struct adapter_mem ad;
    int64_t out;
    struct mat bias, m, n; /* [1, Σout] */
    float *n_device;
};

static void make_linear(struct scene *s, struct dora_scene *d) {
    struct linear_spec spec = {.in = d->c->in};
    while (spec.n_parts < LINEAR_PARTS && d->c->out[spec.n_parts] > 0)
        d->out += d->c->out[spec.n_parts++];
    d->ref.n_parts = spec.n_parts;
    d->bias = scene_mat(s, 1, d->out);
    int64_t first = 0;
    for (int i = 0; i < spec.n_parts; first += d->c->out[i++]) {
        d->ref.w[i] = scene_random(s, d->c->out[i], d->c->in, 0.5, s->dtype);
        struct mat bias = scene_random(s, 1, d->c->out[i], 1.0, DTYPE_F32);
        if (d->c->bias)
            memcpy(d->bias.v + first, bias.v, (size_t)bias.cols * sizeof *bias.v);
        spec.part[i] =
            (struct linear_part){.weight = scene_host_values(s, d->ref.w[i], s->dtype),
                                 .weight_dtype = s->dtype,
                                 .bias = d->c->bias ? scene_host_values(s, bias, DTYPE_F32) : NULL,
                                 .out = d->c->out[i]};
    }
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(s->ops->linear_new(s->dev, &spec, s->dtype, &d->lin, &em), ERR_OK, "%s", em.text);
}

static size_t place(size_t *at, int64_t count) {
    size_t here = *at;
    *at += (size_t)count;
    return here;
}

static void make_adapter(struct scene *s, struct dora_scene *d) {
    struct err_msg em = ERR_MSG_INIT;
    struct mat flat = scene_mat(s, 1, 1 << 16);
    size_t at = 0;
    int64_t first = 0;
    d->lora.scale = 0.75f;
    d->lora.dora = true;
    d->ref.scale = 0.75;
    d->m = scene_mat(s, 1, d->out);
    for (int i = 0; i < d->ref.n_parts; first += d->c->out[i++]) {
        int64_t rank = d->lora.rank[i] = d->c->rank[i];
        d->ref.a[i] = scene_random(s, rank, d->c->in, 0.3, s->dtype);
        d->ref.b[i] = scene_random(s, d->c->out[i], rank, 0.3, s->dtype);
        d->lora.a[i] = place(&at, rank * d->c->in);
        d->lora.b[i] = place(&at, rank * d->c->out[i]);
        d->lora.m[i] = place(&at, rank > 0 ? d->c->out[i] : 0);
        memcpy(flat.v + d->lora.a[i], d->ref.a[i].v, (size_t)(rank * d->c->in) * sizeof(double));
        memcpy(flat.v + d->lora.b[i], d->ref.b[i].v,
               (size_t)(rank * d->c->out[i]) * sizeof(double));
        for (int64_t o = 0; o < d->c->out[i]; o++)
            d->m.v[first + o] = rank > 0 ? round_to(DTYPE_F32, 1 + scene_uniform(s)) : 1;
        if (rank > 0)
            memcpy(flat.v + d->lora.m[i], d->m.v + first, (size_t)d->c->out[i] * sizeof(double));
    }
    cr_assert_leq(at, (size_t)flat.cols);
    cr_assert_eq(s->ops->adapter_alloc(s->dev, (size_t)flat.cols, s->dtype, &d->ad, &em), ERR_OK);
    s->ops->upload(s->dev, d->ad.w, scene_host_values(s, flat, DTYPE_F32),
                   (size_t)flat.cols * sizeof(float));
    s->ops->adapter_refresh(s->dev, &d->ad);
}

static void open_dora(struct scene *s, struct dora_scene *d, const struct dora_case *c) {
    *d = (struct dora_scene){.c = c};
    make_linear(s, d);
    make_adapter(s, d);
    d->n = scene_mat(s, 1, d->out);
    ref_dora_norms(&d->ref, d->n);
    d->n_device = scene_device(s, (size_t)d->out * sizeof(float));
    s->ops->dora_norms(s->dev, d->lin, &d->lora, &d->ad, d->n_device);
    scene_check(s, "n", scene_get_f32(s, d->n_device, 1, d->out), d->n, limit_of(s->dtype));
}

static void check_forward(struct scene *s, struct dora_scene *d, struct mat z) {
    int64_t tokens = d->c->tokens, pad = d->c->pad;
    struct mat y = scene_mat(s, tokens, d->out), residual = {0};
    if (d->c->residual)
        residual = scene_random(s, tokens, d->out, 1.0, s->dtype);
    ref_dora_forward(d->bias, d->m, d->n, z, residual, y);
    struct tensor yd = scene_put(s, z, pad, s->dtype), rd = {0}; /* in place */
    if (d->c->residual)
        rd = scene_put(s, residual, pad, s->dtype);
    s->ops->dora_forward(s->dev, d->lin, &d->lora, &d->ad, d->n_device, yd,
                         d->c->residual ? &rd : NULL, yd);
    scene_check_tensor(s, "y", yd, y, limit_of(s->dtype));
    scene_check_padding(s, "y", yd);
}

static void check_backward(struct scene *s, struct dora_scene *d, struct mat z) {
    int64_t tokens = d->c->tokens, pad = d->c->pad, first = 0;
    struct mat dy = scene_random(s, tokens, d->out, 1.0, s->dtype);
    struct mat dz = scene_mat(s, tokens, d->out), dm = scene_mat(s, 1, d->out);
    ref_dora_backward(d->bias, d->m, d->n, dy, z, dz, dm);
    struct tensor zd = scene_put(s, z, pad, s->dtype), dyd = scene_put(s, dy, pad, s->dtype);
    s->ops->dora_backward(s->dev, d->lin, &d->lora, &d->ad, d->n_device, dyd, zd);
    scene_check_tensor(s, "dz", zd, dz, limit_of(s->dtype));
    scene_check_padding(s, "dz", zd);
    for (int i = 0; i < d->ref.n_parts; first += d->c->out[i++]) {
        struct mat want = {1, d->c->out[i], dm.v + first};
        if (d->c->rank[i] > 0)
            scene_check(s, "dm", scene_get_f32(s, d->ad.g + d->lora.m[i], 1, want.cols), want,
                        2 * limit_of(s->dtype));
    }
}

static void run_case(struct scene *s, const void *arg) {
    struct dora_scene d;
    open_dora(s, &d, arg);
    struct mat z = scene_random(s, d.c->tokens, d.out, 1.0, s->dtype);
    check_forward(s, &d, z);
    check_backward(s, &d, z);
    s->ops->linear_free(s->dev, d.lin);
    s->ops->adapter_free(s->dev, &d.ad);
}

Test(dora, agrees_with_the_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        each_device(run_case, &cases[i]);
}

struct slope {
    struct mat bias, m, n, z, weights, y; /* loss = Σ weights · y */
};

static double loss(void *arg) {
    struct slope *d = arg;
    double sum = 0;
    ref_dora_forward(d->bias, d->m, d->n, d->z, (struct mat){0}, d->y);
    for (int64_t i = 0; i < d->y.rows * d->y.cols; i++)
        sum += d->weights.v[i] * d->y.v[i];
    return sum;
}

Test(dora, reference_agrees_with_differences) {
    struct scene s = {.dtype = DTYPE_F32, .label = "reference", .random = 7};
    struct mat rows[3];
    for (int i = 0; i < 3; i++)
        rows[i] = scene_random(&s, 1, 12, 1.0, DTYPE_F32);
    for (int64_t o = 0; o < 12; o++)
        rows[2].v[o] += 2; /* norms */
    struct slope d = {.bias = rows[0], .m = rows[1], .n = rows[2]};
    d.z = scene_random(&s, 9, 12, 1.0, DTYPE_F32);
    d.weights = scene_random(&s, 9, 12, 1.0, DTYPE_F32);
    d.y = scene_mat(&s, 9, 12);
    struct mat dz = scene_mat(&s, 9, 12), dm = scene_mat(&s, 1, 12);
    ref_dora_backward(d.bias, d.m, d.n, d.weights, d.z, dz, dm);
    scene_check_slope(&s, "z", loss, &d, d.z, dz, 20);
    scene_check_slope(&s, "m", loss, &d, d.m, dm, 12);
    scene_clear(&s);
}
