/* keys_cmd: `ffwd-server keys create|list|revoke`. */
#include "server/keys_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
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

struct keys_options {
    const char *data_dir, *name, *project, *command, *id;
};

static enum err read_options(int argc, char **argv, struct keys_options *o, struct err_msg *em) {
    static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                            {"name", required_argument, NULL, 'n'},
                                            {"project", required_argument, NULL, 'p'},
                                            {NULL, 0, NULL, 0}};
    *o = (struct keys_options){.data_dir = "ffwd-data", .name = "", .project = "default"};
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            o->data_dir = optarg;
        else if (c == 'n')
            o->name = optarg;
        else if (c == 'p')
            o->project = optarg;
        else
            return err_set(em, ERR_USAGE, "%s: unknown option; see ffwd-server --help",
                           argv[optind - 1]);
    }
    int rest = argc - optind;
    o->command = rest > 0 ? argv[optind] : "";
    o->id = rest > 1 ? argv[optind + 1] : NULL;
    bool revoke = strcmp(o->command, "revoke") == 0;
    bool known = revoke || strcmp(o->command, "create") == 0 || strcmp(o->command, "list") == 0;
    if (!known || rest != (revoke ? 2 : 1))
        return err_set(em, ERR_USAGE,
                       "usage: ffwd-server keys create [--name N] [--project P] | list | revoke ID "
                       "[--data DIR]");
    return ERR_OK;
}

static json_t *request_of(const struct keys_options *o) {
    char *command = xasprintf("keys.%s", o->command);
    json_t *request = json_pack("{s:s, s:s, s:s, s:s?}", "command", command, "name", o->name,
                                "project", o->project, "id", o->id);
    free(command);
    return request;
}

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

static enum err run_here(const struct keys_options *o, const json_t *request, json_t **reply,
                         struct err_msg *em) {
    struct store *store = NULL;
    enum err e = file_make_dirs(o->data_dir, em);
    if (e == ERR_OK)
        e = store_open(o->data_dir, &store, em);
    if (e != ERR_OK)
        return e;
    *reply = admin_execute(store, request);
    store_close(store);
    return ERR_OK;
}

static enum err run(const struct keys_options *o, const json_t *request, json_t **reply,
                    struct err_msg *em) {
    enum err e = ERR_OK;
    for (int i = 0; i < TRIES; i++) {
        int fd = connect_to(o->data_dir);
        if (fd >= 0) {
            *reply = ask(fd, request);
            close(fd);
            return *reply != NULL ? ERR_OK
                                  : err_set(em, ERR_IO, "the running server gave no answer");
        }
        err_clear(em);
        e = run_here(o, request, reply, em);
        if (e != ERR_CONFLICT)
            return e;
        (void)usleep(TRY_MS * 1000);
    }
    return e;
}

static void print_time(json_int_t seconds, char out[32]) {
    time_t t = (time_t)seconds;
    struct tm tm;
    gmtime_r(&t, &tm);
    (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void print_keys(const json_t *keys) {
    printf("%-32s %-20s %-14s %-16s %-21s %s\n", "ID", "CREATED", "PROJECT", "KEY", "REVOKED",
           "NAME");
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const json_t *k = json_array_get(keys, i);
        json_int_t revoked = json_integer_value(json_object_get(k, "revoked_at"));
        char created[32], ended[32] = "-", prefix[40];
        print_time(json_integer_value(json_object_get(k, "created_at")), created);
        if (revoked > 0)
            print_time(revoked, ended);
        (void)snprintf(prefix, sizeof prefix, "%s...",
                       json_string_value(json_object_get(k, "prefix")));
        printf("%-32s %-20s %-14s %-16s %-21s %s\n", json_string_value(json_object_get(k, "id")),
               created, json_string_value(json_object_get(k, "project")), prefix, ended,
               json_string_value(json_object_get(k, "name")));
    }
}

static void print_reply(const struct keys_options *o, const json_t *reply) {
    const json_t *row = json_object_get(reply, "row");
    if (strcmp(o->command, "list") == 0) {
        print_keys(json_object_get(reply, "keys"));
    } else if (strcmp(o->command, "create") == 0) {
        printf("%s\n", json_string_value(json_object_get(reply, "key")));
        (void)fflush(stdout);
        fprintf(stderr, "created %s for project %s; the key is not shown again\n",
                json_string_value(json_object_get(row, "id")),
                json_string_value(json_object_get(row, "project")));
    } else {
        fprintf(stderr, "revoked %s\n", o->id);
    }
}

enum err keys_cmd(int argc, char **argv, struct err_msg *em) {
    struct keys_options o;
    json_t *reply = NULL;
    enum err e = read_options(argc, argv, &o, em);
    if (e != ERR_OK)
        return e;
    json_t *request = request_of(&o);
    if (request == NULL)
        return err_set(em, ERR_USAGE, "names must be UTF-8");
    e = run(&o, request, &reply, em);
    const json_t *error = json_object_get(reply, "error");
    if (e == ERR_OK && error != NULL) {
        const char *code = json_string_value(json_object_get(error, "code"));
        const char *text = json_string_value(json_object_get(error, "message"));
        bool wrong = code != NULL && (strcmp(code, "usage") == 0 || strcmp(code, "not_found") == 0);
        e = err_set(em, wrong ? ERR_USAGE : ERR_IO, "%s", text != NULL ? text : "failed");
    } else if (e == ERR_OK) {
        print_reply(&o, reply);
    }
    json_decref(reply);
    json_decref(request);
    return e;
}
