/* tokenizer: text to token ids and back, as Hugging Face's `tokenizers` does it.
 *
 * What:    reads `tokenizer.json` (BPE models: byte-level and SentencePiece-style with byte
 *          fallback), with every normalizer, pre-tokenizer, added-token flag and post-processor
 *          such files use. `padding` and `truncation` in the file are ignored.
 * Owns:    struct tokenizer owns all tables; it is read-only after opening.
 * Threads: encode and decode are safe from several threads on one tokenizer.
 * Errors:  a malformed file is ERR_INPUT naming the JSON path; an unknown component type is
 *          ERR_UNSUPPORTED naming it. Text must be UTF-8: ERR_INPUT with the byte offset if not.
 */
#ifndef FFWD_ENGINE_TEXT_TOKENIZER_H
#define FFWD_ENGINE_TEXT_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tokenizer;

/* A growing list of token ids. Zero-initialise; free with ids_clear. */
struct ids {
    int32_t *data;
    size_t len;
    size_t cap;
};
void ids_add(struct ids *ids, int32_t id);
void ids_reset(struct ids *ids); /* len = 0, memory kept */
void ids_clear(struct ids *ids);

/* model_dir: folder with tokenizer.json. ERR_NOT_FOUND if there is none. */
enum err tokenizer_open(const char *model_dir, struct tokenizer **out,
                        struct err_msg *em) NODISCARD;
void tokenizer_close(struct tokenizer *tok);

enum tokenizer_flags {
    TOKENIZER_PARSE_SPECIAL = 1, /* special tokens written in the text become their ids */
    TOKENIZER_ADD_SPECIAL = 2,   /* add what the post-processor adds (e.g. BOS) */
    TOKENIZER_CONTINUE = 4,      /* the text follows a special token: nothing is done that is done
                                    only at the start of a text (Metaspace's "first" prefix) */
};

/* Appends the ids of len bytes of text to *out. Without PARSE_SPECIAL, added tokens whose `special`
 * flag is set are plain text, so that user content cannot forge a role. */
enum err tokenizer_encode(const struct tokenizer *tok, const char *text, size_t len, unsigned flags,
                          struct ids *out, struct err_msg *em) NODISCARD;

/* New NUL-terminated UTF-8 string of n ids (as decode(ids, skip_special_tokens=False)); the caller
 * frees *text; *len may be NULL. An id outside the vocabulary is ERR_INPUT. */
enum err tokenizer_decode(const struct tokenizer *tok, const int32_t *ids, size_t n, char **text,
                          size_t *len, struct err_msg *em) NODISCARD;

/* Id of a token by its content (added tokens first, then the model's vocabulary), or -1. */
int32_t tokenizer_id(const struct tokenizer *tok, const char *token);

/* One more than the highest id. */
int32_t tokenizer_vocab_size(const struct tokenizer *tok);

#endif
