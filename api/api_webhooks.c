/* api_webhooks: /v1/webhook_endpoints: who is told when a job of the project ends. */
#include "api/api_internal.h"

#include <sodium/utils.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "storage/store_webhooks.h"

static json_t *endpoint_json(const struct webhook_row *w) {
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(w->id));
    json_object_set_new(o, "object", json_string("webhook_endpoint"));
    json_object_set_new(o, "created_at", json_integer(w->created_at));
    json_object_set_new(o, "url", api__string(w->url));
    json_object_set_new(o, "status", json_string(w->disabled_at == 0 ? "enabled" : "disabled"));
    json_object_set_new(o, "disabled_reason", api__string(w->disabled_reason));
    return o;
}

/* The only two answers that show a secret. */
static void answer_with_secret(struct api_response *resp, const struct webhook_row *w,
                               char secret[WEBHOOK_SECRET_SIZE]) {
    json_t *o = endpoint_json(w);
    json_object_set_new(o, "secret", json_string(secret));
    sodium_memzero(secret, WEBHOOK_SECRET_SIZE);
    api__ok(resp, o);
}

static bool found(enum err e, const char *id, const struct err_msg *em, struct api_response *resp) {
    if (e == ERR_NOT_FOUND)
        api_error(resp, 404, NULL, "webhook_endpoint_id", "No such webhook endpoint: %s", id);
    else if (e != ERR_OK)
        api_error_from(resp, em);
    return e == ERR_OK;
}

struct create_body {
    char *url;
};

/* The store checks the form of the address. */
static const struct json_rule create_rules[] = {
    {"url", .kind = JSON_KIND_TEXT, .hi = LIMIT_WEBHOOK_URL, .required = true,
     .at = offsetof(struct create_body, url),
     .pattern = "^https?://[!$-.0-9;=A-\\[\\]-~][!$-.0-;=A-\\[\\]-~]*([/?][!$-;=?-\\[\\]-~]*)?$"}};
const struct json_table api__webhook_create_table = {"WebhookCreate", create_rules, 1};

API_HANDLER(api__webhooks_create) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    char secret[WEBHOOK_SECRET_SIZE];
    struct create_body b = {0};
    if (!api__read(req, &api__webhook_create_table, &b, resp)) {
        free(b.url);
        return;
    }
    enum err e = store_webhook_create(api->store, req->project, b.url, secret, &w, &em);
    if (e == ERR_LIMIT) {
        api_error(resp, 400, "too_many_webhooks", NULL, "%s", em.text);
    } else if (e != ERR_OK) {
        api_error_from(resp, &em);
    } else {
        answer_with_secret(resp, &w, secret);
        webhook_row_clear(&w);
    }
    free(b.url);
}

API_HANDLER(api__webhooks_list) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row *rows = NULL;
    int n = 0;
    if (store_webhook_list(api->store, req->project, &rows, &n, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    json_t *data = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(data, endpoint_json(&rows[i]));
        webhook_row_clear(&rows[i]);
    }
    free(rows);
    api__ok(resp, api__list(data, false, NULL));
}

API_HANDLER(api__webhooks_get) {
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    const char *id = params->value[0];
    if (!found(store_webhook_get(api->store, req->project, id, &w, &em), id, &em, resp))
        return;
    api__ok(resp, endpoint_json(&w));
    webhook_row_clear(&w);
}

API_HANDLER(api__webhooks_delete) {
    struct err_msg em = ERR_MSG_INIT;
    const char *id = params->value[0];
    if (found(store_webhook_delete(api->store, req->project, id, &em), id, &em, resp))
        api__ok(resp,
                json_pack("{s:s, s:s, s:b}", "id", id, "object", "webhook_endpoint", "deleted", 1));
}

API_HANDLER(api__webhooks_rotate) {
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    char secret[WEBHOOK_SECRET_SIZE];
    const char *id = params->value[0];
    if (!found(store_webhook_get(api->store, req->project, id, &w, &em), id, &em, resp))
        return;
    int64_t until = clock_unix() + WEBHOOK_OVERLAP_SECONDS;
    if (found(store_webhook_rotate(api->store, req->project, id, until, secret, &em), id, &em,
              resp))
        answer_with_secret(resp, &w, secret);
    webhook_row_clear(&w);
}

API_HANDLER(api__webhooks_test) {
    struct err_msg em = ERR_MSG_INIT;
    char delivery[STORE_ID_SIZE];
    const char *id = params->value[0];
    if (found(store_webhook_test(api->store, req->project, id, delivery, &em), id, &em, resp))
        api__ok(resp,
                json_pack("{s:s, s:s, s:s, s:s}", "id", delivery, "object", "webhook_delivery",
                          "webhook_endpoint_id", id, "type", "ffwd.webhook.test"));
}
