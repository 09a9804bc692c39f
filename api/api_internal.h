/* api_internal: what the resources of the api share; nobody else includes it.
 *
 * What:    reading of requests (JSON body, page, numbers), building of answers, the handlers named
 *          by the route table, and pieces of one resource that another needs.
 * Owns:    nothing.
 * Threads: the loop thread only.
 * Errors:  a function that returns bool has filled *resp with the error when it returns false.
 */
#ifndef FFWD_API_API_INTERNAL_H
#define FFWD_API_API_INTERNAL_H

#include "api/api.h"
#include "base/job_request.h"
#include "storage/store_uploads.h"

/* Between the name of a fine-tuned model and the step of one of its checkpoints. */
#define API_CHECKPOINT_MARK ":ckpt-step-"

/* ---- requests and answers (api.c) ----------------------------------------------------------- */

/* The JSON object of the body (new reference), or NULL. */
json_t *api__body(const struct api_request *req, struct api_response *resp);
/* Whether an SDK says that it sends the request again (x-stainless-retry-count above 0). */
bool api__is_repeat(const struct api_request *req);
/* Reads the body into *out, as json_table_read does. */
bool api__read(const struct api_request *req, const struct json_table *t, void *out,
               struct api_response *resp);
/* Query `limit` (1…LIMIT_PAGE) and `after`; newest first. */
bool api__page(const struct api_request *req, int64_t default_limit, struct page *page,
               struct api_response *resp);
/* Query flag: true, false, 1, 0; absent is false. */
bool api__flag(const struct api_request *req, const char *name, bool *out,
               struct api_response *resp);
/* A whole decimal number from lo to hi, else false. */
bool api__integer(const char *text, int64_t lo, int64_t hi, int64_t *out);
/* 200 with a body; json_take is taken over. */
void api__ok(struct api_response *resp, json_t *json_take);
/* {"object":"list","data":data_take,"has_more":more}, and first_id and last_id if ids: "" or JSON
 * null for an empty list as `empty` says (taken over). */
json_t *api__list(json_t *data_take, bool more, json_t *empty_id_take);
/* 200 with what was written; of_store: all of it was read from the store. */
void api__ok_text(struct api_response *resp, struct json_text *w, bool of_store);
/* The same list written as text, around its rows: {"object":"list","data":[ … ],"has_more":more};
 * max: of all its bytes. */
void api__list_begin(struct json_text *w, size_t max);
/* Whether the page has its LIMIT_PAGE_BYTES; a page without rows has not. */
bool api__list_is_full(const struct json_text *w);
void api__list_end(struct json_text *w, bool more);
/* NULL becomes JSON null; what is not UTF-8 becomes '?'. */
json_t *api__string(const char *text);

/* "server_error", "rate_limit_error" or "invalid_request_error" */
const char *api__error_type(int status);

void api__jobs_changed(struct api *api);
void api__job_cancel(struct api *api, const char *job_id);
void api__job_pause(struct api *api, const char *job_id);
void api__events_added(struct api *api, const char *job_id);

/* ---- across resources ----------------------------------------------------------------------- */

json_t *api__file_json(const struct file_row *f);
/* Where the same content is stored already, makes f->id a second name of it; else false. */
bool api__file_link_same(struct api *api, const struct file_row *f);
/* Purposes that a client may give a file. */
enum { API_FILE_PURPOSES = 5 };
extern const char *const api__file_purposes[API_FILE_PURPOSES];
#define API_MAX_BYTES 9007199254740991 /* that a double, and so every client, can say */
#define API_EXPIRY_MIN 3600            /* seconds of expires_after */
#define API_EXPIRY_MAX 2592000
/* A file's name is for people only; its place on disk comes from its id. New string; NULL: *resp
 * says why not, and names param. */
char *api__display_name(const char *name, const char *param, struct api_response *resp);
/* Whether the project may store so many bytes more; false: *resp says why not. */
bool api__room_for(struct api *api, const char *project, int64_t bytes, struct api_response *resp);
/* An upload of the request's project that takes parts and can be completed or cancelled. */
bool api__upload_open(struct api *api, const struct api_request *req, const char *id,
                      struct upload_row *out, struct api_response *resp);
bool api__upload_is_busy(const struct api *api, const char *id);
/* file NULL: none. */
json_t *api__upload_json(const struct upload_row *u, const struct file_row *file);

/* A job of the request's project; false: *resp is the 404. */
bool api__job(struct api *api, const struct api_request *req, const char *id, struct job_row *out,
              struct api_response *resp);
/* Whether one more job of the project may wait; false: *resp is the 429. */
bool api__queue_has_room(struct api *api, const char *project, struct api_response *resp);
/* The 404 of a job that was not found, or another error. */
void api__job_refuse(struct api_response *resp, const char *id, const struct err_msg *em);
/* The object of one job, with what checking its files found under ffwd.data if whole: lists leave
 * it out. Under "ffwd" it shows of job->progress: step, total_steps, tokens, seconds, flops (a
 * number, or {"training","fast_forward"}), fast_forward (an object of totals) and device; all may
 * be absent. */
void api__job_write(struct json_text *w, const struct job_text *job, bool whole);
/* Ends the keeping of their texts. */
void api__forget_jobs(struct api *api);
/* 200 with the whole object as it is now, or an error. */
void api__job_answer(struct api *api, const char *project, const char *id,
                     struct api_response *resp);
/* The lora settings a fine-tuned model was made with: those of the first job of its line. */
enum err api__model_lora(struct store *s, const char *model, struct job_request *out,
                         struct err_msg *em) NODISCARD;
/* The job of a fine-tuned model or checkpoint that exists and that the project may use, and the
 * folder of its adapter (new string). ERR_NOT_FOUND with param "model": *job is clear. */
enum err api__model_open(const struct api_config *config, struct store *s, const char *project,
                         const char *name, struct job_row *job, char **folder,
                         struct err_msg *em) NODISCARD;
/* Is this the name of a fine-tuned model? */
bool api__model_is_tuned(const char *model);

/* ---- openapi.json --------------------------------------------------------------------------- */

/* The bodies of requests; job_request_table is another one. */
extern const struct json_table api__upload_create_table, api__upload_complete_table,
    api__permission_create_table, api__webhook_create_table, api__webhook_update_table,
    api__webhook_rotate_table, api__webhook_test_table, api__job_update_table;

/* ---- handlers ------------------------------------------------------------------------------- */

#define API_HANDLER(name)                                                                          \
    void name(struct api *api, const struct api_request *req, const struct api_params *params,     \
              struct api_response *resp)

/* Answers a create request with dry_run later: resp->check is set, or an error. */
void api__dry_run(struct api *api, const struct api_request *req, const json_t *body,
                  const struct job_request *request, struct api_response *resp);

API_HANDLER(api__files_create);
API_HANDLER(api__files_list);
API_HANDLER(api__files_get);
API_HANDLER(api__files_delete);
API_HANDLER(api__files_content);
API_HANDLER(api__uploads_create);
API_HANDLER(api__uploads_add_part);
API_HANDLER(api__uploads_complete);
API_HANDLER(api__uploads_cancel);
API_HANDLER(api__jobs_create);
API_HANDLER(api__jobs_list);
API_HANDLER(api__jobs_get);
API_HANDLER(api__jobs_cancel);
API_HANDLER(api__jobs_pause);
API_HANDLER(api__jobs_resume);
API_HANDLER(api__jobs_update);
API_HANDLER(api__jobs_plot);
API_HANDLER(api__events_list);
API_HANDLER(api__checkpoints_list);
API_HANDLER(api__adapter_tar);
API_HANDLER(api__adapter_file);
API_HANDLER(api__models_list);
API_HANDLER(api__models_get);
API_HANDLER(api__models_delete);
API_HANDLER(api__permissions_list);
API_HANDLER(api__permissions_create);
API_HANDLER(api__permissions_delete);
API_HANDLER(api__webhooks_create);
API_HANDLER(api__webhooks_list);
API_HANDLER(api__webhooks_get);
API_HANDLER(api__webhooks_delete);
API_HANDLER(api__webhooks_rotate);
API_HANDLER(api__webhooks_test);
API_HANDLER(api__webhooks_update);
API_HANDLER(api__webhooks_event_types);
API_HANDLER(api__system_health);
API_HANDLER(api__system_ready);
API_HANDLER(api__system_metrics);
API_HANDLER(api__system_openapi);

#endif
