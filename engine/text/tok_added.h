/* tok_added: the `added_tokens` of tokenizer.json.
 *
 * What:    tokens that are cut out of the text before the model sees it: those with normalized
 * false from the raw text, the others from the normalized text; leftmost, longest first. Ids are
 *          given as the reference does: from the vocabulary, else counting on from its size.
 * Owns:    struct added its tokens and tries.
 * Threads: read-only after loading.
 * Errors:  ERR_INPUT naming the entry.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_ADDED_H
#define FFWD_ENGINE_TEXT_TOK_ADDED_H

#include "engine/text/tok_normalizer.h"
#include "engine/text/tok_vocab.h"

struct added_token {
    char *content; /* as written */
    size_t len;
    char *form; /* content, or what the normalizer makes of it; what is searched and decoded to */
    size_t form_len;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
};

struct trie_node {
    int32_t child, sibling; /* -1: none */
    int32_t token;          /* index of the token that ends here, or -1 */
    unsigned char byte;
};
struct trie {
    struct trie_node *node;
    size_t n, cap;
    int32_t root[256];
};

struct added {
    struct added_token *token;
    size_t n;
    int32_t *by_id; /* [n_ids] index or -1 */
    size_t n_ids;
    struct trie raw, normalized;
};

/* json: the list, or NULL for none. */
enum err added_load(struct added *a, const json_t *json, const struct vocab *vocab,
                    const struct tok_normalizer *normalizer, const struct tok_path *at,
                    struct err_msg *em) NODISCARD;
void added_clear(struct added *a);
/* The token with this id or this content; NULL if none was added. */
const struct added_token *added_by_id(const struct added *a, int64_t id);
const struct added_token *added_by_content(const struct added *a, const char *s, size_t n);

/* A walk through s[0…len). */
struct added_find {
    const struct added *added;
    const struct trie *trie;
    bool special; /* special tokens count */
    const char *s;
    size_t len;
    size_t at;   /* where the search goes on */
    size_t done; /* end of the last token, with the space it took */
};
/* Finds the next token: plain text s[*begin…*end) comes before it (*begin == *end: none). NULL: no
 * further token, and the plain text is the rest. */
const struct added_token *added_next(struct added_find *f, size_t *begin, size_t *end);

#endif
