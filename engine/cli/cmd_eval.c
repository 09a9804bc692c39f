/* ffwd eval: loss of a model, with or without an adapter, on every row of a data file.
 *
 * Rows are packed, in the file's order, into batches of thousands of tokens. A row's numbers do not
 * depend on its neighbours beyond rounding: it attends to itself only, and sums are of its own. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "engine/cli/cli.h"
#include "engine/cli/options.h"
#include "engine/model/adapter.h"
#include "engine/model/model.h"
#include "engine/text/dataset_model.h"

static const char help_text[] =
    "usage: ffwd eval --model DIR --data FILE [OPTIONS]\n"
    "\n"
    "Prints one JSON line per row of FILE (JSONL, any kind of row that training takes):\n"
    "  {\"tokens\":n,\"nll\":sum}     n: labels that are trained on, from position 1 on\n"
    "and a last one: {\"total\":{\"examples\",\"tokens\",\"nll\",\"loss\"}}, loss = nll / tokens.\n"
    "\n"
    "  --model DIR     model folder\n"
    "  --adapter DIR   LoRA adapter in PEFT's files\n"
    "  --data FILE     rows; longer ones are cut at the model's number of positions\n"
    "  --device D      auto (default), cpu, cuda or cuda:N\n"
    "  --dtype T       bf16 or f32; default: bf16 where the device has products in it\n"
    "  --threads N     CPU threads (default: all cores)\n"
    "  --logits N      adds \"logits\": of the first N positions, one array per position\n";

/* Values of one --logits answer: 8 GiB of memory. */
#define LOGITS_MAX ((int64_t)1 << 31)
/* A batch: enough that reading the weights costs little beside the products. */
#define BATCH_TOKENS 8192
#define BATCH_ROWS 1024

struct eval {
    const char *model_dir, *adapter_dir, *data, *device, *dtype_text;
    int64_t threads, logits;
    bool help;
    struct device *dev;
    struct model *model;
    struct adapter *adapter;
    struct dataset_model texts;
    struct dataset *rows;
    struct pass *pass;
    struct ids ids, labels;
    int32_t longest, capacity, max_rows; /* tokens of a row, tokens and rows of a batch */
    struct host_batch batch;
    int32_t *batch_ids, *pos, *target_rows, *target_ids; /* [capacity] */
    int32_t *seq_start, *first_target;                   /* [max_rows + 1] */
    int64_t first_row;                                   /* of the batch */
    float *nll, *logit_values;
    int64_t tokens; /* of all rows so far; labels */
    double total;
};

static enum err read_options(struct eval *v, int argc, char **argv, struct err_msg *em) {
    const struct cli_option options[] = {
        {.name = "--model", .text = &v->model_dir},
        {.name = "--adapter", .text = &v->adapter_dir},
        {.name = "--data", .text = &v->data},
        {.name = "--device", .text = &v->device},
        {.name = "--dtype", .text = &v->dtype_text},
        {.name = "--threads", .number = &v->threads, .lo = 1, .hi = LIMIT_THREADS},
        {.name = "--logits", .number = &v->logits, .lo = 1, .hi = LIMIT_SEQ},
    };
    *v = (struct eval){.device = "auto"};
    enum err e =
        cli_options_read(argc, argv, options, sizeof options / sizeof options[0], &v->help, em);
    if (e != ERR_OK || v->help)
        return e;
    if (v->model_dir == NULL || v->data == NULL)
        return err_set(em, ERR_USAGE, "--model and --data are needed");
    return ERR_OK;
}

static enum err open_model(struct eval *v, struct err_msg *em) {
    enum dtype dtype = DTYPE_F32;
    enum err e = device_open(v->device, (int)v->threads, &v->dev, em);
    if (e == ERR_OK)
        e = cli_dtype(v->dtype_text, v->dev, &dtype, em);
    if (e == ERR_OK)
        e = model_open(v->dev, v->model_dir, dtype, &v->model, em);
    if (e == ERR_OK && v->adapter_dir != NULL)
        e = adapter_open(v->model, v->adapter_dir, &v->adapter, em);
    return e;
}

static enum err open_rows(struct eval *v, struct err_msg *em) {
    struct dataset_options options;
    enum err e = dataset_model_open(v->model_dir, &v->texts, em);
    if (e != ERR_OK)
        return e;
    dataset_model_options(&v->texts, model_config(v->model)->max_positions, &options);
    options.every_row = true;
    e = dataset_open(v->data, &options, &v->rows, NULL, em);
    for (int64_t i = 0; e == ERR_OK && i < dataset_rows(v->rows); i++) {
        int32_t tokens = dataset_row_tokens(v->rows, i);
        v->longest = tokens > v->longest ? tokens : v->longest;
    }
    return e;
}

/* Logits are of the first rows of a batch: each row is one then. Where a large batch does not fit,
 * half of it may. */
static enum err open_pass(struct eval *v, struct err_msg *em) {
    int32_t capacity = v->logits == 0 && v->longest < BATCH_TOKENS ? BATCH_TOKENS : v->longest;
    v->max_rows = v->logits == 0 ? BATCH_ROWS : 1;
    for (;;) {
        const struct pass_limits limits = {capacity, v->max_rows, capacity, false, 0};
        enum err e = pass_new(v->model, v->adapter, &limits, &v->pass, em);
        v->capacity = capacity;
        if (e != ERR_NO_MEMORY || capacity == v->longest)
            return e;
        err_clear(em);
        capacity = capacity / 2 > v->longest ? capacity / 2 : v->longest;
    }
}

static enum err open_batch(struct eval *v, struct err_msg *em) {
    int64_t logit_rows = v->logits < v->longest ? v->logits : v->longest;
    int64_t values = logit_rows * model_config(v->model)->vocab;
    if (values > LOGITS_MAX)
        return err_set(em, ERR_USAGE, "--logits %lld: too many values for a vocabulary of %d",
                       (long long)v->logits, model_config(v->model)->vocab);
    enum err e = open_pass(v, em);
    if (e != ERR_OK)
        return e;
    size_t n = (size_t)v->capacity, rows = (size_t)v->max_rows + 1;
    v->batch_ids = xcalloc(n, sizeof *v->batch_ids);
    v->pos = xcalloc(n, sizeof *v->pos);
    v->target_rows = xcalloc(n, sizeof *v->target_rows);
    v->target_ids = xcalloc(n, sizeof *v->target_ids);
    v->nll = xcalloc(n, sizeof *v->nll);
    v->seq_start = xcalloc(rows, sizeof *v->seq_start);
    v->first_target = xcalloc(rows, sizeof *v->first_target);
    if (values > 0)
        v->logit_values = xcalloc((size_t)values, sizeof *v->logit_values);
    v->batch = (struct host_batch){.ids = v->batch_ids,
                                   .pos = v->pos,
                                   .seq_start = v->seq_start,
                                   .target_rows = v->target_rows,
                                   .target_ids = v->target_ids};
    return ERR_OK;
}

/* Appends the row that was read to the batch. */
static void add_row(struct eval *v) {
    struct host_batch *b = &v->batch;
    int32_t first = b->n_tokens, n = (int32_t)v->ids.len;
    for (int32_t i = 0; i < n; i++) {
        v->batch_ids[first + i] = v->ids.data[i];
        v->pos[first + i] = i;
        if (i == 0 || v->labels.data[i] == LABEL_IGNORE)
            continue;
        v->target_rows[b->n_targets] = first + i - 1;
        v->target_ids[b->n_targets++] = v->labels.data[i];
    }
    b->n_tokens = first + n;
    v->seq_start[++b->n_seqs] = b->n_tokens;
    v->first_target[b->n_seqs] = b->n_targets;
}

static enum err print_logits(struct eval *v, const struct host_batch *b, struct err_msg *em) {
    int32_t n = v->logits < b->n_tokens ? (int32_t)v->logits : b->n_tokens;
    int64_t vocab = model_config(v->model)->vocab;
    enum err e = pass_logits(v->pass, b, n, v->logit_values, em);
    if (e != ERR_OK)
        return e;
    fputs(",\"logits\":[", stdout);
    for (int64_t i = 0; i < n * vocab; i++) {
        const char *before = i == 0 ? "[" : i % vocab == 0 ? "],[" : ",";
        printf("%s%.9g", before, (double)v->logit_values[i]);
    }
    fputs("]]", stdout);
    return ERR_OK;
}

static enum err print_row(struct eval *v, int32_t row, struct err_msg *em) {
    int32_t first = v->first_target[row], n = v->first_target[row + 1] - first;
    double sum = 0;
    enum err e = ERR_OK;
    for (int32_t i = first; i < first + n; i++)
        sum += v->nll[i];
    if (!isfinite(sum))
        return err_set(em, ERR_DIVERGED, "row %lld: the loss is not a finite number",
                       (long long)(v->first_row + row) + 1);
    printf("{\"tokens\":%d,\"nll\":%.12g", n, sum);
    if (v->logits > 0)
        e = print_logits(v, &v->batch, em);
    puts("}");
    v->tokens += n;
    v->total += sum;
    return e;
}

/* Runs the batch, prints its rows and empties it. */
static enum err eval_batch(struct eval *v, struct err_msg *em) {
    struct host_batch *b = &v->batch;
    if (b->n_seqs == 0)
        return ERR_OK;
    enum err e = pass_eval(v->pass, b, v->nll, NULL, em);
    for (int32_t row = 0; row < b->n_seqs && e == ERR_OK; row++)
        e = print_row(v, row, em);
    v->first_row += b->n_seqs;
    b->n_tokens = b->n_seqs = b->n_targets = 0;
    return e;
}

static enum err eval_rows(struct eval *v, struct err_msg *em) {
    enum err e = ERR_OK;
    for (int64_t i = 0; e == ERR_OK && i < dataset_rows(v->rows); i++) {
        e = dataset_read(v->rows, i, &v->ids, &v->labels, em);
        if (e == ERR_OK && v->ids.len > (size_t)v->longest)
            e = err_set(em, ERR_CONFLICT, "row %lld changed while the file was read",
                        (long long)i + 1);
        if (e == ERR_OK && (v->batch.n_seqs == v->max_rows ||
                            (int32_t)v->ids.len > v->capacity - v->batch.n_tokens))
            e = eval_batch(v, em);
        if (e == ERR_OK)
            add_row(v);
    }
    return e == ERR_OK ? eval_batch(v, em) : e;
}

static enum err run(struct eval *v, struct err_msg *em) {
    enum err e = open_model(v, em);
    if (e == ERR_OK)
        e = open_rows(v, em);
    if (e == ERR_OK && dataset_rows(v->rows) > 0)
        e = open_batch(v, em);
    if (e == ERR_OK)
        e = eval_rows(v, em);
    if (e != ERR_OK)
        return e;
    printf("{\"total\":{\"examples\":%lld,\"tokens\":%lld,\"nll\":%.12g,\"loss\":",
           (long long)dataset_rows(v->rows), (long long)v->tokens, v->total);
    if (v->tokens > 0)
        printf("%.12g}}\n", v->total / (double)v->tokens);
    else
        puts("null}}");
    if (fflush(stdout) != 0 || ferror(stdout))
        return err_set(em, ERR_IO, "standard output cannot be written");
    return ERR_OK;
}

static void eval_clear(struct eval *v) {
    pass_free(v->pass);
    adapter_free(v->adapter);
    model_close(v->model);
    dataset_close(v->rows);
    dataset_model_close(&v->texts);
    device_close(v->dev);
    ids_clear(&v->ids);
    ids_clear(&v->labels);
    free(v->batch_ids);
    free(v->pos);
    free(v->seq_start);
    free(v->first_target);
    free(v->target_rows);
    free(v->target_ids);
    free(v->nll);
    free(v->logit_values);
}

int cmd_eval(int argc, char **argv) {
    struct eval v;
    struct err_msg em = ERR_MSG_INIT;
    enum err e = read_options(&v, argc, argv, &em);
    if (e == ERR_OK && v.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (e == ERR_OK)
        e = run(&v, &em);
    eval_clear(&v);
    return cli_report("eval", e, &em);
}
