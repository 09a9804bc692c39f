/* tok_text: UTF-8 and the two containers that the tokenizer's stages hand on.
 *
 * What:    decode, encode and check UTF-8; a growing byte string; a list of strings.
 * Owns:    a struct text or struct strings owns its memory; clear frees it.
 * Threads: one owner at a time.
 * Errors:  none; sizes grow with the text that the caller bounded, out of memory ends the process.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_TEXT_H
#define FFWD_ENGINE_TEXT_TOK_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of s before the first that is not UTF-8 (overlong forms, surrogates and code points above
 * U+10FFFF are not); len if there is none. */
size_t utf8_valid_prefix(const char *s, size_t len);

/* The code point at s, which must be valid UTF-8 with s < end; *n gets its length in bytes. */
uint32_t utf8_get(const char *s, const char *end, size_t *n);
/* The code point that ends right before s (begin < s); *n gets its length. */
uint32_t utf8_get_before(const char *begin, const char *s, size_t *n);
/* Writes cp (≤ U+10FFFF) to out[4]; returns its length. */
size_t utf8_put(uint32_t cp, char *out);

/* Bytes; zero-initialise. Not NUL-terminated. */
struct text {
    char *data;
    size_t len;
    size_t cap;
};
void text_add(struct text *t, const char *bytes, size_t n);
void text_add_cp(struct text *t, uint32_t cp);
void text_reset(struct text *t);
void text_clear(struct text *t);
/* Appends bytes that may not be UTF-8, each maximal ill-formed part as U+FFFD (as WHATWG, and
 * Rust's from_utf8_lossy). */
void text_add_lossy(struct text *t, const char *bytes, size_t n);

/* A list of strings, in one buffer; zero-initialise. String i is bytes.data[end[i-1]…end[i]). */
struct strings {
    struct text bytes;
    size_t *end;
    size_t len;
    size_t cap;
};
/* Ends the string that text_add put behind the last one. */
void strings_close(struct strings *l);
void strings_add(struct strings *l, const char *s, size_t n);
const char *strings_get(const struct strings *l, size_t i, size_t *n);
void strings_reset(struct strings *l);
void strings_clear(struct strings *l);

#endif
