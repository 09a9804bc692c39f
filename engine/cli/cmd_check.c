/* cmd_check: `ffwd check`, the report on a data set. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/job_request.h"
#include "base/limits.h"
#include "base/mem.h"
#include "engine/cli/cli.h"
#include "engine/text/dataset_model.h"
#include "engine/text/rows.h"

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
    "Rows (one kind a file): {\"messages\":[...]}, {\"prompt\":...,\"completion\":...},\n"
    "{\"text\":...}, {\"input_ids\":[...],\"labels\":[...]}.\n"
    "\n"
    "Exit code: 0 the file is good, 20 it is not, 2 wrong usage, 30 it cannot be read.\n";

struct check_options {
    const char *model, *file, *config;
    bool json;
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
        return err_set(em, ERR_USAGE, "unknown or incomplete option; see ffwd check --help");
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
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    *o = (struct check_options){.long_examples = -1, .train_on = -1};
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

/* Values of the configuration file where the command line gives none. */
static enum err read_config(struct check_options *o, struct err_msg *em) {
    struct job_request request;
    json_error_t error;
    char *text = NULL;
    job_request_init(&request);
    enum err e = ERR_OK;
    if (o->config != NULL) {
        e = file_read(o->config, LIMIT_CONFIG_FILE, &text, NULL, em);
        json_t *body = e == ERR_OK ? json_loads(text, JSON_REJECT_DUPLICATES, &error) : NULL;
        if (e == ERR_OK && body == NULL)
            e = err_set(em, ERR_INPUT, "%s: line %d: %s", o->config, error.line, error.text);
        if (e == ERR_OK)
            e = job_request_parse(body, 0, &request, em);
        json_decref(body);
        free(text);
    }
    if (e != ERR_OK)
        return e;
    if (o->max_seq_len == 0)
        o->max_seq_len = request.training.max_seq_len;
    if (o->long_examples < 0)
        o->long_examples = (int)request.training.long_examples;
    if (o->train_on < 0)
        o->train_on = (int)request.training.train_on;
    job_request_clear(&request);
    return ERR_OK;
}

/* ---- reports --------------------------------------------------------------------------------- */

/* What a check found. */
struct findings {
    const struct check_options *options;
    const struct dataset_model *model;
    const struct dataset_report *report;
    enum err e;
    const struct err_msg *em;
    int max_seq_len;
};

static const char *template_of(const struct findings *f) {
    return f->report->kind == ROW_CHAT && f->model->template != NULL
               ? chat_template_name(f->model->template)
               : NULL;
}

static json_t *errors_json(const struct findings *f) {
    json_t *errors = json_array();
    const struct dataset_report *r = f->report;
    for (size_t i = 0; i < r->bad_listed; i++)
        (void)json_array_append_new(errors, json_pack("{s:I, s:I, s:s}", "line",
                                                      (json_int_t)r->bad_lines[i].line, "offset",
                                                      (json_int_t)r->bad_lines[i].offset, "reason",
                                                      r->bad_lines[i].reason));
    /* A fault of the whole file: no rows, unreadable, no model. */
    if (f->e != ERR_OK && r->bad == 0)
        (void)json_array_append_new(
            errors, json_pack("{s:i, s:i, s:s}", "line", 0, "offset", 0, "reason", f->em->text));
    return errors;
}

static int print_json(const struct findings *f) {
    const struct dataset_report *r = f->report;
    json_t *o = json_object(), *warnings = json_array();
    for (size_t i = 0; i < r->n_warnings; i++)
        (void)json_array_append_new(warnings, json_string(r->warnings[i]));
    const struct {
        const char *key;
        int64_t value;
    } counts[] = {
        {"rows", r->rows},
        {"lines", r->lines},
        {"bytes", r->bytes},
        {"blank_lines", r->blank_lines},
        {"tokens", r->tokens},
        {"trained_tokens", r->trained_tokens},
        {"truncated", r->truncated},
        {"dropped", r->dropped},
        {"untrained", r->untrained},
        {"duplicates", r->duplicates},
        {"max_seq_len", f->max_seq_len},
    };
    json_object_set_new(o, "ok", json_boolean(f->e == ERR_OK));
    json_object_set_new(o, "kind", json_string(row_kind_name(r->kind)));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        json_object_set_new(o, counts[i].key, json_integer(counts[i].value));
    json_object_set_new(o, "lengths",
                        json_pack("{s:I, s:I, s:I, s:I}", "min", (json_int_t)r->min_tokens,
                                  "median", (json_int_t)r->median_tokens, "p95",
                                  (json_int_t)r->p95_tokens, "max", (json_int_t)r->max_tokens));
    json_object_set_new(o, "errors", errors_json(f));
    json_object_set_new(
        o, "error_count",
        json_integer(r->bad > 0 ? (json_int_t)r->bad : (json_int_t)(f->e != ERR_OK)));
    json_object_set_new(o, "warnings", warnings);
    json_object_set_new(o, "sha256", json_string(r->sha256));
    json_object_set_new(o, "template",
                        template_of(f) != NULL ? json_string(template_of(f)) : json_null());
    char *text = json_dumps(o, JSON_COMPACT);
    puts(text);
    free(text);
    json_decref(o);
    return err_exit_code(f->e);
}

static void print_histogram(const struct dataset_report *r) {
    int64_t most = 0;
    for (int i = 0; i < 24; i++)
        most = r->length_histogram[i] > most ? r->length_histogram[i] : most;
    for (int i = 0; i < 24; i++) {
        if (r->length_histogram[i] == 0)
            continue;
        int bar = (int)(r->length_histogram[i] * 40 / most);
        printf("  %7d - %-7d %9" PRId64 "  %.*s\n", 1 << i, (1 << (i + 1)) - 1,
               r->length_histogram[i], bar > 0 ? bar : 1,
               "########################################");
    }
}

static void print_counts(const struct findings *f) {
    const struct dataset_report *r = f->report;
    printf("%s: %" PRId64 " bytes, %" PRId64 " lines (%" PRId64 " blank), sha256 %s\n",
           f->options->file, r->bytes, r->lines, r->blank_lines, r->sha256);
    if (r->rows == 0)
        return;
    printf("rows      %" PRId64 " of kind %s", r->rows, row_kind_name(r->kind));
    if (template_of(f) != NULL)
        printf(", chat template %s", template_of(f));
    printf("\ntokens    %" PRId64 ", of them trained on %" PRId64 " (rows up to %d tokens)\n",
           r->tokens, r->trained_tokens, f->max_seq_len);
    printf("lengths   min %" PRId64 ", median %" PRId64 ", 95 %% up to %" PRId64 ", max %" PRId64
           "\n",
           r->min_tokens, r->median_tokens, r->p95_tokens, r->max_tokens);
    print_histogram(r);
}

static int print_text(const struct findings *f) {
    const struct dataset_report *r = f->report;
    if (r->bytes > 0)
        print_counts(f);
    for (size_t i = 0; i < r->n_warnings; i++)
        printf("warning: %s\n", r->warnings[i]);
    for (size_t i = 0; i < r->bad_listed; i++)
        printf("line %" PRId64 ", byte %" PRId64 ": %s\n", r->bad_lines[i].line,
               r->bad_lines[i].offset, r->bad_lines[i].reason);
    if (r->bad > (int64_t)r->bad_listed)
        printf("... and %" PRId64 " more bad lines\n", r->bad - (int64_t)r->bad_listed);
    if (r->bad > 0)
        printf("%" PRId64 " bad line%s\n", r->bad, r->bad == 1 ? "" : "s");
    else if (f->e == ERR_OK)
        puts("good");
    (void)fflush(stdout);
    return r->bad > 0 ? err_exit_code(f->e) : cli_report("check", f->e, f->em);
}

int cmd_check(int argc, char **argv) {
    struct err_msg em = ERR_MSG_INIT;
    struct check_options o;
    struct dataset_model model = {0};
    struct dataset_options options = {0};
    struct dataset_report report = {0};
    struct dataset *ds = NULL;
    bool helped;
    enum err e = parse_options(argc, argv, &o, &helped, &em);
    if (e != ERR_OK || helped)
        return cli_report("check", e, &em);
    e = read_config(&o, &em);
    if (e == ERR_OK)
        e = dataset_model_open(o.model, &model, &em);
    if (e == ERR_OK) {
        dataset_model_options(&model, (int)o.max_seq_len, &options);
        options.long_examples = (enum long_examples)o.long_examples;
        options.train_on = (enum train_on)o.train_on;
        e = dataset_open(o.file, &options, &ds, &report, &em);
    }
    struct findings f = {.options = &o,
                         .model = &model,
                         .report = &report,
                         .e = e,
                         .em = &em,
                         .max_seq_len = options.max_seq_len};
    int status = o.json ? print_json(&f) : print_text(&f);
    dataset_close(ds);
    dataset_report_clear(&report);
    dataset_model_close(&model);
    return status;
}
