/* tok_onig: Oniguruma patterns as PCRE2 patterns.
 *
 * What:    tokenizer.json's patterns are written for Oniguruma with Ruby syntax. The same text
 * means other things to PCRE2 (`^`, `\h`, `(?m)`, `\s`, sets inside classes, script names), and
 *          Oniguruma's Unicode is newer; the translation has the reference's meaning.
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  ERR_UNSUPPORTED for constructs without an equivalent, ERR_INPUT for malformed patterns.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_ONIG_H
#define FFWD_ENGINE_TEXT_TOK_ONIG_H

#include "base/err.h"
#include "engine/text/tok_text.h"

/* pattern: n bytes of valid UTF-8. Appends the translation. */
enum err onig_to_pcre(const char *pattern, size_t n, struct text *out,
                      struct err_msg *em) NODISCARD;

/* Where a property is written: by itself (\w), in a class ([\w]), as a POSIX bracket ([[:word:]]).
 */
enum onig_place { ONIG_ALONE, ONIG_CLASS, ONIG_BRACKET };

/* Appends the items that stand for property `name` inside […] (e.g. "\p{L}" and newer letters).
 * false if there is no such property. */
bool onig_property(const char *name, size_t n, enum onig_place place, struct text *items);

#endif
