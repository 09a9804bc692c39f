/* check_report: the report of `ffwd check` as JSON and as text. */
#include "engine/cli/check_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/cli/cli.h"
#include "engine/text/rows.h"

static const char *template_of(const struct check_findings *f) {
    return f->report.kind == ROW_CHAT && f->template != NULL ? chat_template_name(f->template)
                                                             : NULL;
}

static json_t *errors_json(const struct check_findings *f) {
    json_t *errors = json_array();
    const struct dataset_report *r = &f->report;
    for (size_t i = 0; i < r->bad_listed; i++)
        (void)json_array_append_new(errors, json_pack("{s:I, s:I, s:s}", "line",
                                                      (json_int_t)r->bad_lines[i].line, "offset",
                                                      (json_int_t)r->bad_lines[i].offset, "reason",
                                                      r->bad_lines[i].reason));
    /* A fault of the whole file: no rows, unreadable, no model. */
    if (f->e != ERR_OK && r->bad == 0)
        (void)json_array_append_new(
            errors, json_pack("{s:i, s:i, s:s}", "line", 0, "offset", 0, "reason", f->em.text));
    return errors;
}

static json_t *report_json(const struct check_findings *f) {
    const struct dataset_report *r = &f->report;
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
        {"tokenized_rows", r->sampled > 0 ? r->sampled : r->rows},
    };
    json_object_set_new(o, "ok", json_boolean(f->e == ERR_OK));
    json_object_set_new(o, "kind", json_string(row_kind_name(r->kind)));
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        json_object_set_new(o, counts[i].key, json_integer(counts[i].value));
    json_object_set_new(o, "lengths",
                        json_pack("{s:I, s:I, s:I, s:I}", "min", (json_int_t)r->min_tokens,
                                  "median", (json_int_t)r->median_tokens, "p95",
                                  (json_int_t)r->p95_tokens, "max", (json_int_t)r->max_tokens));
    if (f->e != ERR_OK && r->bad == 0 && f->em.param[0] != '\0')
        json_object_set_new(o, "param", json_string(f->em.param));
    json_object_set_new(o, "errors", errors_json(f));
    json_object_set_new(
        o, "error_count",
        json_integer(r->bad > 0 ? (json_int_t)r->bad : (json_int_t)(f->e != ERR_OK)));
    json_object_set_new(o, "warnings", warnings);
    json_object_set_new(o, "sha256", json_string(r->sha256));
    json_object_set_new(o, "template",
                        template_of(f) != NULL ? json_string(template_of(f)) : json_null());
    return o;
}

void check_print_json(const struct check_findings *train, const struct check_findings *valid,
                      json_t *estimate) {
    json_t *o = report_json(train);
    if (valid != NULL)
        json_object_set_new(o, "validation", report_json(valid));
    if (estimate != NULL)
        json_object_set(o, "estimate", estimate);
    char *text = json_dumps(o, JSON_COMPACT);
    puts(text);
    free(text);
    json_decref(o);
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

static void print_counts(const struct check_findings *f) {
    const struct dataset_report *r = &f->report;
    printf("%s: %" PRId64 " bytes, %" PRId64 " lines (%" PRId64 " blank), sha256 %s\n", f->file,
           r->bytes, r->lines, r->blank_lines, r->sha256);
    if (r->rows == 0)
        return;
    printf("rows      %" PRId64 " of kind %s", r->rows, row_kind_name(r->kind));
    if (template_of(f) != NULL)
        printf(", chat template %s", template_of(f));
    printf("\ntokens    %s%" PRId64 ", of them trained on %" PRId64 " (rows up to %d tokens)\n",
           r->sampled > 0 ? "about " : "", r->tokens, r->trained_tokens, f->max_seq_len);
    printf("lengths   min %" PRId64 ", median %" PRId64 ", 95 %% up to %" PRId64 ", max %" PRId64
           "\n",
           r->min_tokens, r->median_tokens, r->p95_tokens, r->max_tokens);
    print_histogram(r);
}

void check_print_bad_line(void *arg, const struct bad_line *line) {
    const char *file = arg;
    printf("%s%sline %" PRId64 ", byte %" PRId64 ": %s\n", file != NULL ? file : "",
           file != NULL ? ": " : "", line->line, line->offset, line->reason);
}

static void print_text(const struct check_findings *f) {
    const struct dataset_report *r = &f->report;
    if (r->bytes > 0)
        print_counts(f);
    for (size_t i = 0; i < r->n_warnings; i++)
        printf("warning: %s\n", r->warnings[i]);
    if (r->bad > 0)
        printf("%" PRId64 " bad line%s\n", r->bad, r->bad == 1 ? "" : "s");
    else if (f->e == ERR_OK)
        puts("good");
    (void)fflush(stdout);
    if (r->bad == 0 && f->e != ERR_OK)
        (void)cli_report("check", f->e, &f->em);
}

void check_print_text(const struct check_findings *train, const struct check_findings *valid) {
    print_text(train);
    if (valid != NULL)
        print_text(valid);
}
