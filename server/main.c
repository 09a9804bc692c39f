/* main of `ffwd-server`. */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "server/config.h"
#include "server/keys_cmd.h"
#include "server/server.h"

#define MOST_FILES 65536

static int report(enum err e, const struct err_msg *em) {
    if (e != ERR_OK)
        fprintf(stderr, "ffwd-server: %s\n", em->text);
    return err_exit_code(e);
}

/* A connection may hold a socket and a file. */
static void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max < MOST_FILES ? limit.rlim_max : MOST_FILES;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    struct err_msg em = ERR_MSG_INIT;
    struct config config;
    (void)signal(SIGPIPE, SIG_IGN);
    /* libuv's threads flush uploads: slow disks must not make them wait for each other. */
    (void)setenv("UV_THREADPOOL_SIZE", "16", 0);
    uv_disable_stdio_inheritance();
    json_object_seed(0);
    if (argc > 1 && strcmp(argv[1], "keys") == 0)
        return report(keys_cmd(argc - 1, argv + 1, &em), &em);
    enum err e = config_read(argc, argv, &config, &em);
    if (e != ERR_OK)
        return report(e, &em);
    if (config.help) {
        fputs(config_help(), stdout);
    } else {
        raise_file_limit();
        e = server_run(&config, &em);
    }
    config_clear(&config);
    return report(e, &em);
}
