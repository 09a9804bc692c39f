/* ffwd eval: loss of a model, with or without an adapter, on every row of a data file.
 *
 * Each row goes through the model alone, so that its numbers do not depend on its neighbours. */
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
    int32_t max_tokens, max_targets; /* of any row */
    int32_t *pos, *target_rows, *target_ids;
    float *nll, *logit_values;
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
        int32_t tokens = dataset_row_tokens(v->rows, i), trained = dataset_row_trained(v->rows, i);
        v->max_tokens = tokens > v->max_tokens ? tokens : v->max_tokens;
        v->max_targets = trained > v->max_targets ? trained : v->max_targets;
    }
    return e;
}

static enum err open_pass(struct eval *v, struct err_msg *em) {
    const struct pass_limits limits = {v->max_tokens, 1, v->max_targets, false};
    size_t n = (size_t)v->max_tokens;
    int64_t logit_rows = v->logits < v->max_tokens ? v->logits : v->max_tokens;
    int64_t values = logit_rows * model_config(v->model)->vocab;
    if (values > LOGITS_MAX)
        return err_set(em, ERR_USAGE, "--logits %lld: too many values for a vocabulary of %d",
                       (long long)v->logits, model_config(v->model)->vocab);
    v->pos = xcalloc(n, sizeof *v->pos);
    v->target_rows = xcalloc(n, sizeof *v->target_rows);
    v->target_ids = xcalloc(n, sizeof *v->target_ids);
    v->nll = xcalloc(n, sizeof *v->nll);
    if (values > 0)
        v->logit_values = xcalloc((size_t)values, sizeof *v->logit_values);
    return pass_new(v->model, v->adapter, &limits, &v->pass, em);
}

/* Row number `row` as a batch of its own. */
static enum err make_batch(struct eval *v, int64_t row, int32_t seq_start[2],
                           struct host_batch *out, struct err_msg *em) {
    int32_t targets = 0;
    enum err e = dataset_read(v->rows, row, &v->ids, &v->labels, em);
    if (e != ERR_OK)
        return e;
    int32_t n = (int32_t)v->ids.len;
    for (int32_t i = 0; i < n; i++) {
        v->pos[i] = i;
        if (i == 0 || v->labels.data[i] == LABEL_IGNORE)
            continue;
        v->target_rows[targets] = i - 1;
        v->target_ids[targets++] = v->labels.data[i];
    }
    seq_start[0] = 0;
    seq_start[1] = n;
    *out = (struct host_batch){.n_tokens = n,
                               .n_seqs = 1,
                               .n_targets = targets,
                               .ids = v->ids.data,
                               .pos = v->pos,
                               .seq_start = seq_start,
                               .target_rows = v->target_rows,
                               .target_ids = v->target_ids};
    return ERR_OK;
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

static enum err eval_row(struct eval *v, int64_t row, int64_t *tokens, double *nll,
                         struct err_msg *em) {
    struct host_batch b;
    int32_t seq_start[2];
    double sum = 0;
    enum err e = make_batch(v, row, seq_start, &b, em);
    if (e == ERR_OK)
        e = pass_eval(v->pass, &b, v->nll, NULL, em);
    if (e != ERR_OK)
        return e;
    for (int32_t i = 0; i < b.n_targets; i++)
        sum += v->nll[i];
    if (!isfinite(sum))
        return err_set(em, ERR_DIVERGED, "row %lld: the loss is not a finite number",
                       (long long)row + 1);
    printf("{\"tokens\":%d,\"nll\":%.12g", b.n_targets, sum);
    if (v->logits > 0)
        e = print_logits(v, &b, em);
    puts("}");
    *tokens += b.n_targets;
    *nll += sum;
    return e;
}

static enum err run(struct eval *v, struct err_msg *em) {
    int64_t tokens = 0;
    double nll = 0;
    enum err e = open_model(v, em);
    if (e == ERR_OK)
        e = open_rows(v, em);
    if (e == ERR_OK && dataset_rows(v->rows) > 0)
        e = open_pass(v, em);
    for (int64_t i = 0; e == ERR_OK && i < dataset_rows(v->rows); i++)
        e = eval_row(v, i, &tokens, &nll, em);
    if (e != ERR_OK)
        return e;
    printf("{\"total\":{\"examples\":%lld,\"tokens\":%lld,\"nll\":%.12g,\"loss\":",
           (long long)dataset_rows(v->rows), (long long)tokens, nll);
    if (tokens > 0)
        printf("%.12g}}\n", nll / (double)tokens);
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
    free(v->pos);
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
