/* admin_client: administration commands, from the command line. */
#include "server/admin_client.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "server/admin.h"

#define TRIES 20 /* a server that starts or stops holds the lock without answering */
#define TRY_MS 250

/* ---- the running server --------------------------------------------------------------------- */

static int connect_to(const char *data_dir) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char path[64];
    int dir = open(data_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -1;
    admin_socket_path(dir, path);
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) != 0) {
        close(fd);
        fd = -1;
    }
    close(dir);
    return fd;
}

static bool send_line(int fd, const json_t *request) {
    char *text = json_dumps(request, JSON_COMPACT);
    char *line = xasprintf("%s\n", text != NULL ? text : "{}");
    size_t n = strlen(line);
    bool sent = send(fd, line, n, MSG_NOSIGNAL) == (ssize_t)n;
    free(line);
    free(text);
    return sent;
}

static json_t *ask(int fd, const json_t *request) {
    struct buf answer;
    char chunk[4096];
    json_error_t je;
    ssize_t n = -1;
    buf_init(&answer, 64u << 20);
    if (send_line(fd, request))
        while ((n = read(fd, chunk, sizeof chunk)) > 0 &&
               buf_add(&answer, chunk, (size_t)n) == ERR_OK)
            continue;
    json_t *reply = answer.data != NULL
                        ? json_loadb(answer.data, answer.len, JSON_REJECT_DUPLICATES, &je)
                        : NULL;
    buf_clear(&answer);
    return reply;
}

/* ---- both ways ------------------------------------------------------------------------------ */

static enum err run_here(const char *data_dir, const json_t *request, json_t **reply,
                         struct err_msg *em) {
    struct store *store = NULL;
    enum err e = file_make_dirs(data_dir, em);
    if (e == ERR_OK)
        e = store_open(data_dir, &store, em);
    if (e != ERR_OK)
        return e;
    *reply = admin_execute(store, request);
    store_close(store);
    return ERR_OK;
}

static enum err run(const char *data_dir, const json_t *request, json_t **reply, bool *live,
                    struct err_msg *em) {
    enum err e = ERR_OK;
    for (int i = 0; i < TRIES; i++) {
        int fd = connect_to(data_dir);
        *live = fd >= 0;
        if (fd >= 0) {
            *reply = ask(fd, request);
            close(fd);
            return *reply != NULL ? ERR_OK
                                  : err_set(em, ERR_IO, "the running server gave no answer");
        }
        err_clear(em);
        e = run_here(data_dir, request, reply, em);
        if (e != ERR_CONFLICT)
            return e;
        (void)usleep(TRY_MS * 1000);
    }
    return e;
}

enum err admin_ask(const char *data_dir, const json_t *request, json_t **reply, bool *live,
                   struct err_msg *em) {
    bool running = false;
    *reply = NULL;
    if (request == NULL)
        return err_set(em, ERR_USAGE, "names must be UTF-8");
    enum err e = run(data_dir, request, reply, &running, em);
    if (live != NULL)
        *live = running;
    const json_t *error = json_object_get(*reply, "error");
    if (e != ERR_OK || error == NULL)
        return e;
    const char *code = json_string_value(json_object_get(error, "code"));
    const char *text = json_string_value(json_object_get(error, "message"));
    bool wrong = code != NULL && (strcmp(code, "io") != 0 && strcmp(code, "disk_full") != 0);
    return err_set(em, wrong ? ERR_USAGE : ERR_IO, "%s", text != NULL ? text : "failed");
}

void admin_time(json_int_t seconds, char out[32]) {
    time_t t = (time_t)seconds;
    struct tm tm;
    (void)snprintf(out, 32, "-");
    if (seconds != 0 && gmtime_r(&t, &tm) != NULL)
        (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}
