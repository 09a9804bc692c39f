/* safetensors: writing, byte for byte as the reference writer. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/model/safetensors.h"

#define HEADER_MAX ((size_t)LIMIT_SAFETENSORS_HEADER)

static int by_alignment(const void *a, const void *b) {
    const struct safetensor *x = *(const struct safetensor *const *)a,
                            *y = *(const struct safetensor *const *)b;
    int ox = safetensors_dtype_order(x->dtype), oy = safetensors_dtype_order(y->dtype);
    return ox != oy ? oy - ox : strcmp(x->name, y->name);
}

/* "name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]} */
static enum err add_entry(struct buf *b, const struct safetensor *t, uint64_t offset) {
    json_t *name = json_string(t->name);
    char *quoted = name != NULL ? json_dumps(name, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    enum err e = quoted == NULL
                     ? ERR_BUG
                     : buf_addf(b, ",%s:{\"dtype\":\"%s\",\"shape\":[", quoted, t->dtype);
    for (int i = 0; i < t->rank && e == ERR_OK; i++)
        e = buf_addf(b, "%s%llu", i > 0 ? "," : "", (unsigned long long)t->shape[i]);
    if (e == ERR_OK)
        e = buf_addf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)offset,
                     (unsigned long long)(offset + t->bytes));
    free(quoted);
    json_decref(name);
    return e;
}

static enum err make_header(struct buf *b, const struct safetensor **sorted, size_t n) {
    uint64_t offset = 0;
    enum err e = buf_addf(b, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n && e == ERR_OK; i++) {
        e = add_entry(b, sorted[i], offset);
        offset += sorted[i]->bytes;
    }
    if (e == ERR_OK)
        e = buf_add(b, "}", 1);
    while (e == ERR_OK && b->len % 8 != 0)
        e = buf_add(b, " ", 1);
    return e;
}

enum err safetensors_write(const char *path, const struct safetensor *tensors, size_t n,
                           struct err_msg *em) {
    const struct safetensor **sorted = xcalloc(n + 1, sizeof *sorted);
    struct file_writer w = {0};
    struct buf header;
    buf_init(&header, HEADER_MAX);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &tensors[i];
    qsort(sorted, n, sizeof *sorted, by_alignment);
    enum err e = make_header(&header, sorted, n);
    if (e != ERR_OK) {
        err_set(em, e, "%s: the header cannot be written (%s)", path, err_name(e));
        goto out;
    }
    e = file_writer_open(&w, path, em);
    if (e != ERR_OK)
        goto out;
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)header.len >> (8 * i));
    /* short writes are kept in the stream's error flag, which commit checks */
    (void)fwrite(length, 1, sizeof length, w.f);
    (void)fwrite(header.data, 1, header.len, w.f);
    for (size_t i = 0; i < n; i++)
        if (sorted[i]->bytes > 0)
            (void)fwrite(sorted[i]->data, 1, sorted[i]->bytes, w.f);
    e = file_writer_commit(&w, em);
out:
    buf_clear(&header);
    free(sorted);
    return e;
}
