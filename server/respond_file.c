/* respond: files and folders as downloads, whole or in part. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "server/respond.h"
#include "server/tar.h"

#define TAR_BLOCK 65536

/* Digits at *p as a number, -1 if none or too big; *p moves behind them. */
static int64_t number(const char **p) {
    int64_t v = 0;
    const char *start = *p;
    while (**p >= '0' && **p <= '9') {
        if (v > (INT64_MAX - 9) / 10)
            return -1;
        v = v * 10 + (*(*p)++ - '0');
    }
    return *p == start ? -1 : v;
}

int respond_parse_range(const char *range, int64_t size, int64_t *first, int64_t *last) {
    if (range == NULL || strncmp(range, "bytes=", 6) != 0)
        return 0;
    const char *p = range + 6;
    if (*p == '-') {
        p++;
        int64_t n = number(&p);
        if (n < 0 || *p != '\0')
            return 0;
        if (n == 0 || size == 0)
            return 416;
        *first = n < size ? size - n : 0;
        *last = size - 1;
        return 206;
    }
    *first = number(&p);
    if (*first < 0 || *p++ != '-')
        return 0;
    *last = size - 1;
    if (*p != '\0') {
        *last = number(&p);
        if (*last < *first || *p != '\0')
            return 0;
        if (*last >= size)
            *last = size - 1;
    }
    return *first < size ? 206 : 416;
}

/* RFC 6266: an ASCII name for old clients and the exact one for the others. */
char *respond_disposition(const char *filename) {
    size_t n = strlen(filename);
    char *plain = xmalloc(n + 1);
    char *exact = xmalloc(3 * n + 1);
    size_t e = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)filename[i];
        bool safe = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    c == '.' || c == '-' || c == '_';
        plain[i] = safe || c == ' ' ? (char)c : '_';
        if (safe)
            exact[e++] = (char)c;
        else
            e += (size_t)snprintf(exact + e, 4, "%%%02X", c);
    }
    plain[n] = exact[e] = '\0';
    char *out = xasprintf("attachment; filename=\"%s\"; filename*=UTF-8''%s", plain, exact);
    free(plain);
    free(exact);
    return out;
}

/* What is sent: an open file or a tar, its size and validator. */
struct source {
    int fd;
    struct tar *tar;
    int64_t size, offset;
    char *etag;
};

static enum err open_source(const struct api_response *resp, struct source *src,
                            struct err_msg *em) {
    struct stat st;
    *src = (struct source){.fd = -1};
    if (resp->kind == API_BODY_TAR) {
        enum err e = tar_open(resp->path, &src->tar, em);
        if (e != ERR_OK)
            return e;
        src->size = tar_size(src->tar);
        src->etag = xstrdup(tar_etag(src->tar));
        return ERR_OK;
    }
    src->fd = open(resp->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (src->fd < 0)
        return err_set_errno(em, errno, "the file cannot be read");
    if (fstat(src->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(em, ERR_NOT_FOUND, "the file does not exist any more");
    src->size = st.st_size;
    src->etag = resp->etag != NULL ? xstrdup(resp->etag)
                                   : xasprintf("\"%llx-%llx%09lx\"", (long long)st.st_size,
                                               (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    return ERR_OK;
}

static void close_source(struct source *src) {
    if (src->fd >= 0)
        close(src->fd);
    tar_close(src->tar);
    free(src->etag);
}

static ssize_t read_tar(void *cls, uint64_t pos, char *out, size_t max) {
    struct source *src = cls;
    ssize_t n = tar_read(src->tar, src->offset + (int64_t)pos, out, max);
    return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void free_tar(void *cls) {
    struct source *src = cls;
    close_source(src);
    free(src);
}

static struct MHD_Response *make(struct source *src, int64_t first, int64_t count) {
    if (src->tar == NULL) {
        struct MHD_Response *m =
            MHD_create_response_from_fd_at_offset64((uint64_t)count, src->fd, (uint64_t)first);
        if (m != NULL)
            src->fd = -1; /* closed with the response */
        return m;
    }
    struct source *owned = xmalloc(sizeof *owned);
    *owned = *src;
    owned->offset = first;
    *src = (struct source){.fd = -1, .etag = xstrdup(owned->etag)};
    return MHD_create_response_from_callback((uint64_t)count, TAR_BLOCK, read_tar, owned, free_tar);
}

static bool matches(const char *list, const char *etag) {
    return list != NULL && (strcmp(list, "*") == 0 || strstr(list, etag) != NULL);
}

static void add_headers(struct MHD_Response *m, const struct api_response *resp,
                        const struct source *src) {
    bool tar = resp->kind == API_BODY_TAR;
    (void)MHD_add_response_header(m, "ETag", src->etag);
    (void)MHD_add_response_header(m, "Accept-Ranges", "bytes");
    const char *type = tar ? "application/x-tar" : "application/octet-stream";
    (void)MHD_add_response_header(m, "Content-Type",
                                  resp->content_type != NULL ? resp->content_type : type);
    if (resp->filename == NULL)
        return;
    char *disposition = respond_disposition(resp->filename);
    (void)MHD_add_response_header(m, "Content-Disposition", disposition);
    free(disposition);
}

/* Which part is asked for; false: none that exists. */
static bool choose_range(const struct request *r, const struct source *src,
                         struct respond_body *out, int64_t *first, int64_t *last) {
    long long size = (long long)src->size;
    *first = 0;
    *last = src->size - 1;
    const char *if_range = request_header(r, "if-range");
    if (if_range != NULL && strcmp(if_range, src->etag) != 0)
        return true;
    int64_t from = 0, to = 0;
    int status = respond_parse_range(request_header(r, "range"), src->size, &from, &to);
    if (status == 206) {
        *first = from;
        *last = to;
        out->status = 206;
        (void)snprintf(out->content_range, sizeof out->content_range, "bytes %lld-%lld/%lld",
                       (long long)from, (long long)to, size);
    } else if (status == 416) {
        (void)snprintf(out->content_range, sizeof out->content_range, "bytes */%lld", size);
    }
    return status != 416;
}

void respond_file(struct request *r, struct api_response *resp, struct respond_body *out) {
    struct source src;
    struct err_msg em = ERR_MSG_INIT;
    int64_t first = 0, last = 0;
    out->status = resp->status;
    if (open_source(resp, &src, &em) != ERR_OK) {
        api_response_clear(resp);
        api_error_from(resp, &em);
    } else if (matches(request_header(r, "if-none-match"), src.etag)) {
        out->status = 304;
        out->mhd = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        (void)MHD_add_response_header(out->mhd, "ETag", src.etag);
    } else if (!choose_range(r, &src, out, &first, &last)) {
        long long size = (long long)src.size;
        api_response_clear(resp);
        api_error(resp, 416, "range_not_satisfiable", NULL, "The file has %lld bytes.", size);
    } else {
        out->mhd = make(&src, first, last - first + 1);
        out->streams = out->mhd != NULL;
        out->bytes = last - first + 1;
        if (out->mhd != NULL)
            add_headers(out->mhd, resp, &src);
    }
    close_source(&src);
}
