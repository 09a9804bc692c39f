/* ffwd bench: speed and memory of a LoRA training step on random tokens. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "engine/cli/bench_profile.h"
#include "engine/cli/cli.h"
#include "engine/cli/options.h"
#include "engine/model/adapter.h"
#include "engine/model/model.h"
#include "engine/train/memory.h"
#include "engine/train/plan.h"

static const char help_text[] =
    "usage: ffwd bench --shape NAME|--model DIR [OPTIONS]\n"
    "\n"
    "Times LoRA training steps (all linear layers, random tokens, every token trained, no Fast\n"
    "Forward): forward, backward, clipping, AdamW. Prints one JSON line.\n"
    "\n"
    "  --shape NAME    smollm2-135m, qwen2.5-0.5b, llama-3.2-1b, llama-3-8b or pythia-1.4b, with\n"
    "                  random weights\n"
    "  --model DIR     a model folder instead\n"
    "  --device D      auto (default), cpu, cuda or cuda:N\n"
    "  --dtype T       bf16 or f32; default: bf16 where the device has products in it\n"
    "  --seq N         tokens of an example (default 512)\n"
    "  --batch N       examples of a step (default 4)\n"
    "  --rank N        LoRA rank (default 16)\n"
    "  --threads N     CPU threads (default: all cores)\n"
    "  --steps N       timed steps, after one that is not (default 5)\n"
    "  --profile       as many steps again with a clock around each operation: a table on "
    "standard\n"
    "                  error, and \"profile\" in the JSON line\n"
    "  --evaluation    as many evaluations of the same tokens again: \"evaluation_ms\", and for\n"
    "                  comparison \"forward_ms\", a step's own forward pass with the loss alone\n"
    "\n"
    "A step's examples go through the model as in training, at most so many tokens at a time\n"
    "(\"micro_batch_tokens\"). tokens_per_s is that of the median step; model_tflops counts 4\n"
    "FLOPs per weight and token, and attention; gemm_peak_tflops is the speed of the step's\n"
    "matrix products alone, in the same run on the same shapes; mfu is the ratio of the two.\n"
    "peak_bytes is the resident peak of the process on a CPU, device memory on an accelerator;\n"
    "planned_bytes what was planned for it before the first step.\n";

struct bench {
    const char *shape, *model_dir, *device, *dtype_text;
    int64_t seq, batch, rank, threads, steps;
    bool help, want_profile, want_evaluation;
    struct device *dev;
    enum dtype dtype;
    struct model *model;
    struct adapter *adapter;
    struct pass *pass;
    struct memory_plan plan;
    struct profile *profile; /* NULL: not asked for */
    double profiled_seconds; /* of all its steps */
    int64_t steps_done;
    json_t *each, *processor; /* milliseconds of the timed steps; of all threads in them */
    double evaluation_seconds, forward_seconds; /* best; 0: not asked for */
    float *m, *v, *nll;
    struct host_batch host; /* the whole step's */
    int32_t part_rows;      /* examples of a pass, as in training */
    int32_t *ids, *pos, *seq_start, *rows, *targets;
    uint64_t *keys;
};

static enum err read_options(struct bench *b, int argc, char **argv, struct err_msg *em) {
    const struct cli_option options[] = {
        {.name = "--shape", .text = &b->shape},
        {.name = "--model", .text = &b->model_dir},
        {.name = "--device", .text = &b->device},
        {.name = "--dtype", .text = &b->dtype_text},
        {.name = "--seq", .number = &b->seq, .lo = 2, .hi = LIMIT_SEQ},
        {.name = "--batch", .number = &b->batch, .lo = 1, .hi = LIMIT_BATCH},
        {.name = "--rank", .number = &b->rank, .lo = 1, .hi = LIMIT_RANK},
        {.name = "--threads", .number = &b->threads, .lo = 1, .hi = LIMIT_THREADS},
        {.name = "--steps", .number = &b->steps, .lo = 1, .hi = 100000},
        {.name = "--profile", .flag = &b->want_profile},
        {.name = "--evaluation", .flag = &b->want_evaluation},
    };
    *b = (struct bench){.device = "auto", .seq = 512, .batch = 4, .rank = 16, .steps = 5};
    enum err e =
        cli_options_read(argc, argv, options, sizeof options / sizeof options[0], &b->help, em);
    if (e != ERR_OK || b->help)
        return e;
    if ((b->shape == NULL) == (b->model_dir == NULL))
        return err_set(em, ERR_USAGE, "give either --shape NAME or --model DIR");
    if (b->seq * b->batch > LIMIT_SEQ)
        return err_set(em, ERR_USAGE, "--seq times --batch is above %d tokens", LIMIT_SEQ);
    return ERR_OK;
}

static enum err open_model(struct bench *b, struct err_msg *em) {
    enum err e = device_open(b->device, (int)b->threads, &b->dev, em);
    if (e == ERR_OK)
        e = cli_dtype(b->dtype_text, b->dev, &b->dtype, em);
    if (e != ERR_OK)
        return e;
    e = b->shape != NULL ? model_open_shape(b->dev, b->shape, b->dtype, &b->model, em)
                         : model_open(b->dev, b->model_dir, b->dtype, &b->model, em);
    if (e == ERR_OK && b->seq > model_config(b->model)->max_positions)
        e = err_set(em, ERR_USAGE, "--seq %lld: the model has %d positions", (long long)b->seq,
                    model_config(b->model)->max_positions);
    return e;
}

static bool is_cpu(const struct bench *b) {
    struct device_info info;
    b->dev->ops->info(b->dev, &info);
    return strcmp(info.kind, "cpu") == 0;
}

/* Moments of AdamW, zeroed, in one piece. */
static enum err open_optimizer(struct bench *b, struct err_msg *em) {
    void *moments;
    size_t n = adapter_size(b->adapter), bytes = 2 * n * sizeof(float);
    enum err e = b->dev->ops->mem_alloc(b->dev, bytes, &moments, em);
    if (e != ERR_OK)
        return e;
    b->dev->ops->mem_zero(b->dev, moments, bytes);
    b->m = moments;
    b->v = b->m + n;
    return ERR_OK;
}

/* Every position predicts a token; the last of an example predicts one drawn for it. */
static void make_batch(struct bench *b) {
    int32_t tokens = (int32_t)(b->seq * b->batch), vocab = model_config(b->model)->vocab;
    size_t n = (size_t)tokens;
    b->ids = xcalloc(n, sizeof *b->ids);
    b->pos = xcalloc(n, sizeof *b->pos);
    b->rows = xcalloc(n, sizeof *b->rows);
    b->targets = xcalloc(n, sizeof *b->targets);
    b->keys = xcalloc(n, sizeof *b->keys);
    b->nll = xcalloc(n, sizeof *b->nll);
    b->seq_start = xcalloc((size_t)b->batch + 1, sizeof *b->seq_start);
    uint64_t x = 88172645463325252u; /* Marsaglia's xorshift64 */
    for (int32_t i = 0; i < tokens; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        b->ids[i] = (int32_t)(x % (uint64_t)vocab);
        b->pos[i] = i % (int32_t)b->seq;
        b->rows[i] = i;
        b->keys[i] = (uint64_t)(i / b->seq) << 32 | (uint64_t)b->pos[i];
        b->targets[i] = (int32_t)(x >> 20 & 0x7FFFFFFF) % vocab;
        if (i > 0 && b->pos[i] > 0)
            b->targets[i - 1] = b->ids[i];
    }
    for (int32_t s = 0; s <= b->batch; s++)
        b->seq_start[s] = s * (int32_t)b->seq;
    b->host = (struct host_batch){.n_tokens = tokens,
                                  .n_seqs = (int32_t)b->batch,
                                  .n_targets = tokens,
                                  .ids = b->ids,
                                  .pos = b->pos,
                                  .seq_start = b->seq_start,
                                  .target_rows = b->rows,
                                  .target_ids = b->targets,
                                  .keys = b->keys};
}

/* Known before the first step; peak_bytes is what came of it. */
static enum err plan_memory(struct bench *b, const struct lora_options *lora,
                            const struct pass_limits *limits, struct err_msg *em) {
    const struct memory_ask ask = {.dev = b->dev,
                                   .config = model_config(b->model),
                                   .dtype = b->dtype,
                                   .lora = lora,
                                   .training = *limits};
    enum err e = memory_plan_make(&ask, &b->plan, em);
    if (e != ERR_OK || !is_cpu(b))
        return e;
    b->plan.process = memory_process(b->model, b->plan.weights);
    b->plan.total += b->plan.process;
    return ERR_OK;
}

static enum err prepare(struct bench *b, struct err_msg *em) {
    const struct lora_options lora = {.rank = (int32_t)b->rank, .alpha = 2 * (float)b->rank};
    struct pass_limits limits = {.training = true};
    enum err e = open_model(b, em);
    if (e == ERR_OK) {
        const struct model_config *c = model_config(b->model);
        b->part_rows = plan_capacity(is_cpu(b), c, (int32_t)b->seq, b->batch) / (int32_t)b->seq;
        limits.seqs = b->part_rows;
        limits.tokens = limits.targets = b->part_rows * (int32_t)b->seq;
        e = plan_memory(b, &lora, &limits, em);
    }
    if (e == ERR_OK)
        e = adapter_new(b->model, &lora, 1, &b->adapter, em);
    if (e == ERR_OK)
        e = open_optimizer(b, em);
    if (e == ERR_OK)
        e = pass_new(b->model, b->adapter, &limits, &b->pass, em);
    if (e == ERR_OK)
        make_batch(b);
    return e;
}

/* Examples first … of the step, at most rows of them. */
static struct host_batch part_of(const struct bench *b, int32_t first, int32_t rows) {
    int32_t seq = (int32_t)b->seq, left = b->host.n_seqs - first;
    struct host_batch part = b->host;
    part.n_seqs = rows < left ? rows : left;
    part.n_tokens = part.n_targets = part.n_seqs * seq;
    part.ids += first * seq; /* places and rows count from the part's beginning */
    part.target_ids += first * seq;
    part.keys += first * seq;
    return part;
}

static enum err train_all(struct bench *b, struct err_msg *em) {
    const struct dropout off = {0};
    enum err e = ERR_OK;
    for (int32_t first = 0; first < b->host.n_seqs && e == ERR_OK; first += b->part_rows) {
        struct host_batch part = part_of(b, first, b->part_rows);
        e = pass_train(b->pass, &part, 1.0f / (float)b->host.n_targets, &off, b->nll, NULL, em);
    }
    return e;
}

static enum err step(struct bench *b, double *seconds, struct err_msg *em) {
    int64_t number = ++b->steps_done;
    const struct ops *ops = b->dev->ops;
    struct adapter_mem *mem = adapter_mem(b->adapter);
    double sumsq = 0, start = clock_mono();
    const struct adamw o = {1e-4f, 0.9f, 0.999f, 1e-8f, 0, number, 1};
    ops->mem_zero(b->dev, mem->g, mem->n * sizeof *mem->g);
    enum err e = train_all(b, em);
    if (e == ERR_OK)
        e = ops->adamw(b->dev, &o, mem, b->m, b->v, &sumsq, em);
    if (e == ERR_OK)
        e = ops->sync(b->dev, em);
    *seconds = clock_mono() - start;
    if (e == ERR_OK && !isfinite(sumsq))
        e = err_set(em, ERR_DIVERGED, "the gradient is not finite at step %lld", (long long)number);
    return e;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of this process: what a step takes of it says something even on a machine that is busy. */
static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static enum err measure(struct bench *b, double *median, struct err_msg *em) {
    double *seconds = xcalloc((size_t)b->steps, sizeof *seconds), warm_up;
    b->each = json_array();
    b->processor = json_array();
    enum err e = step(b, &warm_up, em);
    for (int64_t i = 0; i < b->steps && e == ERR_OK; i++) {
        double before = processor_seconds();
        e = step(b, &seconds[i], em);
        json_array_append_new(b->processor, json_real(1e3 * (processor_seconds() - before)));
    }
    for (int64_t i = 0; i < b->steps; i++)
        json_array_append_new(b->each, json_real(1e3 * seconds[i]));
    qsort(seconds, (size_t)b->steps, sizeof *seconds, by_value);
    *median = 0.5 * (seconds[(b->steps - 1) / 2] + seconds[b->steps / 2]);
    free(seconds);
    return e;
}

static enum err time_forward(struct bench *b, struct pass *pass, int32_t rows, double *best,
                             struct err_msg *em) {
    double start = clock_mono();
    enum err e = ERR_OK;
    for (int32_t first = 0; first < b->host.n_seqs && e == ERR_OK; first += rows) {
        struct host_batch part = part_of(b, first, rows);
        e = pass_eval(pass, &part, b->nll, NULL, em);
    }
    double seconds = clock_mono() - start;
    *best = *best == 0 || seconds < *best ? seconds : *best;
    return e;
}

/* As Fast Forward measures, and in the places that a step keeps its activations in: turn by turn,
 * so that both see the same machine. */
static enum err measure_evaluations(struct bench *b, struct err_msg *em) {
    struct pass *inside;
    int32_t tokens = b->host.n_tokens, rows = 0;
    double ignored = 0;
    enum err e = pass_new_inside(b->pass, b->host.n_seqs, &tokens, &inside, em);
    if (e == ERR_OK) {
        rows = tokens > b->seq ? tokens / (int32_t)b->seq : 1;
        e = time_forward(b, inside, rows, &ignored, em);
    }
    for (int64_t i = 0; i < b->steps && e == ERR_OK; i++) {
        e = time_forward(b, inside, rows, &b->evaluation_seconds, em);
        if (e == ERR_OK)
            e = time_forward(b, b->pass, b->part_rows, &b->forward_seconds, em);
    }
    pass_free(inside);
    return e;
}

/* The steps again, each operation timed. */
static enum err measure_operations(struct bench *b, struct err_msg *em) {
    enum err e = ERR_OK;
    double seconds;
    b->profile = profile_on(b->dev, model_config(b->model)->vocab);
    for (int64_t i = 0; i < b->steps && e == ERR_OK; i++) {
        e = step(b, &seconds, em);
        b->profiled_seconds += seconds;
    }
    profile_off(b->profile);
    return e;
}

static enum err report(const struct bench *b, double seconds, double gemm, size_t peak,
                       json_t *profile, struct err_msg *em) {
    struct device_info info;
    int32_t *lengths = xcalloc((size_t)b->batch, sizeof *lengths);
    for (int64_t i = 0; i < b->batch; i++)
        lengths[i] = (int32_t)b->seq;
    double flops = 2 * model_forward_flops(b->model, lengths, (int)b->batch) / seconds;
    free(lengths);
    b->dev->ops->info(b->dev, &info);
    json_t *j = json_pack(
        "{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:I, s:f, s:f, s:f, s:f, s:I, s:f}", "shape",
        b->shape != NULL ? b->shape : b->model_dir, "device", info.kind, "device_name", info.name,
        "dtype", dtype_name(b->dtype), "seq", (json_int_t)b->seq, "batch", (json_int_t)b->batch,
        "rank", (json_int_t)b->rank, "threads", info.threads, "steps", (json_int_t)b->steps,
        "tokens_per_s", (double)(b->seq * b->batch) / seconds, "model_tflops", flops / 1e12,
        "gemm_peak_tflops", gemm / 1e12, "mfu", flops / gemm, "peak_bytes", (json_int_t)peak,
        "step_ms", seconds * 1e3);
    if (j != NULL)
        json_object_set_new(j, "micro_batch_tokens", json_integer(b->part_rows * b->seq));
    if (j != NULL)
        json_object_set(j, "step_ms_each", b->each);
    if (j != NULL)
        json_object_set(j, "step_processor_ms_each", b->processor);
    if (j != NULL)
        json_object_set_new(j, "planned_bytes", memory_plan_json(&b->plan));
    if (j != NULL && profile != NULL)
        json_object_set(j, "profile", profile);
    if (j != NULL && b->want_evaluation) {
        json_object_set_new(j, "evaluation_ms", json_real(1e3 * b->evaluation_seconds));
        json_object_set_new(j, "forward_ms", json_real(1e3 * b->forward_seconds));
    }
    char *line = j != NULL ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(j);
    if (line == NULL)
        return err_set(em, ERR_INPUT, "--model is not UTF-8");
    puts(line);
    free(line);
    return ERR_OK;
}

static enum err run(struct bench *b, struct err_msg *em) {
    double seconds = 0, gemm = 0;
    enum err e = prepare(b, em);
    if (e == ERR_OK)
        e = measure(b, &seconds, em);
    if (e != ERR_OK)
        return e;
    size_t peak = b->dev->ops->mem_peak(b->dev); /* before the products are timed on their own */
    struct bench_bounds bounds = {0};
    json_t *profile = NULL;
    if (b->want_evaluation)
        e = measure_evaluations(b, em);
    if (e == ERR_OK && b->want_profile)
        e = measure_operations(b, em);
    if (e == ERR_OK && b->want_profile)
        e = profile_bandwidth(b->dev, &bounds.bytes, em);
    if (e == ERR_OK)
        e = pass_product_speed(b->pass, 5, &gemm, em);
    if (e != ERR_OK)
        return e;
    bounds.flops = gemm;
    if (b->want_profile)
        profile = bench_profile_report(b->profile, b->steps, b->profiled_seconds, &bounds);
    e = report(b, seconds, gemm, peak, profile, em);
    json_decref(profile);
    return e;
}

static void bench_clear(struct bench *b) {
    if (b->m != NULL)
        b->dev->ops->mem_free(b->dev, b->m);
    json_decref(b->each);
    json_decref(b->processor);
    profile_free(b->profile);
    pass_free(b->pass);
    adapter_free(b->adapter);
    model_close(b->model);
    device_close(b->dev);
    free(b->ids);
    free(b->pos);
    free(b->rows);
    free(b->targets);
    free(b->keys);
    free(b->nll);
    free(b->seq_start);
}

int cmd_bench(int argc, char **argv) {
    struct bench b;
    struct err_msg em = ERR_MSG_INIT;
    enum err e = read_options(&b, argc, argv, &em);
    if (e == ERR_OK && b.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (e == ERR_OK)
        e = run(&b, &em);
    bench_clear(&b);
    return cli_report("bench", e, &em);
}
