/* admin_webhooks: administration commands about webhook endpoints. */
#include <sodium/utils.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/admin.h"
#include "storage/store_webhooks.h"

#define MOST_SHOWN 200 /* deliveries */

enum { N_STATES = 3 };
static const char *const states[N_STATES] = {
    [DELIVERY_PENDING] = "pending", [DELIVERY_DONE] = "delivered", [DELIVERY_FAILED] = "failed"};

static json_t *failure(const struct err_msg *em) {
    return json_pack("{s:{s:s, s:s}}", "error", "code", err_name(em->code), "message", em->text);
}

static const char *text_of(const json_t *request, const char *name) {
    const char *text = json_string_value(json_object_get(request, name));
    return text != NULL ? text : "";
}

/* NULL: all projects. */
static const char *project_of(const json_t *request) {
    return json_string_value(json_object_get(request, "project"));
}

static json_t *row_json(const struct webhook_row *w) {
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s?}", "id", w->id, "project", w->project, "url",
                     w->url, "created_at", (json_int_t)w->created_at, "disabled_at",
                     (json_int_t)w->disabled_at, "disabled_reason", w->disabled_reason);
}

static json_t *create(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row row;
    char secret[WEBHOOK_SECRET_SIZE];
    const char *project = project_of(request);
    project = project != NULL ? project : "default";
    if (*project == '\0' || strlen(project) > ADMIN_NAME_MAX) {
        (void)err_set(&em, ERR_USAGE, "a project has 1 to %d bytes", ADMIN_NAME_MAX);
        return failure(&em);
    }
    const struct webhook_settings settings = {.url = text_of(request, "url")};
    if (store_webhook_create(store, project, &settings, secret, &row, &em) != ERR_OK)
        return failure(&em);
    json_t *out = json_pack("{s:o, s:s}", "row", row_json(&row), "secret", secret);
    sodium_memzero(secret, sizeof secret);
    webhook_row_clear(&row);
    return out;
}

static json_t *list(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row *rows = NULL;
    int n = 0;
    if (store_webhook_list(store, project_of(request), &rows, &n, &em) != ERR_OK)
        return failure(&em);
    json_t *data = json_array();
    for (int i = 0; i < n; i++) {
        (void)json_array_append_new(data, row_json(&rows[i]));
        webhook_row_clear(&rows[i]);
    }
    free(rows);
    return json_pack("{s:o}", "webhooks", data);
}

static json_t *rotate(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    char secret[WEBHOOK_SECRET_SIZE];
    int64_t until = clock_unix() + WEBHOOK_OVERLAP_SECONDS;
    if (store_webhook_rotate(store, project_of(request), text_of(request, "id"), until, secret,
                             &em) != ERR_OK)
        return failure(&em);
    json_t *out = json_pack("{s:s, s:I}", "secret", secret, "old_until", (json_int_t)until);
    sodium_memzero(secret, sizeof secret);
    return out;
}

static json_t *test(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    char delivery[STORE_ID_SIZE];
    if (store_webhook_test(store, project_of(request), text_of(request, "id"), WEBHOOK_TEST_TYPE,
                           delivery, &em) != ERR_OK)
        return failure(&em);
    return json_pack("{s:s}", "delivery", delivery);
}

static json_t *delivery_json(const struct delivery_row *d) {
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(d->id));
    json_object_set_new(o, "endpoint", json_string(d->endpoint_id));
    json_object_set_new(o, "type", json_string(d->type));
    json_object_set_new(o, "object", json_string(d->object_id));
    json_object_set_new(o, "created_at", json_integer(d->created_at));
    json_object_set_new(o, "state", json_string(states[d->status]));
    json_object_set_new(o, "attempts", json_integer(d->attempts));
    json_object_set_new(o, "http_status", json_integer(d->http_status));
    json_object_set_new(o, "message", d->error != NULL ? json_string(d->error) : json_null());
    if (d->status == DELIVERY_PENDING)
        json_object_set_new(o, "next_at", json_integer(d->next_at));
    return o;
}

static json_t *delivery(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    struct delivery_row d;
    if (store_delivery_get(store, project_of(request), text_of(request, "id"), &d, &em) != ERR_OK)
        return failure(&em);
    json_t *out = delivery_json(&d);
    delivery_row_clear(&d);
    return out;
}

static json_t *deliveries(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    struct delivery_row *rows = NULL;
    int n = 0, state = -1;
    const char *wanted = text_of(request, "state"), *id = text_of(request, "id");
    for (int i = 0; i < N_STATES; i++)
        if (strcmp(wanted, states[i]) == 0)
            state = i;
    if (state < 0 && *wanted != '\0') {
        (void)err_set(&em, ERR_USAGE, "a state is pending, delivered or failed");
        return failure(&em);
    }
    if (store_delivery_list(store, project_of(request), *id != '\0' ? id : NULL, state, MOST_SHOWN,
                            &rows, &n, &em) != ERR_OK)
        return failure(&em);
    json_t *data = json_array();
    for (int i = 0; i < n; i++) {
        (void)json_array_append_new(data, delivery_json(&rows[i]));
        delivery_row_clear(&rows[i]);
    }
    free(rows);
    return json_pack("{s:o}", "deliveries", data);
}

static json_t *redeliver(struct store *store, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    const char *id = text_of(request, "id");
    if (store_delivery_again(store, project_of(request), id, &em) != ERR_OK)
        return failure(&em);
    return json_pack("{s:s}", "delivery", id);
}

json_t *admin_webhooks(struct store *store, const char *command, const json_t *request) {
    struct err_msg em = ERR_MSG_INIT;
    if (strcmp(command, "create") == 0)
        return create(store, request);
    if (strcmp(command, "list") == 0)
        return list(store, request);
    if (strcmp(command, "rotate") == 0)
        return rotate(store, request);
    if (strcmp(command, "test") == 0)
        return test(store, request);
    if (strcmp(command, "delivery") == 0)
        return delivery(store, request);
    if (strcmp(command, "deliveries") == 0)
        return deliveries(store, request);
    if (strcmp(command, "redeliver") == 0)
        return redeliver(store, request);
    if (strcmp(command, "delete") != 0)
        return NULL;
    if (store_webhook_delete(store, project_of(request), text_of(request, "id"), &em) != ERR_OK)
        return failure(&em);
    return json_pack("{s:s}", "deleted", text_of(request, "id"));
}
