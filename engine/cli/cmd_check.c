/* cmd_check: `ffwd check`, the report on a data set. */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/job_request.h"
#include "base/limits.h"
#include "base/mem.h"
#include "engine/cli/check_report.h"
#include "engine/cli/cli.h"
#include "engine/cli/options.h"
#include "engine/model/config.h"
#include "engine/text/dataset_model.h"
#include "engine/train/estimate.h"
#include "engine/train/memory.h"

static const char help[] =
    "usage: ffwd check --model DIR [OPTIONS] FILE\n"
    "\n"
    "Reads a data set (JSONL) as training would and reports what is in it: rows, tokens, lengths,\n"
    "duplicates, and every bad line with its number, byte offset and reason.\n"
    "\n"
    "  --model DIR             model folder: tokenizer.json, tokenizer_config.json, config.json;\n"
    "                          without a tokenizer only pre-tokenized rows are taken\n"
    "  --max-seq-len N         tokens of the longest row (default: the model's, at most 2048)\n"
    "  --long-examples POLICY  what to do with longer rows: truncate (default), drop or fail\n"
    "  --train-on WHAT         assistant (default), response (the last answer only) or all\n"
    "  --config FILE.json      takes the three from the `training` part of a job request\n"
    "  --json                  one JSON object on standard output, for programs\n"
    "\n"
    "What a job would take (with --json, under \"estimate\"):\n"
    "  --estimate              steps, tokens, memory, hyperparameters as training resolves them\n"
    "  --valid FILE            the job's validation file, checked too (under \"validation\")\n"
    "  --request JSON          the job request itself, instead of --config\n"
    "  --sample-bytes N        of a larger file tokenize rows spread over it, about N bytes of\n"
    "                          them; every row's form is checked all the same\n"
    "  --measure               measure the device on two blocks of the model, for the seconds\n"
    "  --flops-per-second X    or take its speed from here\n"
    "  --device D, --threads N as for ffwd train; only the CPU is measured\n"
    "\n"
    "Rows (one kind a file): {\"messages\":[...]}, {\"prompt\":...,\"completion\":...},\n"
    "{\"text\":...}, {\"input_ids\":[...],\"labels\":[...]}.\n"
    "\n"
    "Exit code: 0 the file is good, 20 it is not, 2 wrong usage, 30 it cannot be read.\n";

struct check_options {
    const char *model, *file, *config, *valid, *request, *device;
    bool json, estimate, measure;
    int64_t sample_bytes, threads;
    double flops_per_second;
    int64_t max_seq_len;         /* 0: not given */
    int long_examples, train_on; /* index into the names of job_request.h; -1: not given */
};

/* ---- options --------------------------------------------------------------------------------- */

static enum err choice(const char *option, const char *text, const char *const names[3], int *out,
                       struct err_msg *em) {
    for (int i = 0; i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return ERR_OK;
        }
    return err_set(em, ERR_USAGE, "--%s must be %s, %s or %s, not '%s'", option, names[0], names[1],
                   names[2], text);
}

static enum err seq_len(const char *text, int64_t *out, struct err_msg *em) {
    char *end = NULL;
    long n = strtol(text, &end, 10);
    if (end == text || *end != '\0' || n < 1 || n > LIMIT_SEQ)
        return err_set(em, ERR_USAGE, "--max-seq-len must be a number from 1 to %d, not '%s'",
                       LIMIT_SEQ, text);
    *out = n;
    return ERR_OK;
}

static enum err whole_number(const char *option, const char *text, int64_t hi, int64_t *out,
                             struct err_msg *em) {
    char *end = NULL;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || n < 0 || n > hi)
        return err_set(em, ERR_USAGE, "--%s must be a number from 0 to %lld, not '%s'", option,
                       (long long)hi, text);
    *out = n;
    return ERR_OK;
}

static enum err speed(const char *text, double *out, struct err_msg *em) {
    char *end = NULL;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !(*out >= 0) || *out > 1e20)
        return err_set(em, ERR_USAGE, "--flops-per-second must be a number, not '%s'", text);
    return ERR_OK;
}

static enum err parse_estimate_option(int option, struct check_options *o, struct err_msg *em) {
    switch (option) {
    case 'v':
        o->valid = optarg;
        return ERR_OK;
    case 'r':
        o->request = optarg;
        return ERR_OK;
    case 'd':
        o->device = optarg;
        return ERR_OK;
    case 'e':
        o->estimate = true;
        return ERR_OK;
    case 'M':
        o->measure = true;
        return ERR_OK;
    case 'T':
        return whole_number("threads", optarg, LIMIT_THREADS, &o->threads, em);
    case 's':
        return whole_number("sample-bytes", optarg, INT64_MAX, &o->sample_bytes, em);
    case 'f':
        return speed(optarg, &o->flops_per_second, em);
    default:
        return err_set(em, ERR_USAGE, "unknown or incomplete option; see ffwd check --help");
    }
}

static enum err parse_option(int option, struct check_options *o, struct err_msg *em) {
    switch (option) {
    case 'm':
        o->model = optarg;
        return ERR_OK;
    case 'c':
        o->config = optarg;
        return ERR_OK;
    case 'j':
        o->json = true;
        return ERR_OK;
    case 'n':
        return seq_len(optarg, &o->max_seq_len, em);
    case 'l':
        return choice("long-examples", optarg, job_long_policy_names, &o->long_examples, em);
    case 't':
        return choice("train-on", optarg, job_train_on_names, &o->train_on, em);
    default:
        return parse_estimate_option(option, o, em);
    }
}

/* *helped: --help was answered. */
static enum err parse_options(int argc, char **argv, struct check_options *o, bool *helped,
                              struct err_msg *em) {
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'},
        {"config", required_argument, NULL, 'c'},
        {"json", no_argument, NULL, 'j'},
        {"max-seq-len", required_argument, NULL, 'n'},
        {"long-examples", required_argument, NULL, 'l'},
        {"train-on", required_argument, NULL, 't'},
        {"valid", required_argument, NULL, 'v'},
        {"request", required_argument, NULL, 'r'},
        {"device", required_argument, NULL, 'd'},
        {"threads", required_argument, NULL, 'T'},
        {"estimate", no_argument, NULL, 'e'},
        {"measure", no_argument, NULL, 'M'},
        {"sample-bytes", required_argument, NULL, 's'},
        {"flops-per-second", required_argument, NULL, 'f'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    *o = (struct check_options){.long_examples = -1, .train_on = -1, .device = "auto"};
    *helped = false;
    opterr = 0;
    optind = 0; /* start afresh, also on a second call */
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(help, stdout);
            *helped = true;
            return ERR_OK;
        }
        enum err e = parse_option(option, o, em);
        if (e != ERR_OK)
            return e;
    }
    if (o->model == NULL)
        return err_set(em, ERR_USAGE, "--model DIR is missing; see ffwd check --help");
    if (optind + 1 != argc)
        return err_set(em, ERR_USAGE, "one FILE is needed; see ffwd check --help");
    o->file = argv[optind];
    return ERR_OK;
}

static enum err read_request(const struct check_options *o, struct job_request *request,
                             struct err_msg *em) {
    json_error_t error;
    char *text = NULL;
    job_request_init(request);
    if (o->config == NULL && o->request == NULL)
        return ERR_OK;
    enum err e = ERR_OK;
    if (o->request == NULL)
        e = file_read(o->config, LIMIT_CONFIG_FILE, &text, NULL, em);
    if (e != ERR_OK)
        return e;
    json_t *body =
        json_loads(o->request != NULL ? o->request : text, JSON_REJECT_DUPLICATES, &error);
    if (body == NULL)
        e = err_set(em, ERR_INPUT, "%s: line %d: %s", o->request != NULL ? "--request" : o->config,
                    error.line, error.text);
    else
        e = job_request_parse(body, 0, request, em);
    json_decref(body);
    free(text);
    return e;
}

/* Values of the request where the command line gives none. */
static void fill_in(struct check_options *o, struct job_request *request) {
    struct training_config *t = &request->training;
    t->max_seq_len = o->max_seq_len > 0 ? o->max_seq_len : t->max_seq_len;
    t->long_examples =
        o->long_examples >= 0 ? (enum long_policy)o->long_examples : t->long_examples;
    t->train_on = o->train_on >= 0 ? (enum train_on_policy)o->train_on : t->train_on;
}

/* ---- the check ------------------------------------------------------------------------------- */

struct check {
    struct check_options o;
    struct job_request request;
    struct dataset_model model;
    struct model_config config; /* with --estimate */
    struct check_findings train, valid;
    json_t *estimate;
};

static void check_file(struct check *c, const char *path, struct check_findings *f) {
    struct dataset_options options = {0};
    const struct training_config *t = &c->request.training;
    struct dataset *ds = NULL;
    dataset_model_options(&c->model, (int)t->max_seq_len, &options);
    options.long_examples = (enum long_examples)t->long_examples;
    options.train_on = (enum train_on)t->train_on;
    options.sample_bytes = c->o.sample_bytes;
    if (!c->o.json)
        options.on_bad_line = check_print_bad_line;
    options.on_bad_line_arg = c->o.valid != NULL ? (char *)(uintptr_t)path : NULL;
    f->file = path;
    f->max_seq_len = options.max_seq_len;
    f->template = c->model.template;
    f->e = dataset_open(path, &options, &ds, &f->report, &f->em);
    dataset_close(ds);
}

/* The CPU's own speed. Another device is left to the job that trains on it. */
static enum err measure(const struct check *c, struct device *dev, struct estimate *in,
                        struct err_msg *em) {
    if (in->flops_per_second > 0) {
        in->basis = "earlier steps of this model";
        return ERR_OK;
    }
    if (!c->o.measure || dev == NULL)
        return ERR_OK;
    in->basis = "measured on two blocks with random weights";
    return estimate_speed(dev, in->config, in->dtype, &c->request.lora,
                          c->train.report.median_tokens, &in->flops_per_second, em);
}

static enum err make_estimate(struct check *c, struct err_msg *em) {
    bool cpu = strncmp(c->o.device, "cuda", 4) != 0;
    struct device *dev = NULL;
    struct estimate in = {.request = &c->request,
                          .config = &c->config,
                          .train = &c->train.report,
                          .valid = c->o.valid != NULL ? &c->valid.report : NULL,
                          .dtype = DTYPE_BF16,
                          .cpu = cpu,
                          .flops_per_second = c->o.flops_per_second};
    enum err e = cpu ? device_open("cpu", (int)c->o.threads, &dev, em) : ERR_OK;
    if (e == ERR_OK && dev != NULL)
        e = cli_dtype(NULL, dev, &in.dtype, em);
    in.dev = dev;
    in.process = cpu ? memory_process(NULL, 0) : 0;
    if (e == ERR_OK)
        e = measure(c, dev, &in, em);
    if (e == ERR_OK)
        e = estimate_make(&in, &c->estimate, em);
    if (dev != NULL)
        device_close(dev);
    return e;
}

static enum err check_all(struct check *c, struct err_msg *em) {
    enum err e = read_request(&c->o, &c->request, em);
    if (e != ERR_OK)
        return e;
    fill_in(&c->o, &c->request);
    e = dataset_model_open(c->o.model, &c->model, em);
    if (e == ERR_OK && c->o.estimate)
        e = model_config_read(c->o.model, &c->config, em);
    if (e != ERR_OK)
        return e;
    check_file(c, c->o.file, &c->train);
    if (c->o.valid != NULL)
        check_file(c, c->o.valid, &c->valid);
    *em = c->train.e != ERR_OK ? c->train.em : c->valid.em;
    e = c->train.e != ERR_OK ? c->train.e : c->valid.e;
    return e == ERR_OK && c->o.estimate ? make_estimate(c, em) : e;
}

int cmd_check(int argc, char **argv) {
    struct err_msg em = ERR_MSG_INIT;
    struct check c = {0};
    bool helped;
    enum err e = parse_options(argc, argv, &c.o, &helped, &em);
    if (e != ERR_OK || helped)
        return cli_report("check", e, &em);
    e = check_all(&c, &em);
    if (c.train.e == ERR_OK && c.valid.e == ERR_OK && e != ERR_OK) {
        c.train.e = e; /* a fault of the model or of the request */
        c.train.em = em;
    }
    c.train.file = c.o.file;
    if (c.o.json)
        check_print_json(&c.train, c.o.valid != NULL ? &c.valid : NULL, c.estimate);
    else
        check_print_text(&c.train, c.o.valid != NULL ? &c.valid : NULL);
    dataset_report_clear(&c.train.report);
    dataset_report_clear(&c.valid.report);
    dataset_model_close(&c.model);
    job_request_clear(&c.request);
    json_decref(c.estimate);
    return err_exit_code(e);
}
