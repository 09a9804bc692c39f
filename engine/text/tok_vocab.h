/* tok_vocab: the model's vocabulary, both ways.
 *
 * What:    string → id by a hash table with a random seed, id → string by a table.
 * Owns:    copies of all strings.
 * Threads: read-only after it is filled.
 * Errors:  an id out of bounds or given twice is ERR_INPUT.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_VOCAB_H
#define FFWD_ENGINE_TEXT_TOK_VOCAB_H

#include "base/err.h"
#include "engine/text/tok_json.h"

struct vocab {
    char *bytes;     /* all strings, end to end */
    uint32_t *start; /* [n_ids + 1]; string of id is bytes[start[id]…start[id + 1]) */
    uint8_t *have;   /* [n_ids] whether the id has a string */
    int32_t *slot;   /* [n_slots] id or -1 */
    size_t n_slots;  /* a power of two */
    size_t n_ids;    /* highest id + 1 */
    size_t n_tokens;
    uint64_t seed;
};

/* tokens: a JSON object of string → id. */
enum err vocab_load(struct vocab *v, const json_t *tokens, const struct tok_path *at,
                    struct err_msg *em) NODISCARD;
void vocab_clear(struct vocab *v);
/* -1 if there is no such token. */
int32_t vocab_find(const struct vocab *v, const char *s, size_t n);
/* NULL if the id has no string. */
const char *vocab_string(const struct vocab *v, int64_t id, size_t *n);

/* A hash of bytes for open-addressing tables. */
uint64_t vocab_hash(uint64_t seed, const char *s, size_t n);
uint64_t vocab_hash_seed(void);

#endif
