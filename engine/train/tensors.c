/* tensors: safetensors of f32 vectors; the device is read and written in pieces. */
#include "engine/train/tensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define PIECE ((size_t)1 << 20) /* elements */

/* The 8-byte length and the JSON header, padded with spaces to a multiple of 8; *len bytes. */
static char *header_make(const struct resume_tensor *tensors, int n, size_t *len) {
    json_t *o = json_object();
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        size_t end = at + tensors[i].n * sizeof(float);
        json_object_set_new(o, tensors[i].name,
                            json_pack("{sss[I]s[II]}", "dtype", "F32", "shape",
                                      (json_int_t)tensors[i].n, "data_offsets", (json_int_t)at,
                                      (json_int_t)end));
        at = end;
    }
    char *text = json_dumps(o, JSON_COMPACT);
    size_t used = strlen(text), padded = (used + 7) / 8 * 8;
    char *header = xmalloc(8 + padded + 1);
    for (int i = 0; i < 8; i++)
        header[i] = (char)(padded >> (8 * i) & 0xff);
    memset(header + 8, ' ', padded);
    memcpy(header + 8, text, used);
    *len = 8 + padded;
    free(text);
    json_decref(o);
    return header;
}

static size_t piece_at(size_t at, size_t n) {
    return n - at < PIECE ? n - at : PIECE;
}

static enum err write_tensor(FILE *f, const char *path, struct device *dev,
                             const struct resume_tensor *t, float *host, struct err_msg *em) {
    for (size_t at = 0; at < t->n; at += PIECE) {
        size_t n = piece_at(at, t->n);
        enum err e = dev->ops->download(dev, host, t->data + at, n * sizeof(float), em);
        if (e != ERR_OK)
            return e;
        errno = 0;
        if (fwrite(host, sizeof(float), n, f) != n)
            return err_set_errno(em, errno == 0 ? EIO : errno, "cannot write %s", path);
    }
    return ERR_OK;
}

enum err tensors_write(const char *path, struct device *dev, const struct resume_tensor *tensors,
                       int n, struct err_msg *em) {
    struct file_writer w;
    enum err e = file_writer_open(&w, path, em);
    if (e != ERR_OK)
        return e;
    size_t header_len;
    char *header = header_make(tensors, n, &header_len);
    float *host = xmalloc(PIECE * sizeof(float));
    errno = 0;
    if (fwrite(header, 1, header_len, w.f) != header_len)
        e = err_set_errno(em, errno == 0 ? EIO : errno, "cannot write %s", path);
    for (int i = 0; e == ERR_OK && i < n; i++)
        e = write_tensor(w.f, path, dev, &tensors[i], host, em);
    if (e == ERR_OK)
        e = file_writer_commit(&w, em);
    else
        file_writer_abort(&w);
    free(header);
    free(host);
    return e;
}

enum err tensors_read(const char *path, struct device *dev, const struct resume_tensor *tensors,
                      int n, struct err_msg *em) {
    struct file_map map;
    enum err e = file_map_open(path, &map, em);
    if (e != ERR_OK)
        return e;
    size_t at;
    char *header = header_make(tensors, n, &at);
    size_t bytes = at;
    for (int i = 0; i < n; i++)
        bytes += tensors[i].n * sizeof(float);
    if (map.len != bytes || memcmp(map.data, header, at) != 0)
        e = err_set(em, ERR_INPUT, "%s does not hold the tensors of this job", path);
    for (int i = 0; e == ERR_OK && i < n; i++) {
        dev->ops->upload(dev, tensors[i].data, map.data + at, tensors[i].n * sizeof(float));
        at += tensors[i].n * sizeof(float);
    }
    if (e == ERR_OK) /* an upload may still read the mapping */
        e = dev->ops->sync(dev, em);
    free(header);
    file_map_close(&map);
    return e;
}
