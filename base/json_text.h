/* json_text: JSON written as text, and parts of stored JSON found in it, without a tree.
 *
 * What:    a writer that puts the commas itself; its text is, byte for byte, what jansson makes of
 *          the same values in its compact form. A part is the text of one value inside of another.
 * Owns:    the writer its text, until json_text_take; a part points into the text it was found in.
 * Threads: plain data.
 * Errors:  a writer that ran out of room drops what follows, and json_text_take tells.
 */
#ifndef FFWD_BASE_JSON_TEXT_H
#define FFWD_BASE_JSON_TEXT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

struct json_part {
    const char *at; /* NULL: there is none */
    size_t len;
};

/* Finds members of an object by name, in one pass: out[i] is the value of names[i]. object: JSON
 * text that a NUL follows, in which no name stands twice; what is no object, or is cut off, has no
 * members (or no more). */
void json_parts(const char *object, const char *const *names, int n, struct json_part *out);
struct json_part json_part_of(const char *object, const char *name);
/* text NULL: none */
struct json_part json_part_whole(const char *text);
/* '{' '[' '"' '0' (a number) 't' 'f' 'n', or '\0' where there is no value. */
char json_part_kind(struct json_part p);
/* Of a number; else 0. */
double json_part_number(struct json_part p);

struct json_text {
    struct buf out;
    bool comma, full;
};

void json_text_init(struct json_text *w, size_t max);
void json_text_clear(struct json_text *w);
/* The text, whose owner is the caller; ERR_LIMIT (and *text NULL) if it did not fit. */
enum err json_text_take(struct json_text *w, char **text, struct err_msg *em) NODISCARD;

void json_text_open(struct json_text *w, char bracket); /* '{' or '[' */
void json_text_close(struct json_text *w, char bracket);
/* name: plain ASCII, nothing to escape */
static inline void json_text_key(struct json_text *w, const char *name);
/* NULL is null; in what is not UTF-8 every byte above 127 becomes '?'. */
void json_text_string(struct json_text *w, const char *text);
void json_text_integer(struct json_text *w, int64_t value);
void json_text_real(struct json_text *w, double value); /* not finite: null */
void json_text_bool(struct json_text *w, bool value);
void json_text_null(struct json_text *w);
void json_text_part(struct json_text *w, struct json_part p); /* as it is; none: null */
/* Text that may stand here, with the commas it needs; a value follows that needs none before it. */
static inline void json_text_add(struct json_text *w, const char *text);
/* A value that was written before: len bytes of the text. */
void json_text_repeat(struct json_text *w, size_t from, size_t len);

/* ---- private -------------------------------------------------------------------------------- */

void json_text__key(struct json_text *w, const char *name, size_t len);
void json_text__add(struct json_text *w, const char *text, size_t len);

/* Here, so that the length of a literal is known when it is compiled. */
static inline void json_text_key(struct json_text *w, const char *name) {
    json_text__key(w, name, strlen(name));
}

static inline void json_text_add(struct json_text *w, const char *text) {
    json_text__add(w, text, strlen(text));
}

#endif
