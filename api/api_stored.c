/* api_stored: how much a project may store, what a form may bring, and what has expired. */
#include "api/api_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "storage/upload_parts.h"

#define EXPIRE_AT_ONCE 256 /* one transaction; the loop thread waits for it */
#define NO_ROOM "storage_limit_exceeded"

/* ---- room ----------------------------------------------------------------------------------- */

/* Bytes that the project may still store. */
static bool room_of(struct api *api, const char *project, int64_t *left,
                    struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    int64_t stored = 0, most = api->config->max_project_bytes;
    *left = INT64_MAX;
    if (most == 0)
        return true;
    if (store_project_bytes(api->store, project, &stored, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return false;
    }
    *left = stored < most ? most - stored : 0;
    return true;
}

static void describe(struct api *api, int64_t left, char out[160]) {
    long long most = (long long)api->config->max_project_bytes;
    (void)snprintf(out, 160,
                   "This project may store %lld bytes, of which %lld are left; delete files that "
                   "are not needed any more.",
                   most, (long long)left);
}

static void refuse(struct api *api, int64_t left, struct api_response *resp) {
    char text[160];
    describe(api, left, text);
    api_error(resp, 413, NO_ROOM, NULL, "%s", text);
    resp->no_retry = true;
}

bool api__room_for(struct api *api, const char *project, int64_t bytes, struct api_response *resp) {
    int64_t left = 0;
    if (!room_of(api, project, &left, resp))
        return false;
    if (bytes > left)
        refuse(api, left, resp);
    return bytes <= left;
}

/* ---- forms ---------------------------------------------------------------------------------- */

static void set_limit(struct api_form_rule *rule, const char *code, int64_t most,
                      const char *what) {
    if (most >= rule->max_bytes)
        return;
    rule->max_bytes = most;
    (void)snprintf(rule->code, sizeof rule->code, "%s", code);
    (void)snprintf(rule->too_large, sizeof rule->too_large, "%s %lld bytes.", what,
                   (long long)most);
}

/* Parts may be sent twice, so more than the file's bytes may come, but not for ever. */
static bool part_rule(struct api *api, const struct api_request *req, const char *id,
                      struct api_form_rule *rule, struct api_response *resp) {
    struct upload_row u;
    rule->file_part = "data";
    if (!api__upload_open(api, req, id, &u, resp))
        return false;
    set_limit(rule, "part_too_large", api->config->max_part_bytes, "A part can have at most");
    set_limit(rule, "part_too_large", 2 * u.bytes - u.stored,
              "Parts are kept up to twice the upload's bytes; this one can have at most");
    upload_row_clear(&u);
    return true;
}

bool api_form_rule(struct api *api, const struct api_request *req, const struct api_route *route,
                   const struct api_params *params, struct api_form_rule *out,
                   struct api_response *resp) {
    int64_t left = 0;
    *out = (struct api_form_rule){.file_part = "file", .max_bytes = INT64_MAX, .hashed = true};
    if (route->handle == api__uploads_add_part) {
        out->hashed = false;
        if (!part_rule(api, req, params->value[0], out, resp))
            return false;
    } else {
        set_limit(out, "file_too_large", api->config->max_file_bytes, "A file can have at most");
    }
    if (!room_of(api, req->project, &left, resp))
        return false;
    if (left == 0) {
        refuse(api, left, resp);
        return false;
    }
    if (left < out->max_bytes) {
        out->max_bytes = left;
        (void)snprintf(out->code, sizeof out->code, NO_ROOM);
        describe(api, left, out->too_large);
    }
    return true;
}

/* ---- expiry --------------------------------------------------------------------------------- */

static int expire_files(struct api *api) {
    struct err_msg em = ERR_MSG_INIT;
    struct file_row *rows = NULL;
    int n = 0;
    if (store_file_expire(api->store, EXPIRE_AT_ONCE, &rows, &n, &em) != ERR_OK)
        log_warn("files.expire", "%s", em.text);
    for (int i = 0; i < n; i++) {
        /* The row is gone, so the file is; bytes left behind go at the next start. */
        if (rows[i].path == NULL &&
            blobs_file_remove(api->config->data_dir, rows[i].id, &em) != ERR_OK)
            log_warn("files.remove", "%s", em.text);
        file_row_clear(&rows[i]);
    }
    free(rows);
    return n;
}

static void expire_upload(struct api *api, const struct upload_row *u) {
    struct err_msg em = ERR_MSG_INIT;
    const char *data_dir = api->config->data_dir;
    enum err e = store_upload_end(api->store, u->id, UPLOAD_EXPIRED, &em);
    if (e == ERR_OK)
        e = upload_parts_remove(data_dir, u->id, &em);
    if (e == ERR_OK && u->file_id[0] != '\0')
        e = blobs_file_remove(data_dir, u->file_id, &em);
    if (e != ERR_OK)
        log_warn("uploads.expire", "%s", em.text);
}

static int expire_uploads(struct api *api) {
    struct err_msg em = ERR_MSG_INIT;
    struct upload_row *rows = NULL;
    int n = 0, ended = 0;
    if (store_upload_expired(api->store, EXPIRE_AT_ONCE, &rows, &n, &em) != ERR_OK)
        log_warn("uploads.expire", "%s", em.text);
    for (int i = 0; i < n; i++) {
        if (!api__upload_is_busy(api, rows[i].id)) {
            expire_upload(api, &rows[i]);
            ended++;
        }
        upload_row_clear(&rows[i]);
    }
    free(rows);
    return ended;
}

bool api_expire(struct api *api) {
    int files = expire_files(api), uploads = expire_uploads(api);
    return files == EXPIRE_AT_ONCE || uploads == EXPIRE_AT_ONCE;
}
