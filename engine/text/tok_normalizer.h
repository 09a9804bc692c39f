/* tok_normalizer: the `normalizer` of tokenizer.json.
 *
 * What:    Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend,
 *          BertNormalizer, Nmt, Precompiled, ByteLevel, applied in order.
 * Owns:    struct tok_normalizer owns its steps.
 * Threads: read-only after loading.
 * Errors:  unknown types are ERR_UNSUPPORTED naming the type.
 *
 * Beside the text runs `zero`: how many of its leading bytes stem from the first character of the
 * whole input. Metaspace's prepend scheme "first" asks for that.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_NORMALIZER_H
#define FFWD_ENGINE_TEXT_TOK_NORMALIZER_H

#include "engine/text/tok_pattern.h"

struct tok_normalizer {
    struct norm_step *steps;
    size_t n_steps;
};

/* json: the object, or NULL/null for none. */
enum err tok_normalizer_load(struct tok_normalizer *t, const json_t *json,
                             const struct tok_path *at, struct err_msg *em) NODISCARD;
void tok_normalizer_clear(struct tok_normalizer *t);

/* A text under way; in points at the caller's bytes or into one of the two buffers. */
struct norm_text {
    const char *s;
    size_t len;
    size_t zero;
    struct text buffer[2];
};
/* Normalizes t->s. The result stays valid until the next use of t. */
enum err tok_normalize(const struct tok_normalizer *n, struct norm_text *t,
                       struct tok_scratch *scratch, struct err_msg *em) NODISCARD;
void norm_text_clear(struct norm_text *t);

#endif
