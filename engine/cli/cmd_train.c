/* cmd_train: `ffwd train`, one job without HTTP. Events go to standard output. */
#include <inttypes.h>
#include <signal.h>
#include <sodium/randombytes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "engine/cli/cli.h"
#include "engine/cli/options.h"
#include "engine/cli/progress.h"
#include "engine/train/job.h"
#include "engine/train/report.h"

static const char usage[] =
    "usage: ffwd train --model DIR --train FILE --out DIR [OPTIONS]\n"
    "\n"
    "Trains a LoRA adapter with Fast Forward. Prints events as JSON lines; on a terminal also a\n"
    "progress bar. The adapter is in DIR/adapter, in PEFT's files.\n"
    "\n"
    "  --model DIR         model folder\n"
    "  --train FILE        rows to train on (JSONL; `ffwd check` reports on them)\n"
    "  --valid FILE        rows to measure on\n"
    "  --out DIR           a new or empty folder\n"
    "  --config FILE.json  settings: the body of a create request (docs/CONFIGURATION.md)\n"
    "  --init-adapter DIR  goes on training this adapter\n"
    "  --resume            goes on from the newest resume point in --out; starts where there is\n"
    "                      none, and is done where the job is complete\n"
    "  --device D          auto (default), cpu, cuda or cuda:N\n"
    "  --dtype T           bf16 or f32; default: bf16 where the device has products in it\n"
    "  --threads N         CPU threads (default: all cores)\n"
    "\n"
    "An interrupt (SIGINT, SIGTERM) writes a resume point and ends with 11; a second one ends at\n"
    "once. Exit code: 0 done, 2 wrong usage, 11 stopped, 20 bad input, 21 diverged, 22 out of\n"
    "memory, 30 disk, 70 device.\n";

struct options {
    const char *model, *train, *valid, *out, *device, *dtype, *config, *init_adapter;
    int64_t threads;
    bool resume;
};

/* Set by signals and by a closed standard output; read between steps. */
static volatile sig_atomic_t stop_asked;

static void on_signal(int sig) {
    stop_asked = 1;
    signal(sig, SIG_DFL); /* the second one ends the process */
}

static void catch_signals(void) {
    const struct sigaction stop = {.sa_handler = on_signal};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGPIPE, &ignore, NULL); /* a failed write says the same */
    sigaction(SIGXFSZ, &ignore, NULL);
}

/* ---- options -------------------------------------------------------------------------------- */

static enum err read_options(int argc, char **argv, struct options *o, bool *help,
                             struct err_msg *em) {
    const struct cli_option options[] = {
        {.name = "--model", .text = &o->model},
        {.name = "--train", .text = &o->train},
        {.name = "--valid", .text = &o->valid},
        {.name = "--out", .text = &o->out},
        {.name = "--device", .text = &o->device},
        {.name = "--dtype", .text = &o->dtype},
        {.name = "--config", .text = &o->config},
        {.name = "--init-adapter", .text = &o->init_adapter},
        {.name = "--threads", .number = &o->threads, .lo = 1, .hi = LIMIT_THREADS},
        {.name = "--resume", .flag = &o->resume},
    };
    *o = (struct options){.device = "auto"};
    enum err e =
        cli_options_read(argc, argv, options, (int)(sizeof options / sizeof options[0]), help, em);
    if (e != ERR_OK || *help)
        return e;
    const char *missing = o->model == NULL   ? "--model"
                          : o->train == NULL ? "--train"
                          : o->out == NULL   ? "--out"
                                             : NULL;
    return missing == NULL
               ? ERR_OK
               : err_set(em, ERR_USAGE, "%s is missing; --help lists the options", missing);
}

static enum err read_config(const char *path, struct job_request *request, struct err_msg *em) {
    char *text = NULL;
    size_t len;
    json_error_t where;
    if (path == NULL) {
        job_request_init(request);
        return ERR_OK;
    }
    enum err e = file_read(path, LIMIT_CONFIG_FILE, &text, &len, em);
    if (e != ERR_OK)
        return e;
    json_t *body = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    if (body == NULL)
        e = err_set(em, ERR_INPUT, "line %d, column %d: %s", where.line, where.column, where.text);
    else
        e = job_request_parse(body, 0, request, em);
    if (e == ERR_OK && request->dry_run) {
        e = err_set_param(em, ERR_INPUT, "dry_run",
                          "dry_run: nothing would be trained; `ffwd check` reports on the data");
        job_request_clear(request);
    }
    if (e != ERR_OK)
        err_prefix(em, "%s", path);
    json_decref(body);
    free(text);
    return e;
}

/* ---- hooks ---------------------------------------------------------------------------------- */

struct output {
    struct progress progress;
    uint64_t run, events; /* a random number and a count: the ids of the events */
    bool broken;          /* nobody reads standard output any more */
};

static void print_event(void *arg, const struct event *ev) {
    struct output *out = arg;
    char id[48];
    (void)snprintf(id, sizeof id, "ftevent-%016" PRIx64 "%08" PRIx64, out->run, ++out->events);
    char *line = event_to_line(ev, id);
    progress_clear(&out->progress);
    if (!out->broken && (fputs(line, stdout) == EOF || putchar('\n') == EOF || fflush(stdout) != 0))
        out->broken = true;
    free(line);
    if (out->broken)
        stop_asked = 1;
    progress_event(&out->progress, ev);
}

static enum train_signal poll_stop(void *arg) {
    (void)arg;
    return stop_asked ? TRAIN_STOP : TRAIN_GO;
}

/* ---- the job -------------------------------------------------------------------------------- */

static enum err train(const struct options *o, const struct job_request *request,
                      const struct train_hooks *hooks, struct err_msg *em) {
    struct device *dev = NULL;
    struct model *model = NULL;
    json_t *result = NULL;
    enum dtype dtype;
    enum err e = o->resume ? train_result(o->out, &result, em) : ERR_OK;
    if (result != NULL)
        report_success(hooks, result);
    json_decref(result);
    if (e != ERR_OK || result != NULL)
        return e;
    e = device_open(o->device, (int)o->threads, &dev, em);
    if (e != ERR_OK)
        return e;
    e = cli_dtype(o->dtype, dev, &dtype, em);
    if (e == ERR_OK)
        e = model_open(dev, o->model, dtype, &model, em);
    if (e == ERR_OK) {
        const struct train_job job = {
            .model = model,
            .model_dir = o->model,
            .model_name = request->model != NULL ? request->model : o->model,
            .train_path = o->train,
            .valid_path = o->valid,
            .out_dir = o->out,
            .init_adapter = o->init_adapter,
            .request = request,
            .resume = o->resume,
        };
        e = train_run(&job, hooks, em);
        model_close(model);
    }
    device_close(dev);
    return e;
}

int cmd_train(int argc, char **argv) {
    struct options o;
    struct err_msg em = ERR_MSG_INIT;
    struct job_request request;
    bool help = false;
    enum err e = read_options(argc, argv, &o, &help, &em);
    if (help)
        fputs(usage, stdout);
    if (help || e != ERR_OK)
        return cli_report("train", e, &em);
    struct output out = {0};
    randombytes_buf(&out.run, sizeof out.run);
    const struct train_hooks hooks = {.arg = &out, .event = print_event, .poll = poll_stop};
    catch_signals();
    progress_init(&out.progress);
    e = read_config(o.config, &request, &em);
    if (e == ERR_OK) {
        e = train(&o, &request, &hooks, &em);
        job_request_clear(&request);
    }
    if (e != ERR_OK)
        report_end(&hooks, e, &em);
    progress_clear(&out.progress);
    return cli_report("train", e, &em);
}
