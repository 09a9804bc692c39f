/* api: the HTTP resources as plain functions from request to response.
 *
 * What:    a route table; one file per resource; object shapes and the error envelope of the OpenAI
 *          contract. No sockets and no event loop: a handler never blocks on a client.
 * Owns:    struct api borrows store and configuration; a response owns what it carries.
 * Threads: the loop thread only.
 * Errors:  every failure is a response with {"error":{"message","type","param","code"}}.
 */
#ifndef FFWD_API_API_H
#define FFWD_API_API_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "storage/blobs.h"
#include "storage/store.h"

#define API_ORGANIZATION "org-ffwd"

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_PATCH,
    HTTP_DELETE,
    HTTP_OPTIONS,
    HTTP_OTHER
};

struct api_pair {
    const char *name, *value;
};

/* A multipart body, already spooled by the server while it came in. */
struct api_form {
    const struct api_pair *fields; /* text fields, UTF-8 */
    int n_fields;
    struct spool
        *file; /* NULL: the form had no file part; taken over by a handler that publishes it */
    const char *filename; /* as the client sent it; "" if none */
};

struct api_request {
    enum http_method method;
    const char *path;             /* raw, still percent-encoded, without the query */
    const struct api_pair *query; /* decoded */
    int n_query;
    const struct api_pair *headers; /* names lower-case */
    int n_headers;
    const char *project; /* of the key; "default" without keys */
    const char *body;    /* JSON body, NUL-terminated, or NULL */
    size_t body_len;
    struct api_form *form; /* multipart, or NULL */
};
const char *api_query(const struct api_request *r, const char *name);  /* NULL: absent */
const char *api_header(const struct api_request *r, const char *name); /* NULL: absent */

enum api_body {
    API_BODY_JSON,
    API_BODY_TEXT,
    API_BODY_FILE,
    API_BODY_TAR,
    API_BODY_EVENTS,
    API_BODY_EMPTY
};

struct api;
struct api_response;

/* Work that would hold up the loop thread. A handler leaves it in its response; the server runs it
 * elsewhere and answers then. It lies at the beginning of a struct of the resource's own. */
struct api_work {
    void (*run)(struct api_work *); /* on any thread: touches nothing but this work */
    /* On the loop thread, also if run was never called because the server stops: fills the response
     * and frees the work, or leaves the work in it for another round. */
    void (*done)(struct api *, struct api_work *, struct api_response *);
    atomic_bool stop; /* set while run is at it: come back soon */
    struct api_work *next;
};

/* Files to be checked by the engine, in a process of its own, while the request waits. */
struct api_check {
    char *model_dir, *base; /* base: name of the base model */
    char *train, *valid;    /* paths; valid NULL: none */
    json_t *request;        /* see api_check_request */
    json_t *answer;         /* the answer as far as it is known */
};
void api_check_free(struct api_check *c);
/* The answer to the request: report is what the engine found ({"training","validation","estimate"},
 * borrowed), or NULL where e and em say why there is none. */
void api_check_answer(struct api_check *c, enum err e, const struct err_msg *em,
                      const json_t *report, struct api_response *resp);
/* What the engine needs to know of a create request: hyperparameters, lora (of a fine-tuned model,
 * its own), fast_forward, training. New reference. */
enum err api_check_request(struct store *s, const char *model, const json_t *body, json_t **out,
                           struct err_msg *em) NODISCARD;

struct delivery_row;
/* The answer to the request that made a delivery, a test. status: what the endpoint answered; 0:
 * nothing, and `error` says why. */
void api_delivery_answer(const struct delivery_row *d, int64_t status, const char *error,
                         struct api_response *resp);

struct api_response {
    int status; /* 0 as long as there is `work`, `check` or `delivery` */
    struct api_work *work;
    struct api_check *check;
    char delivery[STORE_ID_SIZE]; /* a webhook whose outcome is the answer; "": none */
    enum api_body kind;
    json_t *json;               /* API_BODY_JSON */
    char *text;                 /* API_BODY_TEXT */
    const char *content_type;   /* static string; NULL: by kind */
    char *path;                 /* API_BODY_FILE: the file; API_BODY_TAR: the folder */
    char *filename;             /* for Content-Disposition, or NULL */
    char *etag;                 /* quoted, or NULL */
    char job_id[STORE_ID_SIZE]; /* API_BODY_EVENTS: stream of this job … */
    int64_t after_seq;          /* … after this event */
    char *allow;                /* 405: methods */
    bool no_retry;              /* send x-should-retry: false */
    bool of_store;              /* all of it was read from the store */
};
void api_response_clear(struct api_response *r);

/* What the server does for the api. */
struct api_hooks {
    void *arg;
    void (*jobs_changed)(void *arg);                     /* a job was added, queued, paused, … */
    void (*job_cancel)(void *arg, const char *job_id);   /* running or validated: end that */
    void (*events_added)(void *arg, const char *job_id); /* wake its readers */
    void (*job_pause)(void *arg, const char *job_id);    /* running: tell its worker */
    char *(*metrics)(void *arg);                         /* /metrics; new string */
};

struct api_config {
    const char *data_dir;
    const char *const *model_roots; /* NULL-terminated */
    int64_t max_file_bytes, max_part_bytes, max_upload_bytes;
    int64_t max_project_bytes; /* that a project may have stored; 0: no limit */
    int64_t upload_seconds;    /* life of an upload that is not completed */
    int64_t max_waiting_jobs;  /* of a project, validated or queued; 0: any number */
    const char *version;
};

struct job_texts;

struct api {
    struct store *store;
    const struct api_config *config;
    const struct api_hooks *hooks;
    bool ready;                  /* /readyz … */
    const char *not_ready;       /* … or, if not NULL, why jobs wait: literals, for clients */
    struct upload_work *uploads; /* uploads that are being completed (api_upload_complete.c) */
    struct job_texts *texts;     /* NULL until a job is shown (api_jobs.c) */
    char *openapi;               /* the document, once it was asked for (api_openapi.c) … */
    bool openapi_keyed;          /* … while there were keys */
};
void api_clear(struct api *api); /* before the store is closed */

enum api_accepts { API_ACCEPTS_NOTHING, API_ACCEPTS_JSON, API_ACCEPTS_FORM };

#define API_MAX_PARAMS 3
struct api_params {
    char *value[API_MAX_PARAMS]; /* decoded path parameters in order */
};

struct api_route {
    enum http_method method;
    const char
        *pattern; /* "/v1/fine_tuning/jobs/{job_id}/events"; "{name...}" takes several segments */
    enum api_accepts accepts;
    bool open; /* no key needed */
    /* resp: zeroed by the caller; afterwards it has a status or work. */
    void (*handle)(struct api *api, const struct api_request *req, const struct api_params *params,
                   struct api_response *resp);
};

/* Finds the route before the body is read, so that the server knows what to accept. NULL: *resp is
 * the 404 or 405 to send. Prefixes /openai/v1 and /openai are the same as /v1. params needs
 * api_params_clear. */
const struct api_route *api_route_find(const struct api_request *req, struct api_params *params,
                                       struct api_response *resp);
void api_params_clear(struct api_params *params);
/* The whole table, for checks and openapi.json. */
const struct api_route *api_routes(int *n);
/* "GET", … */
const char *api_method_name(enum http_method m);

/* What a form may bring, asked before its first byte. */
struct api_form_rule {
    const char *file_part;
    int64_t max_bytes; /* of the file … */
    bool hashed;       /* … whose SHA-256 is wanted */
    char code[32], too_large[160];
};
/* false: *resp says why the request need not bring its body. */
bool api_form_rule(struct api *api, const struct api_request *req, const struct api_route *route,
                   const struct api_params *params, struct api_form_rule *out,
                   struct api_response *resp);

/* Removes files and uploads whose time is over, a bounded number of them; true if there may be
 * more. To be called from time to time. */
bool api_expire(struct api *api);

/* At the start: the work of finishing uploads whose completion a crash interrupted, as a list in
 * `next`. Until a work is done, its upload says that it is busy. */
struct api_work *api_uploads_resume(struct api *api);

/* The error envelope. type is derived from status. code may be NULL, param may be NULL. */
void api_error(struct api_response *resp, int status, const char *code, const char *param,
               const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The same from an err_msg: ERR_INPUT 400, ERR_NOT_FOUND 404, ERR_LIMIT 413, ERR_NO_SPACE 507, … */
void api_error_from(struct api_response *resp, const struct err_msg *em);

/* "ft:BASE:ffwd:SUFFIX:XXXXXXXX", for store_job_succeed; the end is the end of the job's id, so the
 * name is known before the job has succeeded. New string. */
char *api_fine_tuned_model_name(const struct job_row *job);

/* Where the weights of a model name are: what a worker's `run` message needs. */
struct api_model {
    char *base;         /* name of the base model */
    char *dir;          /* its folder */
    char *init_adapter; /* folder of the adapter to go on from, NULL for a base model */
};
/* name: a base model, or a fine-tuned one of the project (or a checkpoint of that). ERR_NOT_FOUND
 * with param "model". *out needs api_model_clear, also when it fails. */
enum err api_model_find(const struct api_config *config, struct store *s, const char *project,
                        const char *name, struct api_model *out, struct err_msg *em) NODISCARD;
void api_model_clear(struct api_model *m);

#endif
