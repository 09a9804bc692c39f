/* webhooks: tells endpoints about jobs that ended. */
#include "server/webhooks.h"

#include <jansson.h>
#include <microhttpd.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/http.h"
#include "server/post.h"
#include "server/request.h"
#include "server/server.h"
#include "server/webhook_sign.h"
#include "storage/store_webhooks.h"

#define LOOK_MS 500
#define HOLD_SECONDS 60 /* after the database would not take an outcome */
#define LONGEST_WAIT 86400
#define GONE 410

struct webhooks {
    struct server *server;
    struct post *post;
    uv_timer_t timer;
    struct sending *sending;
    struct waiter *waiters;
    double hold_until;
};

/* A request that waits for a delivery's first attempt. */
struct waiter {
    struct waiter *next;
    struct request *request;
    char delivery_id[STORE_ID_SIZE];
    double until;
};

struct sending {
    struct sending *next;
    struct webhooks *webhooks;
    struct delivery_row delivery;
};

int64_t webhooks_delay(int64_t attempts, uint32_t random) {
    /* The schedule that the Standard Webhooks specification recommends. */
    static const int64_t schedule[WEBHOOK_ATTEMPTS - 1] = {5,     300,   1800,  7200, 18000,
                                                           36000, 50400, 72000, 86400};
    int64_t last = WEBHOOK_ATTEMPTS - 2, at = attempts < 1 ? 0 : attempts - 1;
    int64_t delay = schedule[at > last ? last : at];
    return delay + (int64_t)(random % (uint32_t)(delay / 5 + 1));
}

/* ---- outcome -------------------------------------------------------------------------------- */

static enum err record(struct webhooks *w, const struct delivery_row *d,
                       const struct post_result *r, struct err_msg *em) {
    struct store *store = w->server->store;
    char text[192];
    int64_t attempts = d->attempts + 1, now = clock_unix();
    if (r->status >= 200 && r->status < 300)
        return store_delivery_attempted(store, d->id, DELIVERY_DONE, now, r->status, NULL, em);
    if (r->error[0] != '\0')
        (void)snprintf(text, sizeof text, "%s", r->error);
    else
        (void)snprintf(text, sizeof text, "the endpoint answered %lld%s", (long long)r->status,
                       r->status >= 300 && r->status < 400 ? "; redirects are not followed" : "");
    bool over = attempts >= WEBHOOK_ATTEMPTS || r->status == GONE || delivery_is_test(d);
    int64_t delay = webhooks_delay(attempts, randombytes_random());
    int64_t asked = r->retry_after < LONGEST_WAIT ? r->retry_after : LONGEST_WAIT;
    enum err e =
        store_delivery_attempted(store, d->id, over ? DELIVERY_FAILED : DELIVERY_PENDING,
                                 now + (asked > delay ? asked : delay), r->status, text, em);
    log_warn("webhook.failed", "id=%s endpoint=%s attempt=%lld status=%lld error=%s", d->id,
             d->endpoint_id, (long long)attempts, (long long)r->status, text);
    if (e == ERR_OK && r->status == GONE)
        e = store_webhook_disable(store, d->endpoint_id, "the endpoint answered 410 Gone", em);
    return e;
}

/* ---- requests that wait --------------------------------------------------------------------- */

/* The request's `late` is filled. */
static void waiter_end(struct webhooks *w, struct waiter *waiter) {
    struct request *r = waiter->request;
    for (struct waiter **p = &w->waiters; *p != NULL; p = &(*p)->next)
        if (*p == waiter) {
            *p = waiter->next;
            break;
        }
    free(waiter);
    r->is_late = true;
    r->suspended = false;
    MHD_resume_connection(r->mhd);
    http_wake(r->http);
}

static void tell_waiter(struct webhooks *w, const struct delivery_row *d,
                        const struct post_result *result) {
    for (struct waiter *waiter = w->waiters; waiter != NULL; waiter = waiter->next)
        if (strcmp(waiter->delivery_id, d->id) == 0) {
            api_delivery_answer(d, result->status, result->error, &waiter->request->late);
            waiter_end(w, waiter);
            return;
        }
}

static void end_late_waiters(struct webhooks *w) {
    for (struct waiter *waiter = w->waiters, *next; waiter != NULL; waiter = next) {
        next = waiter->next;
        if (clock_mono() < waiter->until)
            continue;
        api_error(&waiter->request->late, 400, "webhook_busy", "webhook_endpoint_id",
                  "The endpoint is still sent other events; the sample event comes after them.");
        waiter_end(w, waiter);
    }
}

bool webhooks_busy(const struct webhooks *w) {
    return w->waiters != NULL;
}

void webhooks_quiesce(struct webhooks *w) {
    while (w->waiters != NULL) {
        api_error(&w->waiters->request->late, 503, "shutting_down", NULL,
                  "The server is shutting down.");
        waiter_end(w, w->waiters);
    }
}

/* ---- sending -------------------------------------------------------------------------------- */

static void sending_free(struct sending *s) {
    for (struct sending **p = &s->webhooks->sending; *p != NULL; p = &(*p)->next)
        if (*p == s) {
            *p = s->next;
            break;
        }
    delivery_row_clear(&s->delivery);
    free(s);
}

static void look(struct webhooks *w);

static void on_done(void *arg, const struct post_result *result) {
    struct sending *s = arg;
    struct webhooks *w = s->webhooks;
    struct err_msg em = ERR_MSG_INIT;
    if (record(w, &s->delivery, result, &em) != ERR_OK) {
        log_error("webhook.record", "id=%s error=%s", s->delivery.id, em.text);
        w->hold_until = clock_mono() + HOLD_SECONDS;
    } else if (result->status >= 200 && result->status < 300) {
        log_info("webhook.sent", "id=%s endpoint=%s type=%s object=%s", s->delivery.id,
                 s->delivery.endpoint_id, s->delivery.type, s->delivery.object_id);
    }
    tell_waiter(w, &s->delivery, result);
    sending_free(s);
    look(w);
}

static char *body_of(const struct delivery_row *d) {
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:I, s:{s:s}}", "object", "event", "id", d->event_id, "type",
                  d->type, "created_at", (json_int_t)d->created_at, "data", "id", d->object_id);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text != NULL ? text : xstrdup("{}");
}

static char *signature_header(const struct delivery_row *d, int64_t now, const char *body) {
    char mac[WEBHOOK_SIGNATURE_SIZE], old[WEBHOOK_SIGNATURE_SIZE] = "";
    webhook_sign(d->secret, d->id, now, body, mac);
    if (d->old_secret != NULL)
        webhook_sign(d->old_secret, d->id, now, body, old);
    return xasprintf("webhook-signature: %s%s%s", mac, old[0] != '\0' ? " " : "", old);
}

static enum err send_one(struct webhooks *w, struct sending *s, struct err_msg *em) {
    const struct delivery_row *d = &s->delivery;
    int64_t now = clock_unix();
    char *body = body_of(d);
    char *id = xasprintf("webhook-id: %s", d->id);
    char *timestamp = xasprintf("webhook-timestamp: %lld", (long long)now);
    char *signature = signature_header(d, now, body);
    const char *headers[] = {"Content-Type: application/json", "User-Agent: ffwd-webhooks", id,
                             timestamp, signature};
    enum err e = post_send(w->post, d->url, headers, 5, body, on_done, s, em);
    free(signature);
    free(timestamp);
    free(id);
    free(body);
    return e;
}

static bool is_sending_to(const struct webhooks *w, const char *endpoint_id) {
    for (const struct sending *s = w->sending; s != NULL; s = s->next)
        if (strcmp(s->delivery.endpoint_id, endpoint_id) == 0)
            return true;
    return false;
}

/* Takes the row over. */
static void start(struct webhooks *w, struct delivery_row *row) {
    struct err_msg em = ERR_MSG_INIT;
    struct sending *s = xcalloc(1, sizeof *s);
    *s = (struct sending){.next = w->sending, .webhooks = w, .delivery = *row};
    *row = (struct delivery_row){0};
    w->sending = s;
    if (send_one(w, s, &em) == ERR_OK)
        return;
    log_error("webhook.send", "error=%s", em.text);
    w->hold_until = clock_mono() + HOLD_SECONDS;
    sending_free(s);
}

static void look(struct webhooks *w) {
    struct err_msg em = ERR_MSG_INIT;
    struct delivery_row *rows = NULL;
    int n = 0;
    if (w->server->stopping || clock_mono() < w->hold_until)
        return;
    if (store_delivery_due(w->server->store, clock_unix(), &rows, &n, &em) != ERR_OK) {
        log_error("webhook.look", "error=%s", em.text);
        w->hold_until = clock_mono() + HOLD_SECONDS;
    }
    for (int i = 0; i < n; i++) {
        if (!is_sending_to(w, rows[i].endpoint_id))
            start(w, &rows[i]);
        delivery_row_clear(&rows[i]);
    }
    free(rows);
}

void webhooks_wait(struct webhooks *w, struct request *r, const char *delivery_id) {
    struct waiter *waiter = xcalloc(1, sizeof *waiter);
    double seconds = (double)w->server->config->limits.webhook_seconds;
    *waiter =
        (struct waiter){.next = w->waiters, .request = r, .until = clock_mono() + 2 * seconds + 1};
    (void)snprintf(waiter->delivery_id, sizeof waiter->delivery_id, "%s", delivery_id);
    w->waiters = waiter;
    r->suspended = true;
    MHD_suspend_connection(r->mhd);
    look(w);
}

static void on_timer(uv_timer_t *timer) {
    end_late_waiters(timer->data);
    look(timer->data);
}

/* ---- life ----------------------------------------------------------------------------------- */

enum err webhooks_open(struct server *s, struct webhooks **out, struct err_msg *em) {
    struct post_rules rules = {.allowed = s->config->webhook_allow,
                               .n_allowed = s->config->n_webhook_allow,
                               .ca_file = s->config->webhook_ca_file,
                               .seconds = s->config->limits.webhook_seconds};
    struct webhooks *w = xcalloc(1, sizeof *w);
    w->server = s;
    enum err e = post_open(&s->loop, &rules, &w->post, em);
    if (e != ERR_OK) {
        free(w);
        return e;
    }
    (void)uv_timer_init(&s->loop, &w->timer);
    w->timer.data = w;
    (void)uv_timer_start(&w->timer, on_timer, 0, LOOK_MS);
    *out = w;
    return ERR_OK;
}

void webhooks_close(struct webhooks *w) {
    post_close(w->post);
    while (w->sending != NULL)
        sending_free(w->sending);
    uv_close((uv_handle_t *)&w->timer, NULL);
}

void webhooks_free(struct webhooks *w) {
    free(w);
}
