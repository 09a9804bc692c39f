/* store_webhooks: endpoints that are told when a job ends, and what is still to be told. */
#include "storage/store_webhooks.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"
#include "storage/store_internal.h"

#define SECRET_BYTES 32
#define KEPT_SECONDS (30 * 86400) /* a delivery that is over */
#define ENDPOINT                                                                                   \
    "id, project, url, created_at, disabled_at, disabled_reason, name, events, updated_at, "       \
    "substr(secret, -4)"
#define DELIVERY                                                                                   \
    "d.id, e.id, d.event_id, e.url, e.secret, "                                                    \
    "CASE WHEN e.old_secret_until > unixepoch() THEN e.old_secret END, d.type, d.object_id, "      \
    "d.error, d.created_at, d.next_at, d.attempts, d.http_status, d.status"

const char *const webhook_event_names[WEBHOOK_EVENTS] = {
    "fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"};

void webhook_row_clear(struct webhook_row *w) {
    free(w->project);
    free(w->name);
    free(w->url);
    free(w->disabled_reason);
    *w = (struct webhook_row){0};
}

void delivery_row_clear(struct delivery_row *d) {
    if (d->secret != NULL)
        sodium_memzero(d->secret, strlen(d->secret));
    if (d->old_secret != NULL)
        sodium_memzero(d->old_secret, strlen(d->old_secret));
    free(d->url);
    free(d->secret);
    free(d->old_secret);
    free(d->type);
    free(d->object_id);
    free(d->error);
    *d = (struct delivery_row){0};
}

bool delivery_is_test(const struct delivery_row *d) {
    return strcmp(d->object_id, d->endpoint_id) == 0;
}

static void read_endpoint(sqlite3_stmt *q, struct webhook_row *w) {
    *w = (struct webhook_row){
        .project = store__text(q, 1),
        .url = store__text(q, 2),
        .created_at = sqlite3_column_int64(q, 3),
        .disabled_at = sqlite3_column_int64(q, 4),
        .disabled_reason = store__text(q, 5),
        .name = store__text(q, 6),
        .events = (unsigned)sqlite3_column_int(q, 7),
        .updated_at = sqlite3_column_int64(q, 8),
    };
    store__id(q, 0, w->id);
    char *end = store__text(q, 9);
    (void)snprintf(w->secret_end, sizeof w->secret_end, "%s", end);
    free(end);
}

static void read_delivery(sqlite3_stmt *q, struct delivery_row *d) {
    *d = (struct delivery_row){
        .url = store__text(q, 3),
        .secret = store__text(q, 4),
        .old_secret = store__text(q, 5),
        .type = store__text(q, 6),
        .object_id = store__text(q, 7),
        .error = store__text(q, 8),
        .created_at = sqlite3_column_int64(q, 9),
        .next_at = sqlite3_column_int64(q, 10),
        .attempts = sqlite3_column_int64(q, 11),
        .http_status = sqlite3_column_int64(q, 12),
        .status = (enum delivery_status)sqlite3_column_int(q, 13),
    };
    store__id(q, 0, d->id);
    store__id(q, 1, d->endpoint_id);
    store__id(q, 2, d->event_id);
}

/* ---- endpoints ------------------------------------------------------------------------------ */

static void make_secret(char secret[WEBHOOK_SECRET_SIZE]) {
    unsigned char random[SECRET_BYTES];
    char text[sodium_base64_ENCODED_LEN(SECRET_BYTES, sodium_base64_VARIANT_ORIGINAL)];
    randombytes_buf(random, sizeof random);
    sodium_bin2base64(text, sizeof text, random, sizeof random, sodium_base64_VARIANT_ORIGINAL);
    (void)snprintf(secret, WEBHOOK_SECRET_SIZE, "whsec_%s", text);
    sodium_memzero(random, sizeof random);
    sodium_memzero(text, sizeof text);
}

static enum err no_endpoint(const char *id, struct err_msg *em) {
    return err_set(em, ERR_NOT_FOUND, "No such webhook endpoint: %s", id);
}

/* http or https, a host, no name and password in it, nothing but printable ASCII. */
static enum err check_url(const char *url, struct err_msg *em) {
    size_t head = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
    size_t host = strcspn(url + head, "/?");
    bool plain = strlen(url) <= LIMIT_WEBHOOK_URL && strpbrk(url, "#\\\"<>") == NULL;
    for (const char *p = url; *p != '\0'; p++)
        plain = plain && *p > ' ' && *p < 0x7f;
    if (head == 0 || host == 0 || url[head] == ':' || !plain ||
        memchr(url + head, '@', host) != NULL)
        return err_set_param(em, ERR_INPUT, "url",
                             "url must be like https://host/path, at most %d bytes of ASCII, "
                             "without a user name or a fragment",
                             LIMIT_WEBHOOK_URL);
    return ERR_OK;
}

enum err store_webhook_create(struct store *s, const char *project,
                              const struct webhook_settings *settings,
                              char secret[WEBHOOK_SECRET_SIZE], struct webhook_row *out,
                              struct err_msg *em) {
    int changes = 0;
    *out = (struct webhook_row){0};
    enum err e = check_url(settings->url, em);
    if (e == ERR_OK)
        e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    make_secret(secret);
    store_new_id("whe_", out->id);
    out->project = xstrdup(project);
    out->name = xstrdup(settings->name != NULL ? settings->name : "");
    out->url = xstrdup(settings->url);
    out->events = settings->events != 0 ? settings->events : WEBHOOK_ALL;
    out->created_at = out->updated_at = clock_unix();
    (void)snprintf(out->secret_end, sizeof out->secret_end, "%s", secret + strlen(secret) - 4);
    e = store__run(s, em, &changes,
                   "INSERT INTO webhook_endpoints(id, project, url, secret, created_at, "
                   "updated_at, name, events) SELECT ?1, ?2, ?3, ?4, ?5, ?5, ?7, ?8 WHERE "
                   "(SELECT count(*) FROM webhook_endpoints WHERE project = ?2) < ?6",
                   "ssssiisi", out->id, project, out->url, secret, out->created_at,
                   (int64_t)LIMIT_WEBHOOKS, out->name, (int64_t)out->events);
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_LIMIT, "a project can have at most %d webhook endpoints",
                    LIMIT_WEBHOOKS);
    e = store__end(s, e, em);
    if (e != ERR_OK) {
        webhook_row_clear(out);
        sodium_memzero(secret, WEBHOOK_SECRET_SIZE);
    }
    return e;
}

enum err store_webhook_update(struct store *s, const char *project, const char *id,
                              const struct webhook_settings *settings, struct err_msg *em) {
    int changes = 0;
    enum err e = settings->url != NULL ? check_url(settings->url, em) : ERR_OK;
    if (e == ERR_OK)
        e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, &changes,
                   "UPDATE webhook_endpoints SET name = ifnull(?3, name), url = ifnull(?4, url), "
                   "events = ifnull(nullif(?5, 0), events), "
                   "disabled_at = iif(?4 IS NULL, disabled_at, 0), "
                   "disabled_reason = iif(?4 IS NULL, disabled_reason, NULL), "
                   "updated_at = iif((name, url, events) IS (ifnull(?3, name), ifnull(?4, url), "
                   "ifnull(nullif(?5, 0), events)) AND (disabled_at = 0 OR ?4 IS NULL), "
                   "updated_at, ?6) WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                   "ssssii", id, project, settings->name, settings->url, (int64_t)settings->events,
                   clock_unix());
    if (e == ERR_OK && changes == 0)
        e = no_endpoint(id, em);
    return store__end(s, e, em);
}

enum err store_webhook_list(struct store *s, const char *project, struct webhook_row **rows, int *n,
                            struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = true;
    *rows = NULL;
    *n = 0;
    enum err e = project != NULL
                     ? store__query(s, em, &q,
                                    "SELECT " ENDPOINT " FROM webhook_endpoints "
                                    "WHERE project = ?1 ORDER BY seq",
                                    "s", project)
                     : store__query(s, em, &q,
                                    "SELECT " ENDPOINT " FROM webhook_endpoints ORDER BY seq", "");
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_endpoint(q, &(*rows)[(*n)++]);
    }
    if (e != ERR_OK) {
        for (int i = 0; i < *n; i++)
            webhook_row_clear(&(*rows)[i]);
        free(*rows);
        *rows = NULL;
        *n = 0;
    }
    return e;
}

enum err store_webhook_get(struct store *s, const char *project, const char *id,
                           struct webhook_row *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *out = (struct webhook_row){0};
    enum err e = store__one(s, em, &q,
                            "SELECT " ENDPOINT " FROM webhook_endpoints "
                            "WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                            "ss", id, project);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? no_endpoint(id, em) : e;
    read_endpoint(q, out);
    sqlite3_reset(q);
    return ERR_OK;
}

enum err store_webhook_delete(struct store *s, const char *project, const char *id,
                              struct err_msg *em) {
    int changes = 0;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, &changes,
                   "DELETE FROM webhook_endpoints WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                   "ss", id, project);
    if (e == ERR_OK && changes == 0)
        e = no_endpoint(id, em);
    return store__end(s, e, em);
}

enum err store_webhook_rotate(struct store *s, const char *project, const char *id,
                              int64_t old_until, char secret[WEBHOOK_SECRET_SIZE],
                              struct err_msg *em) {
    int changes = 0;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    make_secret(secret);
    e = store__run(s, em, &changes,
                   "UPDATE webhook_endpoints SET old_secret = secret, old_secret_until = ?3, "
                   "secret = ?4, updated_at = ?5 WHERE id = ?1 AND (?2 IS NULL OR project = ?2)",
                   "ssisi", id, project, old_until, secret, clock_unix());
    if (e == ERR_OK && changes == 0)
        e = no_endpoint(id, em);
    e = store__end(s, e, em);
    if (e != ERR_OK)
        sodium_memzero(secret, WEBHOOK_SECRET_SIZE);
    return e;
}

enum err store_webhook_disable(struct store *s, const char *id, const char *reason,
                               struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, NULL,
                   "UPDATE webhook_endpoints SET disabled_at = ?2, disabled_reason = ?3 "
                   "WHERE id = ?1 AND disabled_at = 0",
                   "sis", id, clock_unix(), reason);
    if (e == ERR_OK)
        e = store__run(s, em, NULL,
                       "UPDATE webhook_deliveries SET status = 2, error = 'the endpoint was "
                       "disabled' WHERE status = 0 AND endpoint_seq = "
                       "(SELECT seq FROM webhook_endpoints WHERE id = ?1)",
                       "s", id);
    return store__end(s, e, em);
}

/* ---- deliveries ----------------------------------------------------------------------------- */

enum err store_webhook_test(struct store *s, const char *project, const char *id, const char *type,
                            char delivery_id[STORE_ID_SIZE], struct err_msg *em) {
    char event_id[STORE_ID_SIZE];
    int changes = 0;
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    store_new_id("wh_", delivery_id);
    store_new_id("evt_", event_id);
    e = store__run(s, em, &changes,
                   "INSERT INTO webhook_deliveries(id, endpoint_seq, event_id, type, object_id, "
                   "created_at, next_at) SELECT ?3, seq, ?4, ?6, id, ?5, ?5 "
                   "FROM webhook_endpoints WHERE id = ?1 AND (?2 IS NULL OR project = ?2) "
                   "AND disabled_at = 0",
                   "ssssis", id, project, delivery_id, event_id, clock_unix(), type);
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_NOT_FOUND, "No webhook endpoint %s is in use", id);
    return store__end(s, e, em);
}

static enum err read_deliveries(struct store *s, sqlite3_stmt *q, struct delivery_row **rows,
                                int *n, struct err_msg *em) {
    enum err e;
    bool row = true;
    while ((e = store__next(s, q, &row, em)) == ERR_OK && row) {
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_delivery(q, &(*rows)[(*n)++]);
    }
    if (e == ERR_OK)
        return e;
    for (int i = 0; i < *n; i++)
        delivery_row_clear(&(*rows)[i]);
    free(*rows);
    *rows = NULL;
    *n = 0;
    return e;
}

enum err store_delivery_list(struct store *s, const char *project, const char *endpoint, int status,
                             int most, struct delivery_row **rows, int *n, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *rows = NULL;
    *n = 0;
    enum err e = store__query(s, em, &q,
                              "SELECT " DELIVERY " FROM webhook_deliveries d "
                              "JOIN webhook_endpoints e ON e.seq = d.endpoint_seq "
                              "WHERE (?1 IS NULL OR e.project = ?1) AND (?2 IS NULL OR e.id = ?2) "
                              "AND (?3 < 0 OR d.status = ?3) ORDER BY d.seq DESC LIMIT ?4",
                              "ssii", project, endpoint, (int64_t)status, (int64_t)most);
    return e == ERR_OK ? read_deliveries(s, q, rows, n, em) : e;
}

enum err store_delivery_again(struct store *s, const char *project, const char *id,
                              struct err_msg *em) {
    struct delivery_row d;
    int changes = 0;
    enum err e = store_delivery_get(s, project, id, &d, em);
    delivery_row_clear(&d);
    if (e == ERR_OK)
        e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, &changes,
                   "UPDATE webhook_deliveries SET status = 0, attempts = 0, http_status = 0, "
                   "error = NULL, next_at = ?2 WHERE id = ?1 AND endpoint_seq IN "
                   "(SELECT seq FROM webhook_endpoints WHERE disabled_at = 0)",
                   "si", id, clock_unix());
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_CONFLICT, "the endpoint of %s is disabled", id);
    return store__end(s, e, em);
}

enum err store_delivery_due(struct store *s, int64_t now, struct delivery_row **rows, int *n,
                            struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *rows = NULL;
    *n = 0;
    /* Most of the time nothing is due, which one seek finds out. */
    enum err e = store__one(
        s, em, &q, "SELECT 1 FROM webhook_deliveries WHERE status = 0 AND next_at <= ?1 LIMIT 1",
        "i", now);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_OK : e;
    sqlite3_reset(q);
    e = store__query(s, em, &q,
                     "SELECT " DELIVERY " FROM webhook_endpoints e JOIN webhook_deliveries d "
                     "ON d.seq = (SELECT seq FROM webhook_deliveries WHERE endpoint_seq = e.seq "
                     "AND status = 0 AND next_at <= ?1 ORDER BY next_at LIMIT 1) "
                     "WHERE e.disabled_at = 0",
                     "i", now);
    return e == ERR_OK ? read_deliveries(s, q, rows, n, em) : e;
}

enum err store_delivery_get(struct store *s, const char *project, const char *id,
                            struct delivery_row *out, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    *out = (struct delivery_row){0};
    enum err e = store__one(s, em, &q,
                            "SELECT " DELIVERY " FROM webhook_deliveries d "
                            "JOIN webhook_endpoints e ON e.seq = d.endpoint_seq "
                            "WHERE d.id = ?1 AND (?2 IS NULL OR e.project = ?2)",
                            "ss", id, project);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? err_set(em, ERR_NOT_FOUND, "No such webhook delivery: %s", id)
                                  : e;
    read_delivery(q, out);
    sqlite3_reset(q);
    return ERR_OK;
}

enum err store_delivery_attempted(struct store *s, const char *id, enum delivery_status status,
                                  int64_t next_at, int64_t http_status, const char *error,
                                  struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    e = store__run(s, em, NULL,
                   "UPDATE webhook_deliveries SET status = ?2, next_at = ?3, http_status = ?4, "
                   "error = ?5, attempts = attempts + 1 WHERE id = ?1 AND status = 0",
                   "siiis", id, (int64_t)status, next_at, http_status, error);
    if (e == ERR_OK)
        e = store__run(s, em, NULL,
                       "DELETE FROM webhook_deliveries WHERE status > 0 AND created_at < ?1", "i",
                       clock_unix() - KEPT_SECONDS);
    return store__end(s, e, em);
}
