/* check: data sets validated by a short-lived `ffwd check --json`.
 *
 * What:    one process per file, never in the training worker and never on the loop.
 * Owns:    the process and its pipe; frees itself after `done`.
 * Threads: the loop thread only.
 * Errors:  ERR_INPUT: the file is bad, em names the lines; ERR_CANCELLED: check_stop; others: the
 *          program could not do its work.
 */
#ifndef FFWD_SERVER_CHECK_H
#define FFWD_SERVER_CHECK_H

#include <jansson.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct check;
struct job_request;

struct check_job {
    const char *engine, *model, *file;
    const struct job_request *request; /* max_seq_len, long_examples, train_on */
    int64_t seconds;                   /* after which it is ended */
    void *arg;
    /* report: what the program printed, borrowed, or NULL. */
    void (*done)(void *arg, enum err e, const struct err_msg *em, const json_t *report);
};

/* Everything in job is copied or used at once. */
enum err check_start(uv_loop_t *loop, const struct check_job *job, struct check **out,
                     struct err_msg *em) NODISCARD;
void check_stop(struct check *c);

/* What a report says of a bad file, as one sentence of at most ERR_TEXT_MAX bytes. */
void check_message(const json_t *report, char *out, size_t size);

#endif
