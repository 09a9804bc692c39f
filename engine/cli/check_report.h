/* check_report: what `ffwd check` found, for programs and for people.
 *
 * What:    the report on one file, or on a job's two files with an estimate, on standard output.
 * Owns:    nothing.
 * Threads: one.
 * Errors:  none of its own.
 */
#ifndef FFWD_ENGINE_CLI_CHECK_REPORT_H
#define FFWD_ENGINE_CLI_CHECK_REPORT_H

#include <jansson.h>

#include "engine/text/dataset.h"

/* What a check found in a file. */
struct check_findings {
    const char *file;
    struct dataset_report report;
    const struct chat_template *template; /* NULL: the model has none */
    int max_seq_len;
    enum err e;
    struct err_msg em;
};

/* One object: the training file's report; with valid (may be NULL) its own under "validation"; with
 * estimate (may be NULL, borrowed) that under "estimate". */
void check_print_json(const struct check_findings *train, const struct check_findings *valid,
                      json_t *estimate);
/* Prints a bad line while the file is read. arg: the file's name where there are several, or NULL.
 */
void check_print_bad_line(void *arg, const struct bad_line *line);
/* The rest of the report. */
void check_print_text(const struct check_findings *train, const struct check_findings *valid);

#endif
