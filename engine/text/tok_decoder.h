/* tok_decoder: the `decoder` of tokenizer.json.
 *
 * What:    ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, BPEDecoder, WordPiece, CTC and
 *          Sequence: each makes a list of strings of a list of strings; the last list is joined.
 * Owns:    struct tok_decoder its steps.
 * Threads: read-only after loading.
 * Errors:  unknown types are ERR_UNSUPPORTED naming the type.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_DECODER_H
#define FFWD_ENGINE_TEXT_TOK_DECODER_H

#include "engine/text/tok_pattern.h"

struct tok_decoder {
    bool present; /* without a decoder tokens are joined by spaces */
    struct decoder_step *steps;
    size_t n_steps;
};

enum err tok_decoder_load(struct tok_decoder *d, const json_t *json, const struct tok_path *at,
                          struct err_msg *em) NODISCARD;
void tok_decoder_clear(struct tok_decoder *d);

/* Appends the text of the tokens. */
enum err tok_decoder_run(const struct tok_decoder *d, const struct strings *tokens,
                         struct text *out, struct err_msg *em) NODISCARD;

#endif
