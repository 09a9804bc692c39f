/* tok_unicode: character classes, case and normal forms for the tokenizer.
 *
 * What:    the classes that normalizers and pre-tokenizers test, lower case, NFC, NFD, NFKC, NFKD
 *          (decomposition and composition by utf8proc; ordering of marks is linear here).
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  none; text must be valid UTF-8.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_UNICODE_H
#define FFWD_ENGINE_TEXT_TOK_UNICODE_H

#include "engine/text/tok_text.h"

bool tok_is_whitespace(uint32_t cp);  /* White_Space */
bool tok_is_numeric(uint32_t cp);     /* Nd, Nl, No */
bool tok_is_punctuation(uint32_t cp); /* P and the ASCII symbols */
bool tok_is_control(uint32_t cp);     /* Cc, Cf, Co without tab, LF, CR */
bool tok_is_nonspacing(uint32_t cp);  /* Mn */
bool tok_is_mark(uint32_t cp);        /* M */
bool tok_is_chinese(uint32_t cp);     /* the CJK ideograph blocks BERT names */
bool tok_is_word(uint32_t cp);        /* \w of Unicode: letters, marks, digits, connectors */

/* Appends the lower case of s, character by character. */
void tok_lowercase(const char *s, size_t n, struct text *out);

enum tok_form { TOK_NFC, TOK_NFD, TOK_NFKC, TOK_NFKD };
/* Appends the normal form of s. */
void tok_normal_form(enum tok_form form, const char *s, size_t n, struct text *out);

#endif
