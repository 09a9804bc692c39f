/* main of `ffwd-server`. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/version.h"
#include "server/backup_cmd.h"
#include "server/config.h"
#include "server/keys_cmd.h"
#include "server/server.h"
#include "server/webhooks_cmd.h"

#define SPARE_FILES 512 /* for the database, workers, uploads and downloads */

static int report(enum err e, const struct err_msg *em) {
    if (e != ERR_OK)
        fprintf(stderr, "ffwd-server: %s\n", em->text);
    return err_exit_code(e);
}

/* A connection holds a socket, and a file while it sends one. */
static void fit_open_files(struct config *config) {
    struct rlimit limit;
    rlim_t wanted = 2 * (rlim_t)config->limits.connections + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (!config_fit_limits(&config->limits, (int64_t)limit.rlim_cur - SPARE_FILES))
        log_warn("server.files",
                 "open_files=%llu connections=%lld streams=%lld raise the hard limit of open files "
                 "(ulimit -Hn) for more",
                 (unsigned long long)limit.rlim_cur, (long long)config->limits.connections,
                 (long long)config->limits.streams);
}

/* A service's user may have no home. */
static void keep_algorithms_in(const char *data_dir) {
    char *path = xasprintf("%s/cuda-algorithms", data_dir);
    (void)setenv("FFWD_CUDA_ALGORITHMS", path, 0);
    free(path);
}

int main(int argc, char **argv) {
    struct err_msg em = ERR_MSG_INIT;
    struct config config;
    (void)signal(SIGPIPE, SIG_IGN);
    /* libuv's threads flush uploads: slow disks must not make them wait for each other. */
    (void)setenv("UV_THREADPOOL_SIZE", "16", 0);
    uv_disable_stdio_inheritance();
    json_object_seed(0);
    if (argc == 3 && strcmp(argv[2], "--help") == 0) {
        fputs(config_help(), stdout);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "keys") == 0)
        return report(keys_cmd(argc - 1, argv + 1, &em), &em);
    if (argc > 1 && strcmp(argv[1], "webhooks") == 0)
        return report(webhooks_cmd(argc - 1, argv + 1, &em), &em);
    if (argc > 1 && strcmp(argv[1], "backup") == 0)
        return report(backup_cmd(argc - 1, argv + 1, &em), &em);
    enum err e = config_read(argc, argv, &config, &em);
    if (e != ERR_OK)
        return report(e, &em);
    if (config.help) {
        fputs(config_help(), stdout);
    } else if (config.version) {
        puts("ffwd-server " FFWD_VERSION);
    } else {
        log_set_level(config.log_level);
        fit_open_files(&config);
        keep_algorithms_in(config.data_dir);
        e = server_run(&config, &em);
    }
    config_clear(&config);
    return report(e, &em);
}
