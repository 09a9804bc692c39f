/* admin_execute: what the administration commands do; also run without a server. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/admin.h"

static json_t *failure(const struct err_msg *em) {
    return json_pack("{s:{s:s, s:s}}", "error", "code", err_name(em->code), "message", em->text);
}

static json_t *key_json(const struct key_row *k) {
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "id", k->id, "name", k->name, "project",
                     k->project, "prefix", k->prefix, "created_at", (json_int_t)k->created_at,
                     "revoked_at", (json_int_t)k->revoked_at);
}

static const char *text_of(const json_t *request, const char *name, const char *otherwise) {
    const char *text = json_string_value(json_object_get(request, name));
    return text != NULL ? text : otherwise;
}

static json_t *create(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    const char *name = text_of(request, "name", "");
    const char *project = text_of(request, "project", "default");
    struct key_row row;
    char key[64];
    if (strlen(name) > ADMIN_NAME_MAX || strlen(project) > ADMIN_NAME_MAX || *project == '\0') {
        (void)err_set(&em, ERR_USAGE, "a name has at most %d bytes, a project 1 to %d",
                      ADMIN_NAME_MAX, ADMIN_NAME_MAX);
        return failure(&em);
    }
    if (store_key_create(store, name, project, key, &row, &em) != ERR_OK)
        return failure(&em);
    json_t *out = json_pack("{s:o, s:s}", "row", key_json(&row), "key", key);
    key_row_clear(&row);
    return out;
}

static json_t *list(struct store *store) {
    struct err_msg em = ERR_MSG_INIT;
    struct key_row *rows = NULL;
    int n = 0;
    if (store_key_list(store, &rows, &n, &em) != ERR_OK)
        return failure(&em);
    json_t *data = json_array();
    for (int i = 0; i < n; i++) {
        (void)json_array_append_new(data, key_json(&rows[i]));
        key_row_clear(&rows[i]);
    }
    free(rows);
    return json_pack("{s:o}", "keys", data);
}

static json_t *revoke(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    const char *id = text_of(request, "id", "");
    enum err e = store_key_revoke(store, id, &em);
    if (e == ERR_NOT_FOUND) {
        err_clear(&em);
        (void)err_set(&em, e, "there is no key %s; see ffwd-server keys list", id);
    }
    return e == ERR_OK ? json_pack("{s:s}", "revoked", id) : failure(&em);
}

static json_t *backup(struct store *store) {
    struct err_msg em = ERR_MSG_INIT;
    char *path = NULL;
    if (store_backup(store, &path, &em) != ERR_OK)
        return failure(&em);
    json_t *out = json_pack("{s:s}", "database", path);
    free(path);
    return out != NULL ? out : json_object(); /* a path that is not UTF-8 */
}

json_t *admin_execute(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    const char *command = text_of(request, "command", "");
    json_t *answer = NULL;
    if (strcmp(command, "keys.create") == 0)
        answer = create(store, request);
    else if (strcmp(command, "keys.list") == 0)
        answer = list(store);
    else if (strcmp(command, "keys.revoke") == 0)
        answer = revoke(store, request);
    else if (strcmp(command, "backup") == 0)
        answer = backup(store);
    else if (strncmp(command, "webhooks.", 9) == 0)
        answer = admin_webhooks(store, command + 9, request);
    if (answer != NULL)
        return answer;
    (void)err_set(&em, ERR_USAGE, "unknown command");
    return failure(&em);
}
