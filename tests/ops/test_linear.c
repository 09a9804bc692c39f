/* Linear with LoRA: forward and backward against the reference, which is checked by differences. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

struct linear_case {
    int64_t tokens, in, out[LINEAR_PARTS];
    int32_t rank[LINEAR_PARTS];
    float p;
    bool bias, residual, apart; /* apart: other weights lie between the A of the parts */
    int64_t pad;
};

static const struct linear_case cases[] = {
    {1, 1, {1}, {1}, 0, false, false, false, 0},
    {1, 64, {64}, {4}, 0, true, true, false, 0},
    {7, 13, {11}, {3}, 0, true, false, false, 3},
    {17, 31, {29, 7, 5}, {4, 4, 4}, 0.25f, true, true, false, 1},
    {64, 48, {48, 16, 16}, {16, 16, 16}, 0, false, false, false, 0},
    {37, 96, {53, 59}, {8, 0}, 0.5f, false, true, false, 0},
    {41, 67, {31, 37, 41}, {0, 5, 2}, 0.1f, false, false, true, 2},
    {300, 130, {601, 70}, {8, 3}, 0.1f, true, true, true, 5},
    {530, 521, {17}, {2}, 0.3f, false, false, false, 0},
    {33, 40, {24, 24}, {0, 0}, 0, true, false, false, 0},
    {290, 576, {640, 96, 32}, {16, 16, 16}, 0.2f, false, true, false, 0},
    {70, 1700, {640}, {2}, 0, false, false, false, 0}, /* sums of several chunks */
};

struct linear_scene {
    const struct linear_case *c;
    struct scene_batch batch;
    struct dropout drop;
    struct ref_linear ref;
    struct lora lora;
    struct adapter_mem ad;
    struct linear *lin;
    int64_t out, rank;
    struct mat da[LINEAR_PARTS], db[LINEAR_PARTS];
};

/* Numbers the adapter's weights and fills them in. */
static void make_adapter(struct scene *s, struct linear_scene *l) {
    size_t n = 0;
    const struct linear_case *c = l->c;
    for (int i = 0; i < l->ref.n_parts; i++) {
        l->lora.rank[i] = c->rank[i];
        l->lora.a[i] = n;
        n += (size_t)(c->rank[i] * c->in) + (c->apart ? 5 : 0);
    }
    for (int i = 0; i < l->ref.n_parts; i++) {
        l->lora.b[i] = n;
        n += (size_t)(c->rank[i] * c->out[i]);
    }
    struct mat flat = scene_mat(s, 1, (int64_t)n + 1);
    for (int i = 0; i < l->ref.n_parts; i++) {
        int64_t rank = c->rank[i];
        l->ref.a[i] = scene_random(s, rank, c->in, 0.3, s->dtype);
        l->ref.b[i] = scene_random(s, c->out[i], rank, 0.3, s->dtype);
        memcpy(flat.v + l->lora.a[i], l->ref.a[i].v, (size_t)(rank * c->in) * sizeof(double));
        memcpy(flat.v + l->lora.b[i], l->ref.b[i].v, (size_t)(rank * c->out[i]) * sizeof(double));
        l->da[i] = scene_mat(s, rank, c->in);
        l->db[i] = scene_mat(s, c->out[i], rank);
        l->rank += rank;
    }
    l->lora.scale = 0.75f;
    l->ref.scale = 0.75;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(s->ops->adapter_alloc(s->dev, n + 1, s->dtype, &l->ad, &em), ERR_OK);
    s->ops->upload(s->dev, l->ad.w, scene_host_values(s, flat, DTYPE_F32), (n + 1) * 4);
    s->ops->adapter_refresh(s->dev, &l->ad);
}

static void make_linear(struct scene *s, struct linear_scene *l) {
    const struct linear_case *c = l->c;
    struct linear_spec spec = {.in = c->in};
    for (int i = 0; i < LINEAR_PARTS && c->out[i] > 0; i++) {
        enum dtype file_dtype = i == 1 ? DTYPE_BF16 : s->dtype;
        l->ref.w[i] = scene_random(s, c->out[i], c->in, 0.5, file_dtype);
        if (c->bias && i != 1)
            l->ref.bias[i] = scene_random(s, 1, c->out[i], 1.0, DTYPE_F32);
        spec.part[i] = (struct linear_part){
            .weight = scene_host_values(s, l->ref.w[i], file_dtype),
            .weight_dtype = file_dtype,
            .bias = l->ref.bias[i].v ? scene_host_values(s, l->ref.bias[i], DTYPE_F32) : NULL,
            .out = c->out[i]};
        spec.n_parts++;
        l->out += c->out[i];
    }
    l->ref.n_parts = spec.n_parts;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(s->ops->linear_new(s->dev, &spec, s->dtype, &l->lin, &em), ERR_OK, "%s", em.text);
}

static void open_linear(struct scene *s, struct linear_scene *l, const struct linear_case *c) {
    int32_t lengths[2] = {(int32_t)(c->tokens / 2), (int32_t)(c->tokens - c->tokens / 2)};
    *l = (struct linear_scene){.c = c};
    l->batch = scene_pack(s, lengths + (lengths[0] == 0), lengths[0] == 0 ? 1 : 2);
    l->drop = (struct dropout){.p = c->p, .seed = 0x123456789abcdefull, .step = 3, .site = 17};
    make_linear(s, l);
    make_adapter(s, l);
    l->ref.x = scene_random(s, c->tokens, c->in, 1.0, s->dtype);
    l->ref.mask = scene_mat(s, c->tokens, c->in);
    for (int64_t t = 0; t < c->tokens; t++)
        for (int64_t i = 0; i < c->in; i++)
            *mat_at(l->ref.mask, t, i) =
                c->p > 0 ? ref_dropout(&l->drop, l->batch.host.keys[t], i) : 1.0;
    if (c->residual)
        l->ref.residual = scene_random(s, c->tokens, l->out, 1.0, s->dtype);
}

static void close_linear(struct scene *s, struct linear_scene *l) {
    s->ops->linear_free(s->dev, l->lin);
    s->ops->adapter_free(s->dev, &l->ad);
}

static void check_forward(struct scene *s, struct linear_scene *l, struct mat *stored) {
    int64_t tokens = l->c->tokens, pad = l->c->pad;
    struct mat y = scene_mat(s, tokens, l->out);
    *stored = scene_mat(s, tokens, l->rank);
    ref_linear_forward(&l->ref, y, *stored);
    struct tensor xd = scene_put(s, l->ref.x, pad, s->dtype), res = {0};
    struct tensor yd = scene_tensor(s, tokens, l->out, pad, s->dtype);
    struct tensor sd = scene_tensor(s, tokens, l->rank, pad, s->dtype);
    if (l->c->residual)
        res = scene_put(s, l->ref.residual, pad, s->dtype);
    s->ops->linear_forward(s->dev, l->lin, l->rank ? &l->lora : NULL, &l->ad, &l->drop,
                           &l->batch.device, xd, l->c->residual ? &res : NULL, yd, sd);
    scene_check_tensor(s, "y", yd, y, limit_of(s->dtype));
    scene_check_padding(s, "y", yd);
    if (l->rank) {
        scene_check_tensor(s, "s", sd, *stored, limit_of(s->dtype));
        scene_check_padding(s, "s", sd);
    }
}

/* Gradients are added to what is there: 1 everywhere. */
static void check_adapter_gradient(struct scene *s, struct linear_scene *l) {
    for (int i = 0; i < l->ref.n_parts; i++) {
        struct mat *want[2] = {&l->da[i], &l->db[i]};
        size_t at[2] = {l->lora.a[i], l->lora.b[i]};
        for (int k = 0; k < 2; k++) {
            if (want[k]->rows * want[k]->cols == 0)
                continue;
            struct mat got = scene_get_f32(s, l->ad.g + at[k], want[k]->rows, want[k]->cols);
            for (int64_t j = 0; j < got.rows * got.cols; j++)
                got.v[j] -= 1.0;
            scene_check(s, k ? "dB" : "dA", got, *want[k], 2 * limit_of(s->dtype));
        }
    }
}

static void check_backward(struct scene *s, struct linear_scene *l, struct mat stored) {
    int64_t tokens = l->c->tokens, pad = l->c->pad;
    struct mat dy = scene_random(s, tokens, l->out, 1.0, s->dtype);
    struct mat dx = scene_mat(s, tokens, l->c->in);
    ref_linear_backward(&l->ref, dy, dx, l->da, l->db);
    struct mat ones = scene_mat(s, 1, (int64_t)l->ad.n);
    for (int64_t i = 0; i < ones.cols; i++)
        ones.v[i] = 1.0;
    struct tensor xd = scene_put(s, l->ref.x, pad, s->dtype);
    struct tensor sd = scene_put(s, stored, pad, s->dtype);
    struct tensor dyd = scene_put(s, dy, pad, s->dtype);
    struct tensor dxd = scene_tensor(s, tokens, l->c->in, pad, s->dtype);
    void *start = scene_host_values(s, ones, DTYPE_F32);
    const struct lora *lora = l->rank ? &l->lora : NULL;
    for (int with_dx = 0; with_dx < 2; with_dx++) {
        s->ops->upload(s->dev, l->ad.g, start, l->ad.n * sizeof(float));
        s->ops->linear_backward(s->dev, l->lin, lora, &l->ad, &l->drop, &l->batch.device, dyd, xd,
                                sd, with_dx ? &dxd : NULL);
        check_adapter_gradient(s, l);
    }
    scene_check_tensor(s, "dx", dxd, dx, limit_of(s->dtype));
    scene_check_padding(s, "dx", dxd);
}

static void run_case(struct scene *s, const void *arg) {
    struct linear_scene l;
    struct mat stored;
    open_linear(s, &l, arg);
    check_forward(s, &l, &stored);
    check_backward(s, &l, stored);
    close_linear(s, &l);
}

Test(linear, agrees_with_the_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        each_device(run_case, &cases[i]);
}

struct slope {
    struct ref_linear *ref;
    struct mat weights, y; /* loss = Σ weights · y */
};

static double loss(void *arg) {
    struct slope *d = arg;
    double sum = 0;
    ref_linear_forward(d->ref, d->y, (struct mat){0});
    for (int64_t i = 0; i < d->y.rows * d->y.cols; i++)
        sum += d->weights.v[i] * d->y.v[i];
    return sum;
}

static void run_slope(struct scene *s, const void *arg) {
    struct linear_scene l;
    open_linear(s, &l, arg);
    struct slope d = {.ref = &l.ref, .y = scene_mat(s, l.c->tokens, l.out)};
    d.weights = scene_random(s, l.c->tokens, l.out, 1.0, DTYPE_F32);
    struct mat dx = scene_mat(s, l.c->tokens, l.c->in);
    ref_linear_backward(&l.ref, d.weights, dx, l.da, l.db);
    scene_check_slope(s, "x", loss, &d, l.ref.x, dx, 20);
    for (int i = 0; i < l.ref.n_parts; i++) {
        if (l.ref.a[i].rows == 0)
            continue;
        scene_check_slope(s, "A", loss, &d, l.ref.a[i], l.da[i], 20);
        scene_check_slope(s, "B", loss, &d, l.ref.b[i], l.db[i], 20);
    }
    close_linear(s, &l);
}

Test(linear, reference_agrees_with_differences) {
    struct scene s = {.dtype = DTYPE_F32, .label = "reference", .random = 7};
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cpu", 1, &s.dev, &em), ERR_OK);
    s.ops = s.dev->ops;
    run_slope(&s, &cases[3]);
    run_slope(&s, &cases[6]);
    scene_clear(&s);
    device_close(s.dev);
}
