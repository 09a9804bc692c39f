/* api_webhooks: /v1/webhook_endpoints: who is told when a job of the project ends. */
#include "api/api_internal.h"

#include <sodium/utils.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "storage/store_webhooks.h"

static json_t *event_types_json(unsigned events) {
    json_t *list = json_array();
    for (unsigned i = 0; i < WEBHOOK_EVENTS; i++)
        if ((events >> i & 1) != 0)
            json_array_append_new(list, json_string(webhook_event_names[i]));
    return list;
}

static json_t *endpoint_json(const struct webhook_row *w) {
    char *hint = xasprintf("whsec_...%s", w->secret_end);
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(w->id));
    json_object_set_new(o, "object", json_string("webhook_endpoint"));
    json_object_set_new(o, "created_at", json_integer(w->created_at));
    json_object_set_new(o, "updated_at", json_integer(w->updated_at));
    json_object_set_new(o, "name", api__string(w->name));
    json_object_set_new(o, "url", api__string(w->url));
    json_object_set_new(o, "event_types", event_types_json(w->events));
    json_object_set_new(o, "signing_secret_hint", api__string(hint));
    json_object_set_new(o, "status", json_string(w->disabled_at == 0 ? "enabled" : "disabled"));
    json_object_set_new(o, "disabled_reason", api__string(w->disabled_reason));
    free(hint);
    return o;
}

/* The only two answers that show a secret. */
static void answer_with_secret(struct api_response *resp, const struct webhook_row *w,
                               char secret[WEBHOOK_SECRET_SIZE]) {
    json_t *o = endpoint_json(w);
    json_object_set_new(o, "signing_secret", json_string(secret));
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

/* ---- what a client says --------------------------------------------------------------------- */

struct settings {
    char *name, *url;
    unsigned events;
};

static void settings_clear(struct settings *s) {
    free(s->name);
    free(s->url);
}

static enum err read_events(const json_t *v, void *out, const struct json_place *at) {
    unsigned *events = &((struct settings *)out)->events;
    *events = 0;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *type = json_string_value(json_array_get(v, i));
        unsigned bit = 0;
        for (unsigned k = 0; type != NULL && k < WEBHOOK_EVENTS; k++)
            if (strcmp(type, webhook_event_names[k]) == 0)
                bit = 1u << k;
        if (bit == 0 || (*events & bit) != 0) {
            *events = 0;
            break;
        }
        *events |= bit;
    }
    return *events != 0 ? ERR_OK
                        : json_field_wrong(at, "an array of one or more of "
                                               "\"fine_tuning.job.succeeded\", "
                                               "\"fine_tuning.job.failed\" and "
                                               "\"fine_tuning.job.cancelled\", each once");
}

/* The store checks the form of the address. */
#define URL_RULE                                                                                   \
    .kind = JSON_KIND_TEXT, .hi = LIMIT_WEBHOOK_URL, .at = offsetof(struct settings, url),         \
    .pattern = "^https?://[!$-.0-9;=A-\\[\\]-~][!$-.0-;=A-\\[\\]-~]*([/?][!$-;=?-\\[\\]-~]*)?$"
#define NAME_RULE                                                                                  \
    .kind = JSON_KIND_TEXT, .hi = LIMIT_FILENAME, .at = offsetof(struct settings, name)
#define EVENTS_RULE                                                                                \
    .kind = JSON_KIND_OWN, .read = read_events,                                                    \
    .schema =                                                                                      \
        "{'type':'array','minItems':1,'uniqueItems':true,'items':{'enum':["                        \
        "'fine_tuning.job.succeeded','fine_tuning.job.failed','fine_tuning.job.cancelled']}}"

static const struct json_rule create_rules[] = {
    {"url", URL_RULE, .required = true}, {"name", NAME_RULE}, {"event_types", EVENTS_RULE}};
const struct json_table api__webhook_create_table = {"WebhookCreate", create_rules, 3};

static const struct json_rule update_rules[] = {
    {"url", URL_RULE}, {"name", NAME_RULE}, {"event_types", EVENTS_RULE}};
const struct json_table api__webhook_update_table = {"WebhookUpdate", update_rules, 3};

static const struct json_rule rotate_rules[] = {
    {"keep_old_secret_active_for_24_hours", .kind = JSON_KIND_BOOL, .at = 0}};
const struct json_table api__webhook_rotate_table = {"WebhookRotate", rotate_rules, 1};

static const char *const test_types[] = {WEBHOOK_TEST_TYPE, "fine_tuning.job.succeeded",
                                         "fine_tuning.job.failed", "fine_tuning.job.cancelled"};
enum { N_TEST_TYPES = sizeof test_types / sizeof test_types[0] };
static const struct json_rule test_rules[] = {{"event_type", .kind = JSON_KIND_CHOICE, .at = 0,
                                               .names = test_types, .n_names = N_TEST_TYPES}};
const struct json_table api__webhook_test_table = {"WebhookTestRequest", test_rules, 1};

/* The body of a call that needs none. */
static bool read_optional(const struct api_request *req, const struct json_table *t, void *out,
                          struct api_response *resp) {
    return req->body_len == 0 || api__read(req, t, out, resp);
}

/* ---- endpoints ------------------------------------------------------------------------------ */

API_HANDLER(api__webhooks_create) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    char secret[WEBHOOK_SECRET_SIZE];
    struct settings b = {0};
    if (!api__read(req, &api__webhook_create_table, &b, resp)) {
        settings_clear(&b);
        return;
    }
    const struct webhook_settings settings = {.name = b.name, .url = b.url, .events = b.events};
    enum err e = store_webhook_create(api->store, req->project, &settings, secret, &w, &em);
    if (e == ERR_LIMIT) {
        api_error(resp, 400, "too_many_webhooks", NULL, "%s", em.text);
    } else if (e != ERR_OK) {
        api_error_from(resp, &em);
    } else {
        answer_with_secret(resp, &w, secret);
        webhook_row_clear(&w);
    }
    settings_clear(&b);
}

API_HANDLER(api__webhooks_update) {
    struct err_msg em = ERR_MSG_INIT;
    const char *id = params->value[0];
    struct webhook_row w;
    struct settings b = {0};
    if (!found(store_webhook_get(api->store, req->project, id, &w, &em), id, &em, resp))
        return;
    webhook_row_clear(&w);
    if (api__read(req, &api__webhook_update_table, &b, resp)) {
        const struct webhook_settings settings = {.name = b.name, .url = b.url, .events = b.events};
        if (found(store_webhook_update(api->store, req->project, id, &settings, &em), id, &em,
                  resp))
            api__webhooks_get(api, req, params, resp);
    }
    settings_clear(&b);
}

/* Newest first. There are few, so a page is cut from all of them. */
static void send_page(const struct webhook_row *rows, int n, const struct page *page,
                      struct api_response *resp) {
    json_t *data = json_array();
    int from = n - 1;
    bool seen = page->after == NULL;
    for (; !seen && from >= 0; from--)
        seen = strcmp(rows[from].id, page->after) == 0;
    for (; from >= 0 && (int64_t)json_array_size(data) < page->limit; from--)
        json_array_append_new(data, endpoint_json(&rows[from]));
    if (seen) {
        api__ok(resp, api__list(data, from >= 0, json_null()));
        return;
    }
    json_decref(data);
    api_error(resp, 404, NULL, "after", "No such webhook endpoint: %s", page->after);
}

API_HANDLER(api__webhooks_list) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row *rows = NULL;
    struct page page;
    int n = 0;
    if (!api__page(req, 20, &page, resp))
        return;
    if (store_webhook_list(api->store, req->project, &rows, &n, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    send_page(rows, n, &page, resp);
    for (int i = 0; i < n; i++)
        webhook_row_clear(&rows[i]);
    free(rows);
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
        api__ok(resp, json_pack("{s:s, s:s, s:b}", "id", id, "object", "webhook_endpoint.deleted",
                                "deleted", 1));
}

API_HANDLER(api__webhooks_rotate) {
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    char secret[WEBHOOK_SECRET_SIZE];
    const char *id = params->value[0];
    bool keep = false;
    if (!found(store_webhook_get(api->store, req->project, id, &w, &em), id, &em, resp))
        return;
    webhook_row_clear(&w);
    if (!read_optional(req, &api__webhook_rotate_table, &keep, resp))
        return;
    int64_t until = keep ? clock_unix() + WEBHOOK_OVERLAP_SECONDS : 0;
    enum err e = store_webhook_rotate(api->store, req->project, id, until, secret, &em);
    if (e == ERR_OK)
        e = store_webhook_get(api->store, req->project, id, &w, &em);
    if (found(e, id, &em, resp)) {
        answer_with_secret(resp, &w, secret);
        webhook_row_clear(&w);
    }
}

API_HANDLER(api__webhooks_event_types) {
    (void)api;
    (void)req;
    (void)params;
    api__ok(resp, json_pack("{s:s, s:o}", "object", "list", "data", event_types_json(WEBHOOK_ALL)));
}

/* ---- tests ---------------------------------------------------------------------------------- */

API_HANDLER(api__webhooks_test) {
    struct err_msg em = ERR_MSG_INIT;
    struct webhook_row w;
    const char *id = params->value[0];
    int type = 0;
    if (!found(store_webhook_get(api->store, req->project, id, &w, &em), id, &em, resp))
        return;
    if (w.disabled_at != 0)
        api_error(resp, 400, "webhook_disabled", "webhook_endpoint_id",
                  "Webhook endpoint %s is disabled: %s. Give it a url to use it again.", id,
                  w.disabled_reason);
    webhook_row_clear(&w);
    if (resp->status == 0 && read_optional(req, &api__webhook_test_table, &type, resp) &&
        !found(
            store_webhook_test(api->store, req->project, id, test_types[type], resp->delivery, &em),
            id, &em, resp))
        resp->delivery[0] = '\0';
}

void api_delivery_answer(const struct delivery_row *d, int64_t status, const char *error,
                         struct api_response *resp) {
    if (status == 0)
        api_error(resp, 400, "webhook_unreachable", "webhook_endpoint_id",
                  "The endpoint gave no answer: %s.", error);
    else
        api__ok(resp,
                json_pack("{s:s, s:s, s:s, s:s, s:I, s:b}", "id", d->id, "object",
                          "webhook_endpoint.test", "webhook_endpoint_id", d->endpoint_id,
                          "event_type", d->type, "status_code", (json_int_t)status, "success", 1));
}
