/* api_upload_complete: POST /v1/uploads/{upload_id}/complete.
 *
 * Two rounds of work away from the loop thread: all parts are read and checked, and nothing has
 * changed until then; then the upload is marked and its parts are joined. A mark outlives a crash:
 * the next start goes on where the work was, and so does the same request again. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"
#include "storage/upload_parts.h"

#define RESUME_MOST 10000 /* uploads at one start */

struct upload_work {
    struct api_work work; /* first */
    struct upload_work *next;
    struct upload_row row;
    char *data_dir;
    json_t *part_ids;          /* as asked; items borrow its strings */
    char *want_md5;            /* NULL: not asked for */
    struct upload_part *items; /* in the file's order */
    size_t n;
    bool joining;
    char md5[MD5_HEX_SIZE], sha256[SHA256_HEX_SIZE];
    enum err result;
    struct err_msg em;
};

bool api__upload_is_busy(const struct api *api, const char *id) {
    for (const struct upload_work *w = api->uploads; w != NULL; w = w->next)
        if (strcmp(w->row.id, id) == 0)
            return true;
    return false;
}

static void work_free(struct upload_work *w) {
    upload_row_clear(&w->row);
    json_decref(w->part_ids);
    free(w->data_dir);
    free(w->want_md5);
    free(w->items);
    free(w);
}

static void work_end(struct api *api, struct upload_work *w) {
    for (struct upload_work **p = &api->uploads; *p != NULL; p = &(*p)->next)
        if (*p == w) {
            *p = w->next;
            break;
        }
    work_free(w);
}

/* ---- the request ---------------------------------------------------------------------------- */

static enum err read_md5(const json_t *value, void *out, const struct json_place *at) {
    struct upload_work *w = out;
    const char *text = json_string_value(value);
    if (text != NULL && text[0] == '\0')
        return ERR_OK;
    if (text == NULL || strlen(text) != MD5_HEX_SIZE - 1 ||
        strspn(text, "0123456789abcdefABCDEF") != MD5_HEX_SIZE - 1)
        return json_field_wrong(at, "the MD5 of the file as 32 hexadecimal digits");
    w->want_md5 = xstrdup(text);
    return ERR_OK;
}

/* clang-format off */
static const struct json_rule body_rules[] = {
    {"part_ids", .kind = JSON_KIND_TEXTS, .lo = 1, .hi = LIMIT_UPLOAD_PARTS, .item_hi = STORE_ID_SIZE - 1,
     .distinct = true, .required = true, .at = offsetof(struct upload_work, part_ids),
     .about = "in the order of the file"},
    {"md5", .kind = JSON_KIND_OWN, .nullable = true, .read = read_md5, .about = "of the whole file",
     .schema = "{'type':'string','pattern':'^([0-9a-fA-F]{32})?$'}"},
};
/* clang-format on */
const struct json_table api__upload_complete_table = {"UploadComplete", body_rules, 2};

static void list_parts(struct upload_work *w) {
    w->n = json_array_size(w->part_ids);
    w->items = xcalloc(w->n, sizeof *w->items);
    for (size_t i = 0; i < w->n; i++)
        w->items[i].id = json_string_value(json_array_get(w->part_ids, i));
}

static enum err check_parts(struct api *api, struct upload_work *w, struct err_msg *em) {
    int64_t total = 0;
    enum err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < w->n; i++) {
        e = store_upload_part_bytes(api->store, w->row.id, w->items[i].id, &w->items[i].bytes, em);
        if (e == ERR_NOT_FOUND)
            e = em->code = ERR_INPUT; /* a wrong field, not a wrong address */
        else if (e == ERR_OK)
            total += w->items[i].bytes;
    }
    if (e == ERR_OK && total != w->row.bytes)
        e = err_set_param(em, ERR_INPUT, "part_ids",
                          "the parts have %lld bytes; the upload was created for %lld",
                          (long long)total, (long long)w->row.bytes);
    return e;
}

/* ---- what a completed upload shows ---------------------------------------------------------- */

static void answer(struct api *api, const struct upload_row *u, struct api_response *resp) {
    struct file_row f;
    bool there = store_file_get(api->store, u->project, u->file_id, &f, NULL) == ERR_OK;
    api__ok(resp, api__upload_json(u, there ? &f : NULL));
    file_row_clear(&f);
}

static void busy(const char *id, struct api_response *resp) {
    api_error(resp, 503, "upload_busy", NULL,
              "Upload %s is being completed; ask again in a moment.", id);
}

/* ---- the work ------------------------------------------------------------------------------- */

static void run(struct api_work *work) {
    struct upload_work *w = (struct upload_work *)work;
    struct upload_parts parts = {
        .data_dir = w->data_dir, .upload_id = w->row.id, .items = w->items, .n = w->n};
    if (w->joining)
        w->result = upload_parts_join(&parts, w->row.file_id, &work->stop, &w->em);
    else
        w->result = upload_parts_check(&parts, &work->stop, w->md5, w->sha256, &w->em);
}

static struct file_row file_of(const struct upload_work *w) {
    int64_t now = clock_unix(), after = w->row.file_expires_after;
    struct file_row f = {.project = w->row.project,
                         .filename = w->row.filename,
                         .purpose = w->row.purpose,
                         .sha256 = w->row.sha256,
                         .bytes = w->row.bytes,
                         .created_at = now,
                         .expires_at = after > 0 ? now + after : 0};
    memcpy(f.id, w->row.file_id, sizeof f.id);
    return f;
}

/* The parts are good: marks the upload, so that they may be moved. */
static enum err begin(struct api *api, struct upload_work *w) {
    if (w->want_md5 != NULL && strcasecmp(w->want_md5, w->md5) != 0)
        return err_set_param(&w->em, ERR_INPUT, "md5", "the parts' MD5 is %s, not %s", w->md5,
                             w->want_md5);
    store_new_id("file-", w->row.file_id);
    enum err e = store_upload_begin(api->store, w->row.id, w->part_ids, w->md5, w->sha256,
                                    w->row.file_id, &w->em);
    if (e != ERR_OK)
        return e;
    w->joining = true;
    w->row.sha256 = xstrdup(w->sha256);
    struct file_row f = file_of(w);
    (void)api__file_link_same(api, &f); /* then there is nothing to join */
    return ERR_OK;
}

static void done(struct api *api, struct api_work *work, struct api_response *resp) {
    struct upload_work *w = (struct upload_work *)work;
    enum err e = w->result;
    if (e == ERR_OK && !w->joining) {
        e = begin(api, w);
        if (e == ERR_OK) {
            w->result = ERR_STOPPED;
            resp->work = work;
            return;
        }
    } else if (e == ERR_OK) {
        struct file_row f = file_of(w);
        e = store_upload_finish(api->store, w->row.id, &f, &w->em);
        w->row.status = UPLOAD_COMPLETED;
    }
    if (e == ERR_OK)
        answer(api, &w->row, resp);
    else if (e == ERR_STOPPED)
        api_error(resp, 503, "shutting_down", NULL,
                  "The server is shutting down; complete the upload again in a moment.");
    else
        api_error_from(resp, &w->em);
    work_end(api, w);
}

/* ---- the same request while the work is under way ------------------------------------------- */

struct upload_wait {
    struct api_work work; /* first */
    char *project;
    char id[STORE_ID_SIZE];
    bool has_run;
};

static void wait_run(struct api_work *work) {
    struct upload_wait *w = (struct upload_wait *)work;
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    (void)nanosleep(&pause, NULL);
    w->has_run = true;
}

/* Looks again and again, so that no work knows who waits for it. */
static void wait_done(struct api *api, struct api_work *work, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    struct upload_wait *w = (struct upload_wait *)work;
    if (w->has_run && api__upload_is_busy(api, w->id)) {
        w->has_run = false;
        resp->work = work;
        return;
    }
    struct upload_row u = {0};
    if (store_upload_get(api->store, w->project, w->id, &u, &em) != ERR_OK)
        api_error_from(resp, &em);
    else if (u.status == UPLOAD_COMPLETED)
        answer(api, &u, resp);
    else
        busy(w->id, resp);
    upload_row_clear(&u);
    free(w->project);
    free(w);
}

static struct api_work *wait_new(const struct upload_row *u) {
    struct upload_wait *w = xcalloc(1, sizeof *w);
    w->work.run = wait_run;
    w->work.done = wait_done;
    w->project = xstrdup(u->project);
    memcpy(w->id, u->id, sizeof w->id);
    return &w->work;
}

/* ---- the handler ---------------------------------------------------------------------------- */

/* What the upload's status says about the request: true if the work is to be done. */
static bool status_allows(struct api *api, struct upload_work *w, struct api_response *resp) {
    const struct upload_row *u = &w->row;
    bool same = json_equal(u->part_ids, w->part_ids) != 0 &&
                (w->want_md5 == NULL || (u->md5 != NULL && strcasecmp(w->want_md5, u->md5) == 0));
    bool is_busy = api__upload_is_busy(api, u->id);
    if (is_busy && u->status == UPLOAD_COMPLETING && same)
        resp->work = wait_new(u);
    else if (is_busy)
        busy(u->id, resp);
    else if (u->status == UPLOAD_COMPLETED && same)
        answer(api, u, resp); /* a client that got no answer asks again */
    else if (u->status > UPLOAD_COMPLETING)
        api_error(resp, 400, "upload_ended", "upload_id", "Upload %s is %s.", u->id,
                  u->status == UPLOAD_COMPLETED   ? "completed"
                  : u->status == UPLOAD_CANCELLED ? "cancelled"
                                                  : "expired");
    else if (u->status == UPLOAD_COMPLETING && !same)
        api_error(resp, 400, "upload_ended", "part_ids",
                  "Completing upload %s has begun with other part_ids or another md5.", u->id);
    else
        return true;
    return false;
}

static bool prepare(struct api *api, const struct api_request *req, const char *id,
                    struct upload_work *w, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    if (!api__read(req, &api__upload_complete_table, w, resp))
        return false;
    list_parts(w);
    (void)api_expire(api);
    enum err e = store_upload_get(api->store, req->project, id, &w->row, &em);
    if (e == ERR_NOT_FOUND) {
        api_error(resp, 404, NULL, "upload_id", "No such Upload object: %s", id);
        return false;
    }
    if (e == ERR_OK && !status_allows(api, w, resp))
        return false;
    if (e == ERR_OK)
        e = check_parts(api, w, &em);
    if (e != ERR_OK)
        api_error_from(resp, &em);
    return e == ERR_OK;
}

static struct upload_work *work_new(void) {
    struct upload_work *w = xcalloc(1, sizeof *w);
    w->work.run = run;
    w->work.done = done;
    w->result = ERR_STOPPED; /* until it has run */
    return w;
}

/* From now on the upload is busy. */
static void work_begin(struct api *api, struct upload_work *w) {
    w->data_dir = xstrdup(api->config->data_dir);
    w->joining = w->row.status == UPLOAD_COMPLETING;
    w->next = api->uploads;
    api->uploads = w;
}

API_HANDLER(api__uploads_complete) {
    struct upload_work *w = work_new();
    if (!prepare(api, req, params->value[0], w, resp)) {
        work_free(w);
        return;
    }
    work_begin(api, w);
    resp->work = &w->work;
}

/* ---- after a crash -------------------------------------------------------------------------- */

/* Takes the row over. */
static struct upload_work *resume(struct api *api, struct upload_row *row, struct err_msg *em) {
    struct upload_work *w = work_new();
    w->row = *row;
    w->n = json_array_size(row->part_ids);
    w->items = xcalloc(w->n + 1, sizeof *w->items);
    for (size_t i = 0; i < w->n; i++) {
        const char *id = json_string_value(json_array_get(row->part_ids, i));
        w->items[i].id = id != NULL ? id : "";
    }
    if (check_parts(api, w, em) != ERR_OK) {
        work_free(w);
        return NULL;
    }
    work_begin(api, w);
    return w;
}

struct api_work *api_uploads_resume(struct api *api) {
    struct err_msg em = ERR_MSG_INIT;
    struct upload_row *rows = NULL;
    struct api_work *first = NULL;
    int n = 0;
    if (store_upload_completing(api->store, RESUME_MOST, &rows, &n, &em) != ERR_OK)
        log_warn("uploads.resume", "%s", em.text);
    if (n > 0)
        log_info("uploads.resume", "interrupted=%d", n);
    for (int i = 0; i < n; i++) {
        struct upload_work *w = resume(api, &rows[i], &em);
        if (w == NULL) {
            log_warn("uploads.resume", "%s", em.text);
            err_clear(&em);
            continue;
        }
        w->work.next = first;
        first = &w->work;
    }
    free(rows);
    return first;
}
