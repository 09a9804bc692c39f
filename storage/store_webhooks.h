/* store_webhooks: endpoints that are told when a job ends, and what is still to be told.
 *
 * What:    a delivery is a row from the moment the job ends (a trigger adds it in the transaction
 *          that ends the job) until it is accepted or given up, so none is lost.
 * Owns:    nothing; rows belong to the caller. Secrets are kept as they are: they sign.
 * Threads: the loop thread only.
 * Errors:  as store.h.
 */
#ifndef FFWD_STORAGE_STORE_WEBHOOKS_H
#define FFWD_STORAGE_STORE_WEBHOOKS_H

#include "storage/store.h"

#define WEBHOOK_OVERLAP_SECONDS 86400 /* that a secret signs after it was replaced */
#define WEBHOOK_SECRET_SIZE 64        /* "whsec_" + base64 of 32 random bytes, and room */

/* What an endpoint can be told, as bits. */
enum webhook_event { WEBHOOK_SUCCEEDED = 1, WEBHOOK_FAILED = 2, WEBHOOK_CANCELLED = 4 };
#define WEBHOOK_EVENTS 3
#define WEBHOOK_ALL 7
extern const char *const webhook_event_names[WEBHOOK_EVENTS]; /* of bit 0, 1, … */

struct webhook_row {
    char id[STORE_ID_SIZE];
    char *project, *name, *url;
    char secret_end[8]; /* its last characters, to tell secrets apart */
    unsigned events;
    int64_t created_at, updated_at, disabled_at; /* disabled_at 0: in use */
    char *disabled_reason;                       /* NULL: in use */
};
void webhook_row_clear(struct webhook_row *w);

/* What its owner says about an endpoint. NULL, 0: nothing. */
struct webhook_settings {
    const char *name, *url;
    unsigned events;
};

/* secret receives "whsec_…", shown once. ERR_INPUT if the url is not one to send to, ERR_LIMIT past
 * LIMIT_WEBHOOKS of a project. */
enum err store_webhook_create(struct store *s, const char *project,
                              const struct webhook_settings *settings,
                              char secret[WEBHOOK_SECRET_SIZE], struct webhook_row *out,
                              struct err_msg *em) NODISCARD;
/* A url, even the same one, puts a disabled endpoint to use again. */
enum err store_webhook_update(struct store *s, const char *project, const char *id,
                              const struct webhook_settings *settings,
                              struct err_msg *em) NODISCARD;
/* project NULL: any, here and below. Oldest first. */
enum err store_webhook_list(struct store *s, const char *project, struct webhook_row **rows, int *n,
                            struct err_msg *em) NODISCARD;
enum err store_webhook_get(struct store *s, const char *project, const char *id,
                           struct webhook_row *out, struct err_msg *em) NODISCARD;
/* Its deliveries go with it. */
enum err store_webhook_delete(struct store *s, const char *project, const char *id,
                              struct err_msg *em) NODISCARD;
/* A new secret; the one before signs as well until old_until. */
enum err store_webhook_rotate(struct store *s, const char *project, const char *id,
                              int64_t old_until, char secret[WEBHOOK_SECRET_SIZE],
                              struct err_msg *em) NODISCARD;
/* Nothing more is sent to it; what waits is given up. */
enum err store_webhook_disable(struct store *s, const char *id, const char *reason,
                               struct err_msg *em) NODISCARD;
/* Adds a delivery of this type about the endpoint itself; its id goes to delivery_id. */
enum err store_webhook_test(struct store *s, const char *project, const char *id, const char *type,
                            char delivery_id[STORE_ID_SIZE], struct err_msg *em) NODISCARD;
#define WEBHOOK_TEST_TYPE "ffwd.webhook.test"

enum delivery_status { DELIVERY_PENDING, DELIVERY_DONE, DELIVERY_FAILED };

struct delivery_row {
    char id[STORE_ID_SIZE]; /* the same in every attempt */
    char endpoint_id[STORE_ID_SIZE], event_id[STORE_ID_SIZE];
    char *url, *secret, *old_secret; /* old_secret NULL: none that still signs */
    char *type, *object_id, *error;  /* error: of the last attempt, or NULL */
    int64_t created_at, next_at, attempts, http_status;
    enum delivery_status status;
};
void delivery_row_clear(struct delivery_row *d);
/* A test is about its endpoint, and is tried once. */
bool delivery_is_test(const struct delivery_row *d);

/* Of each endpoint the delivery that has been due for longest: new array of *n. */
enum err store_delivery_due(struct store *s, int64_t now, struct delivery_row **rows, int *n,
                            struct err_msg *em) NODISCARD;
/* Any delivery by its id. */
enum err store_delivery_get(struct store *s, const char *project, const char *id,
                            struct delivery_row *out, struct err_msg *em) NODISCARD;
/* Newest first, at most `most`; endpoint NULL: of all endpoints, status -1: in any state. */
enum err store_delivery_list(struct store *s, const char *project, const char *endpoint, int status,
                             int most, struct delivery_row **rows, int *n,
                             struct err_msg *em) NODISCARD;
/* Due now, with all attempts before it, whatever came of it. ERR_CONFLICT if its endpoint is
 * disabled. */
enum err store_delivery_again(struct store *s, const char *project, const char *id,
                              struct err_msg *em) NODISCARD;
/* Counts an attempt. http_status 0: no answer; error NULL: it was accepted. */
enum err store_delivery_attempted(struct store *s, const char *id, enum delivery_status status,
                                  int64_t next_at, int64_t http_status, const char *error,
                                  struct err_msg *em) NODISCARD;

#endif
