/* The product behind all others: transposes, types, strides, accumulation, packed matrices. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "engine/ops/cpu/gemm.h"
#include "engine/ops/cpu/primitives.h"
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
    bool accumulate, pack;
};

static void run_item(void *arg, int64_t item, int worker) {
    struct gemm_run *r = arg;
    const struct gemm_case *c = r->c;
    struct cpu *cpu = cpu_of(r->s->dev);
    struct operand b = r->b;
    struct packed *packed = NULL;
    (void)item;
    if (r->pack) {
        packed = primitives_pack(cpu, worker, c->m, c->n, c->k, b);
        cr_assert_not_null(packed);
        b = (struct operand){.dtype = b.dtype, .packed = packed};
    }
    gemm(cpu, worker, c->m, c->n, c->k, r->a, b, r->out, c->n + c->pad, r->accumulate);
    packed_free(packed);
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
    double limit = c->mixed && cpu->native_bf16 ? limit_of(s->dtype) : 3e-6;
    bool packable = cpu->primitives && s->dtype == DTYPE_F32 && c->n % 32 == 0 && c->k % 32 == 0;
    for (int i = 0; i < 4; i++) {
        r.accumulate = i % 2;
        r.pack = i / 2;
        if (r.pack && !packable)
            break;
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

static void unpack_item(void *arg, int64_t item, int worker) {
    struct scene *s = arg;
    struct cpu *c = cpu_of(s->dev);
    struct mat b = scene_random(s, 64, 96, 1.0, DTYPE_F32);
    struct operand op = operand_f32(scene_put_f32(s, b), 96);
    float *back = scene_device(s, 64 * 96 * sizeof *back);
    struct packed *w = primitives_pack(c, worker, 64, 96, 64, op);
    (void)item;
    cr_assert_not_null(w);
    cr_assert(primitives_unpack(c, worker, w, 96, 64, DTYPE_F32, back));
    scene_check(s, "unpacked", scene_get_f32(s, back, 64, 96), b, 0);
    packed_free(w);
    /* sizes that are no multiple of the unit are refused */
    cr_assert_null(primitives_pack(c, worker, 64, 95, 64, op));
}

Test(gemm, packed_matrices_can_be_unpacked) {
    struct scene s = {.dtype = DTYPE_F32, .label = "primitives", .random = 3};
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(cpu_open(1, CPU_PRODUCT_PRIMITIVES, &s.dev, &em), ERR_OK);
    s.ops = s.dev->ops;
    team_run(cpu_of(s.dev)->team, 1, unpack_item, &s);
    scene_clear(&s);
    device_close(s.dev);
}
