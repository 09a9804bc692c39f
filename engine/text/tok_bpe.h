/* tok_bpe: the `model` of tokenizer.json, byte-pair encoding.
 *
 * What:    vocab, merges (as "a b" or ["a","b"]), unk_token, fuse_unk, byte_fallback,
 *          ignore_merges, continuing_subword_prefix, end_of_word_suffix.
 * Owns:    struct bpe owns its tables.
 * Threads: read-only after loading; a scratch belongs to one thread.
 * Errors:  every id and merge is checked: ERR_INPUT naming the entry. Dropout is ERR_UNSUPPORTED.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_BPE_H
#define FFWD_ENGINE_TEXT_TOK_BPE_H

#include "engine/text/tok_merge.h"
#include "engine/text/tok_vocab.h"
#include "engine/text/tok_text.h"
#include "engine/text/tokenizer.h"

struct bpe {
    struct vocab vocab;
    struct merges merges;
    struct merges joints; /* where merges can join symbols; unused if has_joints is false */
    bool has_joints;
    int32_t *char_id;     /* [65536] token of a single character, or -1 */
    int32_t byte_id[256]; /* token "<0xNN>", or -1 */
    struct text prefix;   /* continuing_subword_prefix */
    struct text suffix;   /* end_of_word_suffix */
    char *unk_token;      /* NULL: none */
    int32_t unk_id;       /* -1: none, or not in the vocabulary */
    bool fuse_unk, byte_fallback, ignore_merges;
};

enum err bpe_load(struct bpe *b, const json_t *json, const struct tok_path *at,
                  struct err_msg *em) NODISCARD;
void bpe_clear(struct bpe *b);

/* Zero-initialise. */
struct bpe_scratch {
    struct merge_scratch merge;
    struct text symbol;
};
void bpe_scratch_clear(struct bpe_scratch *s);

/* Appends the tokens of one word. */
enum err bpe_encode(const struct bpe *b, struct bpe_scratch *scratch, const char *s, size_t n,
                    struct ids *out, struct err_msg *em) NODISCARD;

#endif
