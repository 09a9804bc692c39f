/* webhooks_cmd: `ffwd-server webhooks create|list|delete|rotate|test|deliveries|redeliver`. */
#include "server/webhooks_cmd.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "server/admin_client.h"

#define TEST_TRIES 80 /* until a test has been sent and answered */
#define TEST_MS 250

struct webhooks_options {
    const char *data_dir, *url, *project, *state, *command, *id;
};

/* What a command takes besides --data and --project. */
static const struct shape {
    const char *command;
    int least, most; /* ids */
    bool url, state;
} shapes[] = {{"create", 0, 0, true, false},    {"list", 0, 0, false, false},
              {"delete", 1, 1, false, false},   {"rotate", 1, 1, false, false},
              {"test", 1, 1, false, false},     {"deliveries", 0, 1, false, true},
              {"redeliver", 1, 1, false, false}};

static bool fits(const struct webhooks_options *o, int ids) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        if (strcmp(o->command, s->command) == 0)
            return ids >= s->least && ids <= s->most && s->url == (o->url != NULL) &&
                   (s->state || o->state == NULL);
    }
    return false;
}

static enum err read_options(int argc, char **argv, struct webhooks_options *o,
                             struct err_msg *em) {
    static const struct option options[] = {{"data", required_argument, NULL, 'd'},
                                            {"url", required_argument, NULL, 'u'},
                                            {"project", required_argument, NULL, 'p'},
                                            {"state", required_argument, NULL, 's'},
                                            {NULL, 0, NULL, 0}};
    *o = (struct webhooks_options){.data_dir = "ffwd-data"};
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            o->data_dir = optarg;
        else if (c == 'u')
            o->url = optarg;
        else if (c == 'p')
            o->project = optarg;
        else if (c == 's')
            o->state = optarg;
        else
            return err_set(em, ERR_USAGE, "%s: unknown option; see ffwd-server --help",
                           argv[optind - 1]);
    }
    int rest = argc - optind;
    o->command = rest > 0 ? argv[optind] : "";
    o->id = rest > 1 ? argv[optind + 1] : NULL;
    if (!fits(o, rest - 1))
        return err_set(em, ERR_USAGE,
                       "usage: ffwd-server webhooks create --url URL [--project P] | list "
                       "[--project P] | delete ID | rotate ID | test ID | deliveries [ID] "
                       "[--state pending|delivered|failed] | redeliver DELIVERY [--data DIR]");
    return ERR_OK;
}

static json_t *request_of(const struct webhooks_options *o) {
    char *command = xasprintf("webhooks.%s", o->command);
    json_t *request = json_pack("{s:s, s:s*, s:s*, s:s*, s:s*}", "command", command, "url", o->url,
                                "project", o->project, "state", o->state, "id", o->id);
    free(command);
    return request;
}

static const char *text_of(const json_t *o, const char *key) {
    const char *text = json_string_value(json_object_get(o, key));
    return text != NULL ? text : "";
}

static void print_list(const json_t *rows) {
    printf("%-30s %-20s %-14s %-21s %s\n", "ID", "CREATED", "PROJECT", "DISABLED", "URL");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *w = json_array_get(rows, i);
        char created[32], disabled[32];
        admin_time(json_integer_value(json_object_get(w, "created_at")), created);
        admin_time(json_integer_value(json_object_get(w, "disabled_at")), disabled);
        printf("%-30s %-20s %-14s %-21s %s\n", text_of(w, "id"), created, text_of(w, "project"),
               disabled, text_of(w, "url"));
    }
}

static void print_deliveries(const json_t *rows) {
    printf("%-30s %-30s %-27s %-30s %-20s %-9s %8s %6s %-20s %s\n", "ID", "ENDPOINT", "TYPE",
           "OBJECT", "CREATED", "STATE", "ATTEMPTS", "STATUS", "NEXT", "ERROR");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *d = json_array_get(rows, i);
        char created[32], next[32], status[24] = "-";
        long long answered = json_integer_value(json_object_get(d, "http_status"));
        admin_time(json_integer_value(json_object_get(d, "created_at")), created);
        admin_time(json_integer_value(json_object_get(d, "next_at")), next);
        if (answered > 0)
            (void)snprintf(status, sizeof status, "%lld", answered);
        printf("%-30s %-30s %-27s %-30s %-20s %-9s %8lld %6s %-20s %s\n", text_of(d, "id"),
               text_of(d, "endpoint"), text_of(d, "type"), text_of(d, "object"), created,
               text_of(d, "state"), (long long)json_integer_value(json_object_get(d, "attempts")),
               status, next, text_of(d, "message"));
    }
}

static void print_secret(const char *secret) {
    printf("%s\n", secret);
    (void)fflush(stdout);
}

/* Waits for the server's first attempt. */
static enum err wait_for(const struct webhooks_options *o, const char *id, struct err_msg *em) {
    json_t *request = json_pack("{s:s, s:s}", "command", "webhooks.delivery", "id", id);
    enum err e = ERR_OK;
    bool sent = false;
    for (int i = 0; e == ERR_OK && !sent && i < TEST_TRIES; i++) {
        json_t *reply = NULL;
        (void)usleep(TEST_MS * 1000);
        e = admin_ask(o->data_dir, request, &reply, NULL, em);
        sent = e == ERR_OK && json_integer_value(json_object_get(reply, "attempts")) > 0;
        long long status = json_integer_value(json_object_get(reply, "http_status"));
        if (sent && strcmp(text_of(reply, "state"), "delivered") == 0)
            fprintf(stderr, "the endpoint accepted %s with status %lld\n", id, status);
        else if (sent)
            e = err_set(em, ERR_IO, "%s was not accepted: %s", id, text_of(reply, "message"));
        json_decref(reply);
    }
    if (e == ERR_OK && !sent)
        e = err_set(em, ERR_IO, "%s has not been sent yet; the server's log will say more", id);
    json_decref(request);
    return e;
}

static enum err report(const struct webhooks_options *o, const json_t *reply, bool live,
                       struct err_msg *em) {
    const json_t *row = json_object_get(reply, "row");
    char until[32];
    if (strcmp(o->command, "list") == 0) {
        print_list(json_object_get(reply, "webhooks"));
    } else if (strcmp(o->command, "create") == 0) {
        print_secret(text_of(reply, "secret"));
        fprintf(stderr, "created %s for project %s; the secret is not shown again\n",
                text_of(row, "id"), text_of(row, "project"));
    } else if (strcmp(o->command, "rotate") == 0) {
        print_secret(text_of(reply, "secret"));
        admin_time(json_integer_value(json_object_get(reply, "old_until")), until);
        fprintf(stderr, "the secret before it signs as well until %s\n", until);
    } else if (strcmp(o->command, "deliveries") == 0) {
        print_deliveries(json_object_get(reply, "deliveries"));
    } else if (json_object_get(reply, "delivery") != NULL) {
        if (live)
            return wait_for(o, text_of(reply, "delivery"), em);
        fprintf(stderr, "no server runs on %s; %s is sent when one does\n", o->data_dir,
                text_of(reply, "delivery"));
    } else {
        fprintf(stderr, "deleted %s\n", o->id);
    }
    return ERR_OK;
}

enum err webhooks_cmd(int argc, char **argv, struct err_msg *em) {
    struct webhooks_options o;
    json_t *reply = NULL;
    bool live = false;
    enum err e = read_options(argc, argv, &o, em);
    if (e != ERR_OK)
        return e;
    json_t *request = request_of(&o);
    e = admin_ask(o.data_dir, request, &reply, &live, em);
    if (e == ERR_OK)
        e = report(&o, reply, live, em);
    json_decref(reply);
    json_decref(request);
    return e;
}
