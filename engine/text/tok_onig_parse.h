/* tok_onig_parse: the reading state of tok_onig, its escapes and its character classes.
 *
 * What:    internal to tok_onig*.c.
 * Owns:    nothing.
 * Threads: one translation, one thread.
 * Errors:  as tok_onig.h, with the byte offset in the pattern.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_ONIG_PARSE_H
#define FFWD_ENGINE_TEXT_TOK_ONIG_PARSE_H

#include "engine/text/tok_onig.h"

struct onig {
    const char *begin, *p, *end; /* the pattern and the place reached */
    struct text *out;
    size_t atom;     /* where in out the last atom starts; -1: none */
    bool quantified; /* a quantifier stands behind that atom */
    bool extended;   /* (?x): white space and comments do not count */
    struct err_msg *em;
};

enum err onig_fail(struct onig *o, enum err code, const char *what);
bool onig_at(const struct onig *o, const char *s);
/* Steps over ')'. */
enum err onig_close(struct onig *o) NODISCARD;
void onig_literal(struct text *out, uint32_t cp);
/* A backslash outside a class. */
enum err onig_escape(struct onig *o, struct text *out) NODISCARD;
/* Behind '[': up to and with the ']'. Appends an expression for one character. */
enum err onig_class(struct onig *o, struct text *out, int depth) NODISCARD;
/* Reads a set escape (\d, \p{…}) at p; *found false if it is none. items as in a class. */
enum err onig_set(struct onig *o, enum onig_place place, struct text *items, bool *negated,
                  bool *found) NODISCARD;
/* Reads an escaped single character at p. */
enum err onig_char(struct onig *o, bool in_class, uint32_t *cp) NODISCARD;

#endif
