/* check: a short-lived `ffwd check --json`. */
#include "server/check.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "server/worker.h"

#define READ_BYTES 16384
#define REPORT_MAX (16u << 20)
#define HANDLES 3
#define EXIT_NOT_RUN 127 /* of a program whose libraries are not found */

struct check {
    struct check_job job;
    uv_process_t process;
    uv_pipe_t out;
    uv_timer_t timer;
    struct buf text;
    char chunk[READ_BYTES];
    int open_handles;
    bool exited, eof, stopped, late;
    int64_t status;
    int signal;
};

/* Appends to out, which always stays a string. */
static void append(char *out, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void append(char *out, size_t size, const char *fmt, ...) {
    size_t used = strlen(out);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(out + used, size - used, fmt, args);
    va_end(args);
}

void check_message(const json_t *report, char *out, size_t size) {
    const json_t *errors = json_object_get(report, "errors");
    json_int_t total = json_integer_value(json_object_get(report, "error_count"));
    size_t shown = 0;
    out[0] = '\0';
    for (size_t i = 0; i < json_array_size(errors) && shown < 5; i++) {
        const json_t *one = json_array_get(errors, i);
        const char *reason = json_string_value(json_object_get(one, "reason"));
        json_int_t line = json_integer_value(json_object_get(one, "line"));
        if (reason == NULL || strlen(out) + strlen(reason) + 40 > size)
            continue;
        append(out, size, "%s", shown == 0 ? "" : "; ");
        if (line > 0)
            append(out, size, "line %lld: ", (long long)line);
        append(out, size, "%s", reason);
        shown++;
    }
    if (total > (json_int_t)shown && shown > 0)
        append(out, size, "; and %lld more", (long long)total - (long long)shown);
    if (shown == 0)
        append(out, size, "the file is not a data set that can be trained on");
}

/* ---- a report's parts ----------------------------------------------------------------------- */

/* The report on the file that is bad; the training file's if both or none are. */
static const json_t *bad_part(const json_t *report) {
    const json_t *valid = json_object_get(report, "validation");
    return valid != NULL && json_is_true(json_object_get(report, "ok")) ? valid : report;
}

const char *check_param(const json_t *report) {
    const char *param = json_string_value(json_object_get(report, "param"));
    if (param != NULL)
        return param;
    return bad_part(report) == report ? "training_file" : "validation_file";
}

bool check_is_empty(const json_t *report) {
    const json_t *bad = bad_part(report);
    const json_t *first = json_array_get(json_object_get(bad, "errors"), 0);
    return json_integer_value(json_object_get(bad, "rows")) == 0 &&
           json_integer_value(json_object_get(first, "line")) == 0;
}

/* A copy of one file's report. */
static json_t *part(const json_t *report) {
    json_t *o = json_deep_copy(report), *errors = json_object_get(o, "errors");
    json_object_del(o, "validation");
    json_object_del(o, "estimate");
    while (json_array_size(errors) > LIMIT_REPORTED_LINES)
        json_array_remove(errors, json_array_size(errors) - 1);
    return o;
}

json_t *check_report(const json_t *report) {
    const json_t *valid = json_object_get(report, "validation");
    json_t *estimate = json_object_get(report, "estimate");
    return json_pack("{s:o, s:o, s:O}", "training", part(report), "validation",
                     valid != NULL ? part(valid) : json_null(), "estimate",
                     estimate != NULL ? estimate : json_null());
}

/* ---- end ------------------------------------------------------------------------------------ */

static void free_when_closed(uv_handle_t *handle) {
    struct check *c = handle->data;
    if (--c->open_handles > 0)
        return;
    buf_clear(&c->text);
    free(c);
}

static enum err judge(struct check *c, const json_t *report, struct err_msg *em) {
    char text[ERR_TEXT_MAX - 64];
    if (c->stopped)
        return err_set(em, ERR_CANCELLED, "stopped");
    if (c->late)
        return err_set(em, ERR_LIMIT, "validation took longer than %lld seconds",
                       (long long)c->job.seconds);
    if (c->signal != 0)
        return err_set(em, ERR_BUG, "the validation program was ended by signal %d", c->signal);
    if (c->status == 0 && report != NULL) {
        if (json_integer_value(json_object_get(report, "rows")) > 0)
            return ERR_OK;
        return err_set(em, ERR_INPUT, "the file has no rows");
    }
    if (c->status == 20 && report != NULL) {
        check_message(bad_part(report), text, sizeof text);
        return err_set(em, ERR_INPUT, "%s", text);
    }
    if (c->status == EXIT_NOT_RUN)
        return err_set(em, ERR_IO, "the engine does not start: a library of it is missing");
    return err_set(em, ERR_BUG, "the validation program ended with status %lld",
                   (long long)c->status);
}

static void end_if_over(struct check *c) {
    if (!c->exited || !c->eof)
        return;
    struct err_msg em = ERR_MSG_INIT;
    json_error_t je;
    json_t *report = json_loadb(c->text.data != NULL ? c->text.data : "", c->text.len, 0, &je);
    enum err e = judge(c, report, &em);
    c->job.done(c->job.arg, e, &em, report);
    json_decref(report);
    uv_close((uv_handle_t *)&c->process, free_when_closed);
    uv_close((uv_handle_t *)&c->out, free_when_closed);
    uv_close((uv_handle_t *)&c->timer, free_when_closed);
}

static void on_end(uv_process_t *process, int64_t status, int signal) {
    struct check *c = process->data;
    c->exited = true;
    c->status = status;
    c->signal = signal;
    end_if_over(c);
}

static void give_chunk(uv_handle_t *handle, size_t suggested, uv_buf_t *out) {
    struct check *c = handle->data;
    (void)suggested;
    *out = uv_buf_init(c->chunk, READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *bytes) {
    struct check *c = stream->data;
    if (n >= 0) {
        if (buf_add(&c->text, bytes->base, (size_t)n) != ERR_OK)
            (void)uv_process_kill(&c->process, SIGKILL);
        return;
    }
    c->eof = true;
    (void)uv_read_stop(stream);
    end_if_over(c);
}

static void on_late(uv_timer_t *timer) {
    struct check *c = timer->data;
    c->late = true;
    if (!c->exited)
        (void)uv_process_kill(&c->process, SIGKILL);
}

void check_stop(struct check *c) {
    c->stopped = true;
    if (!c->exited)
        (void)uv_process_kill(&c->process, SIGKILL);
}

/* ---- start ---------------------------------------------------------------------------------- */

#define MAX_ARGUMENTS 24

static int spawn(struct check *c, uv_loop_t *loop, const struct check_job *job) {
    const char *argv[MAX_ARGUMENTS] = {job->engine, "check",    "--json",   "--estimate",
                                       "--model",   job->model, "--device", job->device};
    char *request = json_dumps(job->request, JSON_COMPACT);
    char threads[24], sample[24], speed[32];
    int n = 8;
    (void)snprintf(threads, sizeof threads, "%lld", (long long)job->threads);
    (void)snprintf(sample, sizeof sample, "%lld", (long long)job->sample_bytes);
    (void)snprintf(speed, sizeof speed, "%.6g", job->flops_per_second);
    const struct {
        bool given;
        const char *option, *value;
    } options[] = {{request != NULL, "--request", request},
                   {job->valid != NULL, "--valid", job->valid},
                   {job->threads > 0, "--threads", threads},
                   {job->sample_bytes > 0, "--sample-bytes", sample},
                   {job->flops_per_second > 0, "--flops-per-second", speed},
                   {job->measure, "--measure", NULL}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (!options[i].given)
            continue;
        argv[n++] = options[i].option;
        if (options[i].value != NULL)
            argv[n++] = options[i].value;
    }
    argv[n] = job->train;
    int rc = worker_spawn(loop, &c->process, (char **)(uintptr_t)argv, NULL, (uv_stream_t *)&c->out,
                          -1, on_end);
    free(request);
    return rc;
}

enum err check_start(uv_loop_t *loop, const struct check_job *job, struct check **out,
                     struct err_msg *em) {
    struct check *c = xcalloc(1, sizeof *c);
    c->job = *job;
    c->open_handles = HANDLES;
    buf_init(&c->text, REPORT_MAX);
    (void)uv_pipe_init(loop, &c->out, 0);
    (void)uv_timer_init(loop, &c->timer);
    c->process.data = c->out.data = c->timer.data = c;
    int rc = spawn(c, loop, job);
    c->job = (struct check_job){.seconds = job->seconds, .arg = job->arg, .done = job->done};
    if (rc != 0) {
        uv_close((uv_handle_t *)&c->process, free_when_closed);
        uv_close((uv_handle_t *)&c->out, free_when_closed);
        uv_close((uv_handle_t *)&c->timer, free_when_closed);
        return err_set(em, ERR_IO, "cannot start the engine: %s", uv_strerror(rc));
    }
    (void)uv_timer_start(&c->timer, on_late, (uint64_t)job->seconds * 1000, 0);
    (void)uv_read_start((uv_stream_t *)&c->out, give_chunk, on_read);
    *out = c;
    return ERR_OK;
}
