/* tok_precompiled: SentencePiece's precompiled character map.
 *
 * What:    a double-array trie from byte strings to replacements, applied grapheme by grapheme,
 *          then character by character, as the Precompiled normalizer does.
 * Owns:    the decoded map.
 * Threads: read-only after loading.
 * Errors:  a map that is cut short or points outside itself is ERR_INPUT.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_PRECOMPILED_H
#define FFWD_ENGINE_TEXT_TOK_PRECOMPILED_H

#include "engine/text/tok_json.h"
#include "engine/text/tok_text.h"

struct precompiled {
    unsigned char *blob;
    const unsigned char *units; /* [n_units] little-endian 32-bit */
    size_t n_units;
    const char *strings; /* [strings_len] NUL-separated replacements */
    size_t strings_len;
};

/* base64: the field `precompiled_charsmap`. */
enum err precompiled_load(struct precompiled *p, const char *base64, size_t len,
                          const struct tok_path *at, struct err_msg *em) NODISCARD;
void precompiled_clear(struct precompiled *p);
void precompiled_apply(const struct precompiled *p, const char *s, size_t n, struct text *out);

#endif
