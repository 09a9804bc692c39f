/* jsonl: reading lines. The checks of a line are in jsonl_parse.c. */
#include "engine/text/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"

#define CHUNK ((size_t)256 << 10)

static const char bom[] = "\xef\xbb\xbf";

struct jsonl {
    int fd;
    char *path;
    struct sha256 *hash;
    char *line; /* [LIMIT_ROW_BYTES + 2]: room for a CR and the NUL */
    size_t line_len;
    char *chunk; /* [CHUNK] */
    size_t chunk_at, chunk_len;
    int64_t chunk_offset; /* of chunk[0] in the file */
    int64_t lines;
    bool at_end;
};

enum err jsonl_open(const char *path, struct sha256 *hash, struct jsonl **out, struct err_msg *em) {
    struct stat st;
    /* O_NONBLOCK: opening a FIFO by mistake must not hang. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set_errno(em, errno, "cannot open %s", path);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return err_set(em, ERR_INPUT, "%s is not a regular file", path);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    struct jsonl *r = xcalloc(1, sizeof *r);
    *r = (struct jsonl){.fd = fd,
                        .path = xstrdup(path),
                        .hash = hash,
                        .line = xmalloc(LIMIT_ROW_BYTES + 2),
                        .chunk = xmalloc(CHUNK)};
    *out = r;
    return ERR_OK;
}

void jsonl_close(struct jsonl *r) {
    if (r == NULL)
        return;
    close(r->fd);
    free(r->path);
    free(r->line);
    free(r->chunk);
    free(r);
}

int64_t jsonl_bytes(const struct jsonl *r) {
    return r->chunk_offset + (int64_t)r->chunk_len;
}

static enum err fill(struct jsonl *r, struct err_msg *em) {
    r->chunk_offset += (int64_t)r->chunk_len;
    r->chunk_at = r->chunk_len = 0;
    ssize_t got;
    do
        got = read(r->fd, r->chunk, CHUNK);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return err_set_errno(em, errno, "cannot read %s", r->path);
    r->chunk_len = (size_t)got;
    r->at_end = got == 0;
    if (r->hash != NULL)
        sha256_add(r->hash, r->chunk, r->chunk_len);
    return ERR_OK;
}

/* Appends as much as fits; one byte over the limit is kept, so that a CR after a line of exactly
 * the limit is no reason to refuse it. Returns false when bytes were left out. */
static bool append(struct jsonl *r, const char *bytes, size_t n) {
    size_t room = LIMIT_ROW_BYTES + 1 - r->line_len;
    size_t kept = n < room ? n : room;
    memcpy(r->line + r->line_len, bytes, kept);
    r->line_len += kept;
    return kept == n;
}

static void finish(struct jsonl *r, int64_t offset, bool whole, struct jsonl_line *line) {
    char *data = r->line;
    size_t len = r->line_len;
    if (whole && len > 0 && data[len - 1] == '\r')
        len--;
    r->lines++;
    if (r->lines == 1 && len >= strlen(bom) && memcmp(data, bom, strlen(bom)) == 0) {
        data += strlen(bom);
        len -= strlen(bom);
        offset += (int64_t)strlen(bom);
    }
    *line = (struct jsonl_line){.number = r->lines, .offset = offset, .data = data};
    line->too_long = !whole || len > LIMIT_ROW_BYTES;
    line->len = len > LIMIT_ROW_BYTES ? LIMIT_ROW_BYTES : len;
    data[line->len] = '\0';
}

enum err jsonl_next(struct jsonl *r, struct jsonl_line *line, bool *more, struct err_msg *em) {
    bool whole = true, any = false;
    int64_t offset = r->chunk_offset + (int64_t)r->chunk_at;
    r->line_len = 0;
    for (;;) {
        if (r->chunk_at == r->chunk_len) {
            enum err e = r->at_end ? ERR_OK : fill(r, em);
            if (e != ERR_OK)
                return e;
            if (r->at_end)
                break;
        }
        any = true;
        const char *from = r->chunk + r->chunk_at;
        size_t left = r->chunk_len - r->chunk_at;
        const char *end = memchr(from, '\n', left);
        size_t n = end != NULL ? (size_t)(end - from) : left;
        whole = append(r, from, n) && whole;
        r->chunk_at += end != NULL ? n + 1 : n;
        if (end != NULL)
            break;
    }
    *more = any;
    if (any)
        finish(r, offset, whole, line);
    return ERR_OK;
}

bool jsonl_blank(const struct jsonl_line *line) {
    return line->len == strspn(line->data, " \t\r") && !line->too_long;
}
