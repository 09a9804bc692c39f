/* jsonl: the lines of a JSONL file, one at a time, with constant memory.
 *
 * What:    splits a file into lines (LF or CRLF, last line with or without), checks that a line is
 *          strict UTF-8 without NUL, and parses it as one JSON object.
 * Owns:    the open file and one buffer; a line is valid until the next call.
 * Threads: one reader, one thread.
 * Errors:  only reading the file fails a call; what is wrong with a line is a struct line_fault.
 */
#ifndef FFWD_ENGINE_TEXT_JSONL_H
#define FFWD_ENGINE_TEXT_JSONL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/sha256.h"

struct jsonl;

struct jsonl_line {
    const char *data; /* len bytes, then a NUL; without the line end and without a BOM */
    size_t len;       /* at most LIMIT_ROW_BYTES */
    int64_t number;   /* from 1 */
    int64_t offset;   /* of data[0] in the file */
    bool too_long;    /* longer than LIMIT_ROW_BYTES: data holds only its beginning */
};

/* What is wrong with a line. */
struct line_fault {
    int64_t offset; /* byte offset in the file */
    char reason[ERR_TEXT_MAX];
};

/* hash (may be NULL) gets every byte of the file as it is read. */
enum err jsonl_open(const char *path, struct sha256 *hash, struct jsonl **out,
                    struct err_msg *em) NODISCARD;
void jsonl_close(struct jsonl *r);

/* *more is false at the end of the file; *line is then untouched. */
enum err jsonl_next(struct jsonl *r, struct jsonl_line *line, bool *more,
                    struct err_msg *em) NODISCARD;
/* Bytes read so far; all of the file once jsonl_next has said there is no more. */
int64_t jsonl_bytes(const struct jsonl *r);

/* Nothing but spaces and tabs. */
bool jsonl_blank(const struct jsonl_line *line);

/* The line's object, which the caller decrefs, or NULL with *fault filled. Refused: a line too
 * long, bytes that are not UTF-8 (RFC 3629), NUL, JSON that is not exactly one object (RFC 8259),
 * a key that stands twice in an object. */
json_t *jsonl_parse(const struct jsonl_line *line, struct line_fault *fault);

#endif
