/* The product behind all others: transposes, types, strides, accumulation. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/ops/cpu/gemm.h"
#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

struct gemm_case {
    int64_t m, n, k, pad;
    bool a_t, b_t, mixed; /* mixed: a is f32 whatever b is */
};

static const struct gemm_case cases[] = {
    {1, 1, 1, 0, false, false, false},     {5, 3, 7, 2, true, true, false},
    {32, 64, 96, 0, false, true, false},   {33, 65, 97, 1, false, false, true},
    {64, 32, 2100, 0, true, false, false}, {16, 70, 1025, 3, true, false, true},
    {31, 1, 600, 0, false, true, true},    {128, 256, 64, 8, false, true, false},
};

struct gemm_run {
    struct scene *s;
    const struct gemm_case *c;
    struct operand a, b;
    float *out;
    bool accumulate;
};

static void run_item(void *arg, int64_t item, int worker) {
    struct gemm_run *r = arg;
    const struct gemm_case *c = r->c;
    struct cpu *cpu = cpu_of(r->s->dev);
    (void)item;
    gemm(cpu, worker, c->m, c->n, c->k, r->a, r->b, r->out, c->n + c->pad, r->accumulate);
}

static void run_case(struct scene *s, const void *arg) {
    const struct gemm_case *c = arg;
    struct cpu *cpu = cpu_of(s->dev);
    enum dtype a_type = c->mixed ? DTYPE_F32 : s->dtype;
    struct mat a = scene_random(s, c->a_t ? c->k : c->m, c->a_t ? c->m : c->k, 1.0, a_type);
    struct mat b = scene_random(s, c->b_t ? c->n : c->k, c->b_t ? c->k : c->n, 1.0, s->dtype);
    struct mat start = scene_random(s, c->m, c->n, 1.0, DTYPE_F32), want = scene_copy(s, start);
    struct gemm_run r = {.s = s, .c = c};
    r.a = operand_of(scene_put(s, a, c->pad, a_type));
    r.b = operand_of(scene_put(s, b, c->pad, s->dtype));
    r.a.transposed = c->a_t;
    r.b.transposed = c->b_t;
    /* f32 operands are rounded to bf16 where products of bf16 are in hardware */
    double limit = c->mixed && cpu->choice->native_bf16 ? limit_of(s->dtype) : 3e-6;
    for (int i = 0; i < 2; i++) {
        r.accumulate = i;
        ref_product(a, c->a_t, b, c->b_t, want, false);
        for (int64_t j = 0; r.accumulate && j < c->m * c->n; j++)
            want.v[j] += start.v[j];
        struct tensor out = scene_put(s, start, c->pad, DTYPE_F32);
        r.out = out.data;
        team_run(cpu->team, 1, run_item, &r);
        scene_check_tensor(s, "product", out, want, limit);
        scene_check_padding(s, "product", out);
    }
}

Test(gemm, agrees_with_the_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        each_device(run_case, &cases[i]);
}
