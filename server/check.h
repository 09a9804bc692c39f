/* check: a job's files validated, and what it would take, by a short-lived `ffwd check --json`.
 *
 * What:    one process for both files, never in the training worker and never on the loop.
 * Owns:    the process and its pipe; frees itself after `done`.
 * Threads: the loop thread only.
 * Errors:  ERR_INPUT: a file is bad, em names the lines, check_param which; ERR_CANCELLED:
 *          check_stop; ERR_LIMIT: it took too long; ERR_IO: the program does not start, also from
 *          check_start; others: it could not do its work.
 */
#ifndef FFWD_SERVER_CHECK_H
#define FFWD_SERVER_CHECK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

struct check;

struct check_job {
    const char *engine, *model, *train;
    const char *valid;       /* NULL: none */
    const json_t *request;   /* lora, fast_forward, training, hyperparameters */
    const char *device;      /* "cpu", "cuda", … */
    int64_t threads;         /* 0: the engine's choice */
    double flops_per_second; /* the device's speed with this model; 0: not known */
    int64_t sample_bytes;    /* of a larger file not every row is tokenized; 0: every row */
    bool measure;            /* measure the device where its speed is not known */
    int64_t seconds;         /* after which it is ended */
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
/* "training_file" or "validation_file", whichever the report says is bad; or the field of the
 * request that does not fit (borrowed from the report). */
const char *check_param(const json_t *report);
/* Whether that file has no row at all, good or bad. */
bool check_is_empty(const json_t *report);
/* The parts of a report as the API shows them, {"training","validation","estimate"} (new
 * reference); of long lists of bad lines only the beginning. */
json_t *check_report(const json_t *report);

#endif
