/* keys_cmd: `ffwd-server keys create|list|revoke`. */
#include "server/keys_cmd.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/admin_client.h"

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

static void print_keys(const json_t *keys) {
    printf("%-32s %-20s %-14s %-16s %-21s %s\n", "ID", "CREATED", "PROJECT", "KEY", "REVOKED",
           "NAME");
    for (size_t i = 0; i < json_array_size(keys); i++) {
        const json_t *k = json_array_get(keys, i);
        json_int_t revoked = json_integer_value(json_object_get(k, "revoked_at"));
        char created[32], ended[32], prefix[40];
        admin_time(json_integer_value(json_object_get(k, "created_at")), created);
        admin_time(revoked, ended);
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
    e = admin_ask(o.data_dir, request, &reply, NULL, em);
    if (e == ERR_OK)
        print_reply(&o, reply);
    json_decref(reply);
    json_decref(request);
    return e;
}
