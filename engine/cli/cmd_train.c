/* cmd_train: `ffwd train`, one job without HTTP. Events go to standard output. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "engine/cli/cli.h"
#include "engine/cli/progress.h"
#include "engine/train/job.h"
#include "engine/train/report.h"

static const char usage[] =
    "usage: ffwd train --model DIR --train FILE [--valid FILE] --out DIR\n"
    "                  [--device auto|cpu|cuda[:N]] [--dtype bf16|f32] [--threads N]\n"
    "                  [--config FILE.json] [--init-adapter DIR] [--resume]\n"
    "\n"
    "Trains a LoRA adapter with Fast Forward. Events are JSON lines on standard output.\n"
    "--config takes the body of a create request; --resume goes on from OUT's newest resume\n"
    "point. An interrupt writes a resume point and ends with 11; a second one ends at once.\n";

struct options {
    const char *model, *train, *valid, *out, *device, *dtype, *config, *init_adapter;
    int threads;
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

static enum err parse_threads(const char *text, int *out, struct err_msg *em) {
    char *end;
    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || n < 0 || n > LIMIT_THREADS)
        return err_set(em, ERR_USAGE, "--threads is a number from 0 (all cores) to %d, not '%s'",
                       LIMIT_THREADS, text);
    *out = (int)n;
    return ERR_OK;
}

static enum err set_option(struct options *o, int letter, const char *value, struct err_msg *em) {
    const char **const texts[] = {
        ['m'] = &o->model,  ['t'] = &o->train, ['v'] = &o->valid,  ['o'] = &o->out,
        ['d'] = &o->device, ['y'] = &o->dtype, ['c'] = &o->config, ['i'] = &o->init_adapter,
    };
    if (letter == 'n')
        return parse_threads(value, &o->threads, em);
    if (letter == 'r')
        o->resume = true;
    else
        *texts[letter] = value;
    return ERR_OK;
}

static enum err check_options(const struct options *o, struct err_msg *em) {
    const char *missing = o->model == NULL   ? "--model"
                          : o->train == NULL ? "--train"
                          : o->out == NULL   ? "--out"
                                             : NULL;
    if (missing != NULL)
        return err_set(em, ERR_USAGE, "%s is missing; `ffwd train --help` lists the options",
                       missing);
    if (o->dtype != NULL && strcmp(o->dtype, "bf16") != 0 && strcmp(o->dtype, "f32") != 0)
        return err_set(em, ERR_USAGE, "--dtype is bf16 or f32, not '%s'", o->dtype);
    return ERR_OK;
}

static enum err parse_options(int argc, char **argv, struct options *o, bool *help,
                              struct err_msg *em) {
    static const struct option longs[] = {
        {"model", required_argument, NULL, 'm'},   {"train", required_argument, NULL, 't'},
        {"valid", required_argument, NULL, 'v'},   {"out", required_argument, NULL, 'o'},
        {"device", required_argument, NULL, 'd'},  {"dtype", required_argument, NULL, 'y'},
        {"config", required_argument, NULL, 'c'},  {"init-adapter", required_argument, NULL, 'i'},
        {"threads", required_argument, NULL, 'n'}, {"resume", no_argument, NULL, 'r'},
        {"help", no_argument, NULL, 'h'},          {0},
    };
    opterr = 0;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, ":h", longs, NULL)) != -1;) {
        if (c == 'h') {
            *help = true;
            return ERR_OK;
        }
        if (c == '?' || c == ':')
            return err_set(em, ERR_USAGE, "%s %s; `ffwd train --help` lists the options",
                           c == ':' ? "a value is missing after" : "there is no option",
                           argv[optind - 1]);
        enum err e = set_option(o, c, optarg, em);
        if (e != ERR_OK)
            return e;
    }
    if (optind < argc)
        return err_set(em, ERR_USAGE, "'%s' is not an option; `ffwd train --help` lists them",
                       argv[optind]);
    return check_options(o, em);
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
    if (e != ERR_OK)
        err_prefix(em, "%s", path);
    json_decref(body);
    free(text);
    return e;
}

/* ---- hooks ---------------------------------------------------------------------------------- */

struct output {
    struct progress progress;
    bool broken; /* nobody reads standard output any more */
};

static void print_event(void *arg, const struct event *ev) {
    struct output *out = arg;
    char *line = event_to_line(ev);
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
    struct device_info info;
    enum err e = device_open(o->device != NULL ? o->device : "auto", o->threads, &dev, em);
    if (e != ERR_OK)
        return e;
    dev->ops->info(dev, &info);
    bool bf16 = o->dtype != NULL ? strcmp(o->dtype, "bf16") == 0 : info.native_bf16;
    e = model_open(dev, o->model, bf16 ? DTYPE_BF16 : DTYPE_F32, &model, em);
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
    struct options o = {0};
    struct err_msg em = ERR_MSG_INIT;
    struct job_request request;
    bool help = false;
    enum err e = parse_options(argc, argv, &o, &help, &em);
    if (help)
        fputs(usage, stdout);
    if (help || e != ERR_OK)
        return cli_report("train", e, &em);
    struct output out = {0};
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
