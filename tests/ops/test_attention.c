/* Attention: packed examples, grouped heads, windows; against the reference. */
#include <criterion/criterion.h>
#include <math.h>

#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

struct attention_case {
    int32_t heads, kv_heads, head_dim, window;
    int32_t lengths[6];
    int64_t pad;
};

static const struct attention_case cases[] = {
    {1, 1, 8, 0, {1}, 0},           {2, 1, 8, 0, {1, 1, 2}, 3}, {4, 2, 16, 0, {7, 1, 13}, 0},
    {3, 3, 24, 0, {31, 64, 5}, 1},  {8, 1, 32, 0, {129}, 0},    {9, 3, 64, 0, {127, 40}, 0},
    {2, 2, 128, 0, {65, 66}, 2},    {5, 1, 80, 0, {23}, 0},     {2, 1, 16, 1, {9, 3}, 0},
    {4, 2, 16, 5, {40, 3, 150}, 0}, {2, 1, 16, 128, {300}, 4},  {2, 2, 16, 300, {290, 600}, 0},
    {2, 1, 16, 0, {530, 3}, 0},     {2, 1, 128, 0, {70, 1}, 0}, {4, 2, 64, 33, {100, 31}, 8},
};

struct attention_scene {
    struct attention a;
    struct scene_batch batch;
    struct mat q, k, v, out, lse, dout, dq, dk, dv;
};

static void open_attention(struct scene *s, struct attention_scene *t,
                           const struct attention_case *c) {
    int n = 0;
    while (n < 6 && c->lengths[n] > 0)
        n++;
    t->batch = scene_pack(s, c->lengths, n);
    t->a = (struct attention){c->heads, c->kv_heads, c->head_dim, 1.0f / sqrtf((float)c->head_dim),
                              c->window};
    int64_t tokens = t->batch.host.n_tokens, d = c->head_dim;
    t->q = scene_random(s, tokens, c->heads * d, 3.0, s->dtype);
    t->k = scene_random(s, tokens, c->kv_heads * d, 3.0, s->dtype);
    t->v = scene_random(s, tokens, c->kv_heads * d, 1.0, s->dtype);
    t->dout = scene_random(s, tokens, c->heads * d, 1.0, s->dtype);
    t->out = scene_mat(s, tokens, c->heads * d);
    t->lse = scene_mat(s, c->heads, tokens);
    t->dq = scene_mat(s, tokens, c->heads * d);
    t->dk = scene_mat(s, tokens, c->kv_heads * d);
    t->dv = scene_mat(s, tokens, c->kv_heads * d);
    ref_attention_forward(&t->a, &t->batch.host, t->q, t->k, t->v, t->out, t->lse);
    ref_attention_backward(&t->a, &t->batch.host, t->q, t->k, t->v, t->dout, t->dq, t->dk, t->dv);
}

static void run_case(struct scene *s, const void *arg) {
    const struct attention_case *c = arg;
    struct attention_scene t;
    open_attention(s, &t, c);
    const struct batch *b = &t.batch.device;
    int64_t tokens = b->n_tokens, pad = c->pad;
    struct tensor q = scene_put(s, t.q, pad, s->dtype), k = scene_put(s, t.k, pad, s->dtype);
    struct tensor v = scene_put(s, t.v, pad, s->dtype), dout = scene_put(s, t.dout, pad, s->dtype);
    struct tensor out = scene_tensor(s, tokens, t.q.cols, pad, s->dtype);
    struct tensor dq = scene_tensor(s, tokens, t.q.cols, pad, s->dtype);
    struct tensor dk = scene_tensor(s, tokens, t.k.cols, pad, s->dtype);
    struct tensor dv = scene_tensor(s, tokens, t.k.cols, pad, s->dtype);
    float *lse = scene_device(s, (size_t)(c->heads * tokens) * sizeof *lse);
    double limit = limit_of(s->dtype);
    s->ops->attention_forward(s->dev, &t.a, b, q, k, v, out, lse);
    scene_check_tensor(s, "out", out, t.out, limit);
    scene_check_padding(s, "out", out);
    scene_check(s, "lse", scene_get_f32(s, lse, c->heads, tokens), t.lse, limit);
    s->ops->attention_backward(s->dev, &t.a, b, q, k, v, out, lse, dout, dq, dk, dv);
    scene_check_tensor(s, "dv", dv, t.dv, limit);
    if (c->window != 1 &&
        tokens > 1) { /* one key: dq = dk = 0, and a relative error says nothing */
        scene_check_tensor(s, "dq", dq, t.dq, 3 * limit);
        scene_check_tensor(s, "dk", dk, t.dk, 3 * limit);
    }
    scene_check_padding(s, "dq", dq);
    scene_check_padding(s, "dk", dk);
    scene_check_padding(s, "dv", dv);
}

Test(attention, agrees_with_the_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        each_device(run_case, &cases[i]);
}

static double loss(void *arg) {
    struct attention_scene *t = arg;
    double sum = 0;
    ref_attention_forward(&t->a, &t->batch.host, t->q, t->k, t->v, t->out, (struct mat){0});
    for (int64_t i = 0; i < t->out.rows * t->out.cols; i++)
        sum += t->dout.v[i] * t->out.v[i];
    return sum;
}

Test(attention, reference_agrees_with_differences) {
    struct scene s = {.dtype = DTYPE_F32, .label = "reference", .random = 7};
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cpu", 1, &s.dev, &em), ERR_OK);
    s.ops = s.dev->ops;
    static const struct attention_case small[] = {{4, 2, 8, 0, {7, 1, 13}, 0},
                                                  {3, 1, 8, 4, {11, 6}, 0}};
    for (int i = 0; i < 2; i++) {
        struct attention_scene t;
        open_attention(&s, &t, &small[i]);
        scene_check_slope(&s, "q", loss, &t, t.q, t.dq, 25);
        scene_check_slope(&s, "k", loss, &t, t.k, t.dk, 25);
        scene_check_slope(&s, "v", loss, &t, t.v, t.dv, 25);
    }
    scene_clear(&s);
    device_close(s.dev);
}
