/* Attention by cuDNN: who computes, how many plans there are and for how long, what is left to our
 * own kernels, and that a job stays with what it began with. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/attention_plans.h"
#include "tests/cuda/emulation/emulation.h"
#include "tests/cuda/support/shell.h"
#include "tests/ops/support/scene.h"

#define NEW 92600 /* orders the sums of dq */
#define OLD 91900 /* keeps all scores */

static void setup(void) {
    emulated_cudnn = NEW;
    (void)unsetenv("FFWD_CUDA_ATTENTION");
}

TestSuite(fused, .init = setup);

static struct device *open_device(void) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    cr_assert_eq(ffwd_cuda_open(0, &dev, &em), ERR_OK, "%s", em.text);
    return dev;
}

static void put(uint64_t *digest, struct mat m) {
    const unsigned char *bytes = (const unsigned char *)m.v;
    for (size_t i = 0; i < (size_t)(m.rows * m.cols) * sizeof *m.v; i++)
        *digest = (*digest ^ bytes[i]) * 0x100000001b3ull;
}

enum { GRADIENT_MOST = 4096 };
static double last_gradient[GRADIENT_MOST]; /* the first elements of dq, dk and dv */

/* Attention and its gradients on random examples; the digest of all results. */
static uint64_t attend(struct device *dev, const struct attention *a, const int32_t *lengths,
                       int n) {
    struct scene s = {
        .dev = dev, .ops = dev->ops, .dtype = DTYPE_BF16, .label = "cuda", .random = 5};
    struct scene_batch batch = scene_pack(&s, lengths, n);
    const struct batch *b = &batch.device;
    int64_t t = b->n_tokens, q_cols = a->n_heads * a->head_dim,
            k_cols = a->n_kv_heads * a->head_dim;
    struct tensor qkv =
        scene_put(&s, scene_random(&s, t, q_cols + 2 * k_cols, 2.0, DTYPE_BF16), 0, DTYPE_BF16);
    struct tensor dout = scene_put(&s, scene_random(&s, t, q_cols, 1.0, DTYPE_BF16), 0, DTYPE_BF16);
    struct tensor out = scene_tensor(&s, t, q_cols, 0, DTYPE_BF16);
    struct tensor d = scene_tensor(&s, t, q_cols + 2 * k_cols, 0, DTYPE_BF16);
    float *lse = scene_device(&s, (size_t)(a->n_heads * t) * sizeof *lse);
    struct tensor q = tensor_columns(qkv, 0, q_cols), k = tensor_columns(qkv, q_cols, k_cols);
    struct tensor v = tensor_columns(qkv, q_cols + k_cols, k_cols);
    dev->ops->attention_forward(dev, a, b, q, k, v, out, lse);
    dev->ops->attention_backward(dev, a, b, q, k, v, out, lse, dout, tensor_columns(d, 0, q_cols),
                                 tensor_columns(d, q_cols, k_cols),
                                 tensor_columns(d, q_cols + k_cols, k_cols));
    uint64_t digest = 0xcbf29ce484222325ull;
    put(&digest, scene_get(&s, out));
    struct mat gradient = scene_get(&s, d);
    put(&digest, gradient);
    for (int i = 0; i < GRADIENT_MOST && i < gradient.rows * gradient.cols; i++)
        last_gradient[i] = gradient.v[i];
    put(&digest, scene_get_f32(&s, lse, a->n_heads, t));
    scene_clear(&s);
    return digest;
}

static const struct attention form = {4, 2, 16, 0.25f, 0};
static const int32_t lengths[] = {7, 1, 40, 12, 3};

static uint64_t attend_alone(const struct attention *a) {
    struct device *dev = open_device();
    uint64_t digest = attend(dev, a, lengths, 5);
    device_close(dev);
    cr_assert_eq(emulated_plans, 0);
    return digest;
}

/* As our own kernels do it. */
static uint64_t own(const struct attention *a) {
    cr_assert_eq(setenv("FFWD_CUDA_ATTENTION", "own", 1), 0);
    uint64_t digest = attend_alone(a);
    cr_assert_eq(unsetenv("FFWD_CUDA_ATTENTION"), 0);
    return digest;
}

/* ---- who computes --------------------------------------------------------------------------- */

Test(fused, is_used_where_it_is) {
    uint64_t ours = own(&form), theirs = attend_alone(&form);
    cr_assert_neq(theirs, ours); /* the emulated library rounds otherwise */
    emulated_cudnn = 0;
    cr_assert_eq(attend_alone(&form), ours);
}

Test(fused, is_asked_for_on_other_devices_than_hopper) {
    uint64_t ours = own(&form);
    emulated_machine.major = 8;
    cr_assert_eq(attend_alone(&form), ours);
    cr_assert_eq(setenv("FFWD_CUDA_ATTENTION", "cudnn", 1), 0);
    cr_assert_neq(attend_alone(&form), ours);
}

Test(fused, is_not_done_without_in_silence) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev;
    emulated_cudnn = 0;
    cr_assert_eq(setenv("FFWD_CUDA_ATTENTION", "cudnn", 1), 0);
    cr_assert_eq(ffwd_cuda_open(0, &dev, &em), ERR_UNSUPPORTED);
    cr_assert(strstr(em.text, "asks for cuDNN: there is no emulated libcudnn"), "%s", em.text);
    err_clear(&em);
    cr_assert_eq(setenv("FFWD_CUDA_ATTENTION", "flash", 1), 0);
    cr_assert_eq(ffwd_cuda_open(0, &dev, &em), ERR_INPUT);
    cr_assert(strstr(em.text, "not \"flash\""), "%s", em.text);
}

/* Heads that it does not take, and plans that want more memory than was planned. */
Test(fused, leaves_what_it_refuses_to_our_kernels) {
    struct attention wide = form;
    wide.head_dim = 136;
    cr_assert_eq(attend_alone(&wide), own(&wide));
    uint64_t theirs = attend_alone(&form), ours = own(&form);
    emulated_workspace = (size_t)8 << 20;
    cr_assert_eq(attend_alone(&form), theirs);
    emulated_workspace = (size_t)80 << 20;
    cr_assert_eq(attend_alone(&form), ours);
}

/* The statistics of one are those of the other: a forward pass of our kernels, a backward pass by
 * the library, which the emulated one is allowed more memory for. */
Test(fused, shares_statistics_with_our_kernels) {
    uint64_t theirs = attend_alone(&form), ours = own(&form);
    double sum = 0, error = 0, gradient[GRADIENT_MOST];
    memcpy(gradient, last_gradient, sizeof gradient);
    emulated_workspace = (size_t)32 << 20;
    uint64_t mixed = attend_alone(&form);
    cr_assert(mixed != theirs && mixed != ours);
    for (int i = 0; i < GRADIENT_MOST; i++) {
        sum += gradient[i] * gradient[i];
        error += (gradient[i] - last_gradient[i]) * (gradient[i] - last_gradient[i]);
    }
    cr_assert(sum > 0 && error > 0);
    cr_assert_lt(sqrt(error / sum), 0.01);
}

Test(fused, takes_f32_to_our_kernels) {
    struct device *dev = open_device();
    struct scene s = {.dev = dev, .ops = dev->ops, .dtype = DTYPE_F32, .label = "", .random = 5};
    struct scene_batch batch = scene_pack(&s, lengths, 5);
    struct tensor x = scene_put(&s, scene_random(&s, 63, 64, 1.0, DTYPE_F32), 0, DTYPE_F32);
    struct tensor out = scene_tensor(&s, 63, 64, 0, DTYPE_F32);
    struct tensor keys = tensor_columns(x, 0, 32);
    float *lse = scene_device(&s, 4 * 63 * sizeof *lse);
    dev->ops->attention_forward(dev, &form, &batch.device, x, keys, keys, out, lse);
    cr_assert_eq(emulated_plans, 0);
    scene_clear(&s);
    device_close(dev);
}

/* ---- plans ---------------------------------------------------------------------------------- */

/* Batches of many forms need one plan each way. */
Test(fused, plans_serve_batches_of_many_forms) {
    const struct op_shapes most = {.dtype = DTYPE_BF16,
                                   .backward = true,
                                   .tokens = 256,
                                   .seqs = 8,
                                   .heads = 4,
                                   .head_dim = 16,
                                   .keys = 32};
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev = open_device();
    int32_t some[16];
    cr_assert_eq(dev->ops->reserve(dev, &most, &em), ERR_OK, "%s", em.text);
    for (int n = 5; n <= 8; n++)
        for (int32_t longest = 20; longest <= 120; longest += 50) {
            for (int i = 0; i < n; i++)
                some[i] = i == 2 ? longest : i + 1;
            uint64_t once = attend(dev, &form, some, n);
            cr_assert_eq(attend(dev, &form, some, n), once);
        }
    cr_assert_eq(emulated_plans, 2);
    device_close(dev);
    cr_assert_eq(emulated_plans, 0);
}

/* Those that were needed the longest time ago make room, and are made again when they are needed.
 */
Test(fused, plans_are_kept_in_bounded_number) {
    struct device *dev = open_device();
    struct attention a = form;
    uint64_t first = 0;
    for (a.window = 1; a.window <= 70; a.window++) {
        uint64_t digest = attend(dev, &a, lengths, 2);
        first = a.window == 1 ? digest : first;
        cr_assert_leq(emulated_plans, 64);
    }
    cr_assert_eq(emulated_plans, 64);
    a.window = 1;
    cr_assert_eq(attend(dev, &a, lengths, 2), first);
    device_close(dev);
}

/* An older library's backward pass is taken in parts, with the same result. */
Test(fused, an_older_library_takes_a_batch_in_several_runs) {
    const struct attention a = {64, 64, 8, 0.35f, 0};
    int32_t many[600];
    for (int i = 0; i < 600; i++)
        many[i] = 1 + i % 3;
    struct fused_shape s = cuda_attention_shape(&a, 600, 3, 1200, true, OLD);
    cr_assert_eq(s.examples, 512);
    s = cuda_attention_shape(&a, 600, 3, 1200, true, NEW);
    cr_assert_eq(s.examples, 1024);
    struct device *dev = open_device();
    uint64_t whole = attend(dev, &a, many, 600);
    device_close(dev);
    emulated_cudnn = OLD;
    dev = open_device();
    cr_assert_eq(attend(dev, &a, many, 600), whole);
    device_close(dev);
}

/* ---- faults --------------------------------------------------------------------------------- */

Test(fused, a_run_that_fails_is_a_fault) {
    struct err_msg em = ERR_MSG_INIT;
    struct device *dev = open_device();
    (void)attend(dev, &form, lengths, 5);
    const struct tensor none = {.dtype = DTYPE_BF16, .rows = 1, .cols = 64, .stride = 64};
    const int32_t *start;
    void *p;
    cr_assert_eq(dev->ops->mem_alloc(dev, 8, &p, &em), ERR_OK);
    dev->ops->mem_zero(dev, p, 8);
    start = p;
    const struct batch b = {.n_tokens = 1, .n_seqs = 1, .max_len = 1, .seq_start = start};
    emulation_fail("cudnnBackendExecute", cudaErrorLaunchFailure, 0, false);
    dev->ops->attention_forward(dev, &form, &b, none, none, none, none, NULL);
    cr_assert_eq(dev->ops->sync(dev, &em), ERR_DEVICE);
    cr_assert(strstr(em.text, "cudnnBackendExecute"), "%s", em.text);
    dev->ops->mem_free(dev, p);
    device_close(dev);
}

/* ---- the choice of a job -------------------------------------------------------------------- */

static char *choices_with(int version) {
    emulated_cudnn = version;
    struct device *dev = open_device();
    char *text = dev->ops->choices_text(dev);
    device_close(dev);
    return text;
}

Test(fused, is_among_the_choices) {
    char *ours = choices_with(0), *theirs = choices_with(NEW), *older = choices_with(OLD);
    cr_assert(strstr(ours, " attention=own\n"), "%s", ours);
    cr_assert(strstr(theirs, " attention=cudnn-92600\n"), "%s", theirs);
    emulated_cudnn = NEW;
    uint64_t own_digest = own(&form);
    struct device *dev = open_device();
    uint64_t digest = attend(dev, &form, lengths, 5);
    /* a job that began without cuDNN goes on without it, one of an earlier ffwd too */
    cr_assert(dev->ops->choices_use(dev, ours));
    cr_assert_eq(attend(dev, &form, lengths, 5), own_digest);
    char *again = dev->ops->choices_text(dev);
    cr_assert_str_eq(again, ours);
    *strstr(again, " attention=") = '\n';
    strchr(again, '\n')[1] = '\0';
    cr_assert(dev->ops->choices_use(dev, NULL));
    cr_assert(dev->ops->choices_use(dev, again));
    cr_assert_eq(attend(dev, &form, lengths, 5), own_digest);
    /* another version rounds otherwise; the next job begins anew */
    cr_assert_not(dev->ops->choices_use(dev, older));
    cr_assert_eq(attend(dev, &form, lengths, 5), digest);
    cr_assert(dev->ops->choices_use(dev, theirs));
    cr_assert_eq(attend(dev, &form, lengths, 5), digest);
    device_close(dev);
    cr_assert_eq(setenv("FFWD_CUDA_ATTENTION", "cudnn", 1), 0);
    dev = open_device();
    cr_assert_not(dev->ops->choices_use(dev, ours));
    device_close(dev);
    free(ours);
    free(theirs);
    free(older);
    free(again);
}

#define CASE "tests/reference/cases/llama-gqa"
#define TRAIN                                                                                      \
    "$FFWD train --model " CASE " --train " CASE "/rows.jsonl --device cuda --dtype bf16 "         \
    "--config $D/c.json --resume --out $D/"
#define SAME(a, b)                                                                                 \
    "cmp -s $D/" a "/adapter/adapter_model.safetensors $D/" b "/adapter/adapter_model.safetensors"
#define FAULT "FFWD_EMULATED_FAULT='cudaGraphLaunch 719 14 1' "

/* Two jobs are stopped, one on a machine without cuDNN and one with it. They go on where it is:
 * both to the bytes of a job left alone. The second one again where it is not: it says so. */
Test(fused, or_not_outlasts_the_process) {
    char dir[] = "/tmp/ffwd-test-XXXXXX";
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(setenv("D", dir, 1), 0);
    cr_assert_eq(shell("echo '{\"hyperparameters\":{\"n_epochs\":2,\"batch_size\":1},"
                       "\"fast_forward\":{\"enabled\":false},\"lora\":{\"rank\":4},"
                       "\"training\":{\"checkpoint_interval\":6,\"shuffle\":false,"
                       "\"max_seq_len\":32}}' >$D/c.json"),
                 0);
    cr_assert_eq(shell(TRAIN "own >$D/log 2>&1"), 0);
    cr_assert_eq(shell(FAULT TRAIN "own-stopped >$D/log 2>&1"), 70);
    cr_assert_eq(setenv("FFWD_EMULATED_CUDNN", "92600", 1), 0);
    cr_assert_eq(shell(TRAIN "cudnn >$D/log 2>&1"), 0);
    cr_assert_eq(shell(SAME("own", "cudnn")), 1);
    cr_assert_eq(shell(FAULT TRAIN "cudnn-stopped >$D/log 2>&1"), 70);
    cr_assert_eq(shell("test -d $D/cudnn-stopped/resume/step-6 && "
                       "cp -r $D/cudnn-stopped $D/elsewhere"),
                 0);
    cr_assert_eq(shell(TRAIN "own-stopped >$D/log 2>&1"), 0);
    cr_assert_eq(shell("grep -q 'another device' $D/log"), 1);
    cr_assert_eq(shell(SAME("own", "own-stopped")), 0);
    cr_assert_eq(shell(TRAIN "cudnn-stopped >$D/log 2>&1"), 0);
    cr_assert_eq(shell("grep -q 'another device' $D/log"), 1);
    cr_assert_eq(shell(SAME("cudnn", "cudnn-stopped")), 0);
    cr_assert_eq(unsetenv("FFWD_EMULATED_CUDNN"), 0);
    cr_assert_eq(shell(TRAIN "elsewhere >$D/log 2>&1"), 0);
    cr_assert_eq(shell("grep -q 'another device.*attention=cudnn-92600.*attention=own' $D/log"), 0);
    cr_assert_eq(shell("rm -rf $D"), 0);
}
