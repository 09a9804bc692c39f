/* multipart: a multipart/form-data body read piece by piece.
 *
 * What:    an incremental parser (RFC 7578) in constant memory: parts in any order and any size,
 *          data handed on as it comes.
 * Owns:    its state and one bounded buffer of part headers.
 * Threads: one parser, one thread.
 * Errors:  ERR_INPUT with a sentence for a malformed body; what the sink returns is passed on.
 */
#ifndef FFWD_SERVER_MULTIPART_H
#define FFWD_SERVER_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define MULTIPART_BOUNDARY_MAX 70  /* RFC 2046 §5.1.1 */
#define MULTIPART_HEADERS_MAX 8192 /* bytes of one part's headers */

struct multipart_part {
    char *name;     /* never NULL */
    char *filename; /* NULL: the part has no filename parameter */
};

struct multipart_sink {
    void *arg;
    enum err (*begin)(void *arg, const struct multipart_part *part, struct err_msg *em);
    enum err (*data)(void *arg, const void *bytes, size_t n, struct err_msg *em);
    enum err (*end)(void *arg, struct err_msg *em);
};

struct multipart {
    const struct multipart_sink *sink;
    char delimiter[4 + MULTIPART_BOUNDARY_MAX + 1]; /* CR LF - - boundary */
    size_t delimiter_len;
    size_t matched; /* bytes of the delimiter that the input's end matches */
    int state;
    bool in_part;
    struct buf headers;
};

/* The boundary of a Content-Type header's value; ERR_UNSUPPORTED if it is not multipart/form-data,
 * ERR_INPUT for a missing or impossible boundary. */
enum err multipart_boundary(const char *content_type, char boundary[MULTIPART_BOUNDARY_MAX + 1],
                            struct err_msg *em) NODISCARD;
void multipart_init(struct multipart *m, const char *boundary, const struct multipart_sink *sink);
/* After an error the parser must not be fed again. */
enum err multipart_feed(struct multipart *m, const char *bytes, size_t n,
                        struct err_msg *em) NODISCARD;
/* The body has ended: ERR_INPUT unless the closing boundary was there. */
enum err multipart_finish(struct multipart *m, struct err_msg *em) NODISCARD;
void multipart_clear(struct multipart *m);

#endif
