/* api_files: /v1/files. */
#include "api/api_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mem.h"

/* What a client may store. Of the contract's purposes "evals" is missing: its file object has no
 * such value, so no client could read one back. */
const char *const api__file_purposes[API_FILE_PURPOSES] = {"fine-tune", "assistants", "batch",
                                                           "vision", "user_data"};

json_t *api__file_json(const struct file_row *f) {
    json_t *o = json_object();
    json_object_set_new(o, "id", json_string(f->id));
    json_object_set_new(o, "object", json_string("file"));
    json_object_set_new(o, "bytes", json_integer(f->bytes));
    json_object_set_new(o, "created_at", json_integer(f->created_at));
    if (f->expires_at > 0)
        json_object_set_new(o, "expires_at", json_integer(f->expires_at));
    json_object_set_new(o, "filename", api__string(f->filename));
    json_object_set_new(o, "purpose", api__string(f->purpose));
    json_object_set_new(o, "status", json_string("processed"));
    return o;
}

/* ---- upload --------------------------------------------------------------------------------- */

static const char *form_field(const struct api_form *form, const char *name) {
    for (int i = 0; i < form->n_fields; i++)
        if (strcmp(form->fields[i].name, name) == 0)
            return form->fields[i].value;
    return NULL;
}

static bool check_fields(const struct api_form *form, struct api_response *resp) {
    static const char *const known[] = {"purpose", "expires_after[anchor]",
                                        "expires_after[seconds]"};
    for (int i = 0; i < form->n_fields; i++) {
        const char *name = form->fields[i].name;
        bool found = false;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            found = found || strcmp(name, known[k]) == 0;
        if (!found) {
            api_error(resp, 400, NULL, name, "unknown field %s", name);
            return false;
        }
    }
    return true;
}

static bool check_purpose(const char *purpose, struct api_response *resp) {
    if (purpose == NULL) {
        api_error(resp, 400, NULL, "purpose", "purpose is required");
        return false;
    }
    for (size_t i = 0; i < API_FILE_PURPOSES; i++)
        if (strcmp(purpose, api__file_purposes[i]) == 0)
            return true;
    api_error(resp, 400, NULL, "purpose",
              "'%s' is not one of ['fine-tune', 'assistants', 'batch', 'vision', 'user_data']",
              purpose);
    return false;
}

static bool read_expiry(const struct api_form *form, int64_t now, int64_t *expires_at,
                        struct api_response *resp) {
    const char *anchor = form_field(form, "expires_after[anchor]");
    const char *seconds = form_field(form, "expires_after[seconds]");
    int64_t n = 0;
    *expires_at = 0;
    if (anchor == NULL && seconds == NULL)
        return true;
    if (anchor == NULL || strcmp(anchor, "created_at") != 0) {
        api_error(resp, 400, NULL, "expires_after[anchor]",
                  "expires_after[anchor] must be created_at");
        return false;
    }
    if (seconds == NULL || !api__integer(seconds, API_EXPIRY_MIN, API_EXPIRY_MAX, &n)) {
        api_error(resp, 400, NULL, "expires_after[seconds]",
                  "expires_after[seconds] must be an integer from %d to %d", API_EXPIRY_MIN,
                  API_EXPIRY_MAX);
        return false;
    }
    *expires_at = now + n;
    return true;
}

/* Bytes at p of a character that must not be shown: control, or one that turns the direction of
 * text (U+061C, U+200E, U+200F, U+202A…202E, U+2066…2069). 0: none. */
static size_t hidden_character(const unsigned char *p) {
    if (*p < 0x20 || *p == 0x7f)
        return 1;
    if ((p[0] == 0xc2 && p[1] < 0xa0) || (p[0] == 0xd8 && p[1] == 0x9c))
        return 2;
    if (p[0] != 0xe2)
        return 0;
    bool turns =
        (p[1] == 0x80 && (p[2] == 0x8e || p[2] == 0x8f || (p[2] >= 0xaa && p[2] <= 0xae))) ||
        (p[1] == 0x81 && p[2] >= 0xa6 && p[2] <= 0xa9);
    return turns ? 3 : 0;
}

char *api__display_name(const char *name, const char *param, struct api_response *resp) {
    const char *base = name;
    for (const char *p = name; *p != '\0'; p++)
        if (*p == '/' || *p == '\\')
            base = p + 1;
    if (base[0] == '\0')
        return xstrdup("upload");
    json_t *valid = json_string(base);
    if (valid == NULL || json_table_characters(base) > LIMIT_FILENAME) {
        json_decref(valid);
        api_error(resp, 400, NULL, param, "the file's name must be UTF-8 of at most %d characters",
                  LIMIT_FILENAME);
        return NULL;
    }
    json_decref(valid);
    char *out = xstrdup(base), *put = out;
    for (const unsigned char *p = (const unsigned char *)base; *p != '\0';) {
        size_t hidden = hidden_character(p);
        *put++ = hidden > 0 ? '_' : (char)*p;
        p += hidden > 0 ? hidden : 1;
    }
    *put = '\0';
    return out;
}

bool api__file_link_same(struct api *api, const struct file_row *f) {
    char have[STORE_ID_SIZE];
    return store_file_same(api->store, f->sha256, f->bytes, have, NULL) == ERR_OK &&
           blobs_file_link(api->config->data_dir, have, f->bytes, f->id, NULL) == ERR_OK;
}

static enum err store_spool(struct api *api, struct spool *spool, struct file_row *f,
                            struct err_msg *em) {
    char sha256[SHA256_HEX_SIZE];
    const char *data_dir = api->config->data_dir;
    enum err e = ERR_OK;
    store_new_id("file-", f->id);
    f->bytes = spool->bytes;
    spool_sha256(spool, sha256);
    f->sha256 = xstrdup(sha256);
    if (api__file_link_same(api, f))
        spool_abort(spool);
    else
        e = spool_publish(spool, data_dir, f->id, em);
    if (e != ERR_OK)
        return e;
    e = store_file_add(api->store, f, em);
    /* After ERR_IO the row may be there all the same; the next start finds out. */
    if (e != ERR_OK && e != ERR_IO && blobs_file_remove(data_dir, f->id, NULL) != ERR_OK)
        log_warn("files.remove", "id=%s", f->id);
    return e;
}

API_HANDLER(api__files_create) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct file_row f = {.created_at = clock_unix()};
    struct api_form *form = req->form;
    if (form == NULL) {
        api_error(resp, 400, NULL, NULL,
                  "Upload the file as multipart/form-data with the fields file and purpose.");
        return;
    }
    (void)api_expire(api);
    const char *purpose = form_field(form, "purpose");
    if (!check_fields(form, resp) || !check_purpose(purpose, resp) ||
        !read_expiry(form, f.created_at, &f.expires_at, resp))
        return;
    if (form->file == NULL) {
        api_error(resp, 400, NULL, "file", "file is required");
        return;
    }
    f.filename = api__display_name(form->filename == NULL ? "" : form->filename, "file", resp);
    if (f.filename == NULL)
        return;
    f.project = xstrdup(req->project);
    f.purpose = xstrdup(purpose);
    if (!api__room_for(api, req->project, form->file->bytes, resp)) {
        file_row_clear(&f);
        return;
    }
    if (store_spool(api, form->file, &f, &em) == ERR_OK)
        api__ok(resp, api__file_json(&f));
    else
        api_error_from(resp, &em);
    file_row_clear(&f);
}

/* ---- the rest ------------------------------------------------------------------------------- */

API_HANDLER(api__files_list) {
    (void)params;
    struct err_msg em = ERR_MSG_INIT;
    struct page page;
    struct file_row *rows = NULL;
    int n = 0;
    bool more = false;
    const char *order = api_query(req, "order");
    if (!api__page(req, LIMIT_PAGE, &page, resp))
        return;
    if (order != NULL && strcmp(order, "asc") != 0 && strcmp(order, "desc") != 0) {
        api_error(resp, 400, NULL, "order", "order must be asc or desc.");
        return;
    }
    page.ascending = order != NULL && strcmp(order, "asc") == 0;
    (void)api_expire(api);
    if (store_file_list(api->store, req->project, api_query(req, "purpose"), &page, &rows, &n,
                        &more, &em) != ERR_OK) {
        api_error_from(resp, &em);
        return;
    }
    json_t *data = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(data, api__file_json(&rows[i]));
        file_row_clear(&rows[i]);
    }
    free(rows);
    api__ok(resp, api__list(data, more, json_string("")));
}

static bool find_file(struct api *api, const struct api_request *req, const char *id,
                      struct file_row *out, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    (void)api_expire(api);
    enum err e = store_file_get(api->store, req->project, id, out, &em);
    if (e == ERR_NOT_FOUND)
        api_error(resp, 404, NULL, "id", "No such File object: %s", id);
    else if (e != ERR_OK)
        api_error_from(resp, &em);
    return e == ERR_OK;
}

API_HANDLER(api__files_get) {
    struct file_row f;
    if (!find_file(api, req, params->value[0], &f, resp))
        return;
    api__ok(resp, api__file_json(&f));
    file_row_clear(&f);
}

API_HANDLER(api__files_content) {
    struct file_row f;
    if (!find_file(api, req, params->value[0], &f, resp))
        return;
    const char *data_dir = api->config->data_dir;
    resp->status = 200;
    resp->kind = API_BODY_FILE;
    resp->content_type = "application/octet-stream";
    resp->path =
        f.path != NULL ? xasprintf("%s/%s", data_dir, f.path) : blobs_file_path(data_dir, f.id);
    resp->filename = xstrdup(f.filename);
    resp->etag = xasprintf("\"%s\"", f.sha256);
    file_row_clear(&f);
}

API_HANDLER(api__files_delete) {
    struct err_msg em = ERR_MSG_INIT;
    struct file_row f;
    if (!find_file(api, req, params->value[0], &f, resp))
        return;
    enum err e = store_file_delete(api->store, req->project, f.id, &em);
    if (e == ERR_CONFLICT) {
        api_error(resp, 400, "file_in_use", "id", "%s; cancel the job first", em.text);
        resp->no_retry = true;
    } else if (e != ERR_OK) {
        api_error_from(resp, &em);
    } else {
        /* The row is gone, so the file is; bytes left behind go at the next start. */
        if (f.path == NULL && blobs_file_remove(api->config->data_dir, f.id, &em) != ERR_OK)
            log_warn("files.remove", "%s", em.text);
        api__ok(resp, json_pack("{s:s, s:s, s:b}", "id", f.id, "object", "file", "deleted", 1));
    }
    file_row_clear(&f);
}
