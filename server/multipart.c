/* multipart: a multipart/form-data body read piece by piece.
 *
 * The delimiter starts with the only carriage return in it, so a failed match can begin again only
 * at the byte that broke it: no table is needed, and no byte of data is ever held back except a
 * prefix of the delimiter, which is known without storing it.
 */
#include "server/multipart.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "server/params.h"

enum { PREAMBLE, AFTER_DELIMITER, AFTER_DASH, AFTER_RETURN, HEADERS, DATA, EPILOGUE };

static bool boundary_char(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("'()+_,-./:=? ", c) != NULL);
}

enum err multipart_boundary(const char *content_type, char boundary[MULTIPART_BOUNDARY_MAX + 1],
                            struct err_msg *em) {
    char *value = NULL;
    enum err e = ERR_OK;
    if (!params_media_type_is(content_type, "multipart/form-data"))
        return err_set(em, ERR_UNSUPPORTED, "the body must be multipart/form-data");
    if (!params_get(content_type, "boundary", &value)) {
        e = err_set(em, ERR_INPUT, "Content-Type has no boundary");
        goto out;
    }
    size_t n = strlen(value);
    bool fine = n > 0 && n <= MULTIPART_BOUNDARY_MAX && value[n - 1] != ' ';
    for (size_t i = 0; fine && i < n; i++)
        fine = boundary_char(value[i]);
    if (fine)
        memcpy(boundary, value, n + 1);
    else
        e = err_set(em, ERR_INPUT, "Content-Type's boundary is not 1 to 70 boundary characters");
out:
    free(value);
    return e;
}

void multipart_init(struct multipart *m, const char *boundary, const struct multipart_sink *sink) {
    *m = (struct multipart){.sink = sink, .state = PREAMBLE};
    m->delimiter_len = (size_t)snprintf(m->delimiter, sizeof m->delimiter, "\r\n--%.70s", boundary);
    m->matched = 2; /* the first delimiter needs no line before it */
    buf_init(&m->headers, MULTIPART_HEADERS_MAX);
}

void multipart_clear(struct multipart *m) {
    buf_clear(&m->headers);
}

static enum err give(struct multipart *m, const char *bytes, size_t n, struct err_msg *em) {
    if (m->state != DATA || n == 0)
        return ERR_OK;
    return m->sink->data(m->sink->arg, bytes, n, em);
}

/* Preamble and data: up to and including the next delimiter. *used: bytes consumed. What is data is
 * handed on in one piece, so that a carriage return in it costs nothing. */
static enum err scan(struct multipart *m, const char *p, size_t n, size_t *used,
                     struct err_msg *em) {
    size_t i = 0;
    size_t before = m->matched; /* matched bytes that came with earlier pieces */
    enum err e = ERR_OK;
    while (e == ERR_OK && i < n && m->matched < m->delimiter_len) {
        if (m->matched > 0 && p[i] == m->delimiter[m->matched]) {
            m->matched++;
            i++;
        } else if (m->matched > 0) {
            e = give(m, m->delimiter, before, em);
            before = m->matched = 0;
        } else {
            const char *cr = memchr(p + i, '\r', n - i);
            i = cr == NULL ? n : (size_t)(cr - p) + 1;
            m->matched = cr != NULL;
        }
    }
    if (e == ERR_OK)
        e = give(m, p, i - (m->matched - before), em);
    *used = i;
    if (e != ERR_OK || m->matched < m->delimiter_len)
        return e;
    m->matched = 0;
    m->state = AFTER_DELIMITER;
    if (m->in_part) {
        m->in_part = false;
        e = m->sink->end(m->sink->arg, em);
    }
    return e;
}

static enum err read_disposition(const char *value, struct multipart_part *part,
                                 struct err_msg *em) {
    if (part->name != NULL)
        return err_set(em, ERR_INPUT, "multipart: a part has two Content-Disposition headers");
    if (!params_media_type_is(value, "form-data"))
        return err_set(em, ERR_INPUT, "multipart: a part is not form-data");
    if (!params_get(value, "name", &part->name) || part->name[0] == '\0')
        return err_set(em, ERR_INPUT, "multipart: a part has no name");
    if (!params_get_extended(value, "filename", &part->filename))
        (void)params_get(value, "filename", &part->filename);
    return ERR_OK;
}

static enum err read_header(char *line, struct multipart_part *part, struct err_msg *em) {
    char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || colon[-1] == ' ' || line[0] == ' ' || line[0] == '\t')
        return err_set(em, ERR_INPUT, "multipart: a part has a malformed header");
    *colon = '\0';
    char *value = colon + 1;
    value += strspn(value, " \t");
    if (strcasecmp(line, "content-disposition") == 0)
        return read_disposition(value, part, em);
    if (strcasecmp(line, "content-transfer-encoding") == 0 && strcasecmp(value, "binary") != 0 &&
        strcasecmp(value, "8bit") != 0 && strcasecmp(value, "7bit") != 0)
        return err_set(em, ERR_INPUT, "multipart: Content-Transfer-Encoding must be binary");
    return ERR_OK;
}

/* headers holds complete lines, the empty one included. */
static enum err begin_part(struct multipart *m, struct err_msg *em) {
    struct multipart_part part = {0};
    enum err e = ERR_OK;
    char *line = m->headers.data;
    if (strlen(line) != m->headers.len)
        e = err_set(em, ERR_INPUT, "multipart: a part's header has a NUL byte");
    while (e == ERR_OK && line[0] != '\r') {
        char *end = strstr(line, "\r\n");
        *end = '\0';
        if (strpbrk(line, "\r\n") != NULL)
            e = err_set(em, ERR_INPUT, "multipart: a header line does not end with CR LF");
        else
            e = read_header(line, &part, em);
        line = end + 2;
    }
    if (e == ERR_OK && part.name == NULL)
        e = err_set(em, ERR_INPUT, "multipart: a part has no Content-Disposition");
    if (e == ERR_OK)
        e = m->sink->begin(m->sink->arg, &part, em);
    free(part.name);
    free(part.filename);
    buf_reset(&m->headers);
    m->in_part = true;
    m->state = DATA;
    return e;
}

static enum err add_header_byte(struct multipart *m, char c, struct err_msg *em) {
    if (buf_add(&m->headers, &c, 1) != ERR_OK)
        return err_set(em, ERR_INPUT, "multipart: a part's headers are longer than %d bytes",
                       MULTIPART_HEADERS_MAX);
    size_t n = m->headers.len;
    const char *h = m->headers.data;
    bool complete =
        (n == 2 && memcmp(h, "\r\n", 2) == 0) || (n >= 4 && memcmp(h + n - 4, "\r\n\r\n", 4) == 0);
    return complete ? begin_part(m, em) : ERR_OK;
}

static enum err step(struct multipart *m, char c, struct err_msg *em) {
    switch (m->state) {
    case AFTER_DELIMITER:
        if (c == ' ' || c == '\t')
            return ERR_OK;
        m->state = c == '-' ? AFTER_DASH : AFTER_RETURN;
        if (c != '-' && c != '\r')
            return err_set(em, ERR_INPUT, "multipart: a boundary line has something after it");
        return ERR_OK;
    case AFTER_DASH:
        m->state = EPILOGUE;
        return c == '-' ? ERR_OK : err_set(em, ERR_INPUT, "multipart: malformed last boundary");
    case AFTER_RETURN:
        m->state = HEADERS;
        return c == '\n' ? ERR_OK : err_set(em, ERR_INPUT, "multipart: malformed boundary line");
    default:
        return add_header_byte(m, c, em);
    }
}

enum err multipart_feed(struct multipart *m, const char *bytes, size_t n, struct err_msg *em) {
    enum err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < n;) {
        size_t used = 1;
        if (m->state == EPILOGUE)
            return ERR_OK;
        if (m->state == PREAMBLE || m->state == DATA)
            e = scan(m, bytes + i, n - i, &used, em);
        else
            e = step(m, bytes[i], em);
        i += used;
    }
    return e;
}

enum err multipart_finish(struct multipart *m, struct err_msg *em) {
    if (m->state == EPILOGUE)
        return ERR_OK;
    return err_set(em, ERR_INPUT, "multipart: the body ends before its last boundary");
}
