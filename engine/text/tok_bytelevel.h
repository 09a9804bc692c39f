/* tok_bytelevel: GPT-2's printable stand-ins for the 256 bytes.
 *
 * What:    bytes '!'…'~', 0xA1…0xAC, 0xAE…0xFF stand for themselves as code points, the others in
 *          order are U+0100, U+0101, …
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_BYTELEVEL_H
#define FFWD_ENGINE_TEXT_TOK_BYTELEVEL_H

#include "engine/text/tok_text.h"

/* Appends the stand-ins of n bytes. */
void bytelevel_encode(const char *bytes, size_t n, struct text *out);
/* The byte a code point stands for, or -1. */
int bytelevel_byte(uint32_t cp);

#endif
