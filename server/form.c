/* form: a multipart body as the api takes it, spooled to disk while it comes in. */
#include "server/form.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/mem.h"
#include "server/multipart.h"

#define MAX_FIELDS 32
#define MAX_FIELD_BYTES 8192
#define MAX_NAME_BYTES 256

struct form {
    struct multipart parser;
    struct multipart_sink sink;
    char *data_dir;
    struct api_form_rule rule;
    struct api_pair fields[MAX_FIELDS];
    struct buf field;
    struct spool spool;
    char *filename;
    struct api_form api;
    bool in_file, has_file;
};

static bool is_utf8(const char *s, size_t n) {
    json_t *text = json_stringn(s, n);
    bool good = text != NULL && memchr(s, '\0', n) == NULL;
    json_decref(text);
    return good;
}

static enum err begin_file(struct form *f, const struct multipart_part *part, struct err_msg *em) {
    const char *filename = part->filename != NULL ? part->filename : "";
    if (f->has_file)
        return err_set_param(em, ERR_INPUT, f->rule.file_part, "the form has two files");
    if (!is_utf8(filename, strlen(filename)) || strlen(filename) > LIMIT_FILENAME)
        return err_set_param(em, ERR_INPUT, f->rule.file_part,
                             "the file name must be at most %d bytes of UTF-8", LIMIT_FILENAME);
    f->in_file = true;
    f->has_file = true;
    f->filename = xstrdup(filename);
    enum err e = spool_open(&f->spool, f->data_dir, f->rule.max_bytes, em);
    f->spool.unhashed = !f->rule.hashed;
    return e;
}

static enum err begin_part(void *arg, const struct multipart_part *part, struct err_msg *em) {
    struct form *f = arg;
    if (strcmp(part->name, f->rule.file_part) == 0)
        return begin_file(f, part, em);
    if (!is_utf8(part->name, strlen(part->name)) || strlen(part->name) > MAX_NAME_BYTES)
        return err_set(em, ERR_INPUT, "a form field's name must be at most %d bytes of UTF-8",
                       MAX_NAME_BYTES);
    if (part->filename != NULL)
        return err_set_param(em, ERR_INPUT, part->name, "the file's field must be named %s, not %s",
                             f->rule.file_part, part->name);
    for (int i = 0; i < f->api.n_fields; i++)
        if (strcmp(f->fields[i].name, part->name) == 0)
            return err_set_param(em, ERR_INPUT, part->name, "the form has the field %s twice",
                                 part->name);
    if (f->api.n_fields == MAX_FIELDS)
        return err_set(em, ERR_INPUT, "the form has more than %d fields", MAX_FIELDS);
    f->in_file = false;
    f->fields[f->api.n_fields].name = xstrdup(part->name);
    return ERR_OK;
}

static enum err add_data(void *arg, const void *bytes, size_t n, struct err_msg *em) {
    struct form *f = arg;
    if (f->in_file && n > (size_t)(f->rule.max_bytes - f->spool.bytes))
        return err_set_param(em, ERR_LIMIT, f->rule.file_part, "%s", f->rule.too_large);
    if (f->in_file)
        return spool_write(&f->spool, bytes, n, em);
    if (buf_add(&f->field, bytes, n) != ERR_OK) {
        const char *name = f->fields[f->api.n_fields].name;
        return err_set_param(em, ERR_INPUT, name, "the field %s is longer than %d bytes", name,
                             MAX_FIELD_BYTES);
    }
    return ERR_OK;
}

static enum err end_part(void *arg, struct err_msg *em) {
    struct form *f = arg;
    if (f->in_file)
        return ERR_OK;
    struct api_pair *field = &f->fields[f->api.n_fields];
    const char *text = f->field.data != NULL ? f->field.data : "";
    if (!is_utf8(text, f->field.len))
        return err_set_param(em, ERR_INPUT, field->name, "the field %s is not UTF-8 text",
                             field->name);
    field->value = xstrdup(text);
    f->api.n_fields++;
    buf_reset(&f->field);
    return ERR_OK;
}

const char *form_limit_code(const struct form *f) {
    return f->rule.code;
}

struct form *form_new(const char *data_dir, const char *boundary,
                      const struct api_form_rule *rule) {
    struct form *f = xcalloc(1, sizeof *f);
    f->data_dir = xstrdup(data_dir);
    f->rule = *rule;
    f->spool.fd = -1;
    f->sink =
        (struct multipart_sink){.arg = f, .begin = begin_part, .data = add_data, .end = end_part};
    f->api.fields = f->fields;
    buf_init(&f->field, MAX_FIELD_BYTES);
    multipart_init(&f->parser, boundary, &f->sink);
    return f;
}

enum err form_feed(struct form *f, const char *bytes, size_t n, struct err_msg *em) {
    return multipart_feed(&f->parser, bytes, n, em);
}

enum err form_finish(struct form *f, struct err_msg *em) {
    enum err e = multipart_finish(&f->parser, em);
    f->api.file = f->has_file ? &f->spool : NULL;
    f->api.filename = f->filename != NULL ? f->filename : "";
    return e;
}

struct api_form *form_for_api(struct form *f) {
    return &f->api;
}

int form_file(const struct form *f, int64_t *bytes) {
    *bytes = f->spool.bytes;
    return f->has_file ? f->spool.fd : -1;
}

void form_free(struct form *f) {
    if (f == NULL)
        return;
    if (f->has_file)
        spool_abort(&f->spool);
    for (int i = 0; i < MAX_FIELDS; i++) {
        free((void *)(uintptr_t)f->fields[i].name);
        free((void *)(uintptr_t)f->fields[i].value);
    }
    free(f->filename);
    free(f->data_dir);
    buf_clear(&f->field);
    multipart_clear(&f->parser);
    free(f);
}
