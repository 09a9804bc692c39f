/* tok_pretok: the `pre_tokenizer` of tokenizer.json.
 *
 * What:    Sequence, ByteLevel, Split, Metaspace, Punctuation, Digits, Whitespace, WhitespaceSplit,
 *          CharDelimiterSplit, BertPreTokenizer, FixedLength as a chain of stages; every piece that
 *          one stage makes runs through the next at once, so no list of pieces is kept.
 * Owns:    struct tok_pretok owns its stages; struct pretok_run its buffers.
 * Threads: stages are read-only after loading; a run belongs to one thread.
 * Errors:  unknown types are ERR_UNSUPPORTED naming the type.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_PRETOK_H
#define FFWD_ENGINE_TEXT_TOK_PRETOK_H

#include "engine/text/tok_pattern.h"

struct tok_pretok {
    struct pretok_stage *stages;
    size_t n_stages;
};

enum err tok_pretok_load(struct tok_pretok *p, const json_t *json, const struct tok_path *at,
                         struct err_msg *em) NODISCARD;
void tok_pretok_clear(struct tok_pretok *p);

/* A stretch of text; zero as in tok_normalizer.h. */
struct piece {
    const char *s;
    size_t len;
    size_t zero;
};

struct pretok_run {
    const struct tok_pretok *pretok;
    struct tok_scratch *scratch;
    struct text *buffers;                                                         /* [n_stages] */
    enum err (*word)(void *context, const char *s, size_t n, struct err_msg *em); /* takes words */
    void *context;
    struct err_msg *em;
};
void pretok_run_init(struct pretok_run *r, const struct tok_pretok *p);
void pretok_run_clear(struct pretok_run *r);
/* Hands the words of a piece to r->word, in order. */
enum err pretok_run(struct pretok_run *r, struct piece p) NODISCARD;

#endif
