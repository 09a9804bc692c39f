/* tok_bpe_encode: one word to its tokens. */
#include <stdint.h>

#include "engine/text/tok_bpe.h"

void bpe_scratch_clear(struct bpe_scratch *s) {
    merge_scratch_clear(&s->merge);
    text_clear(&s->symbol);
}

/* The symbols of a word under way. An unknown character waits for the next known one, so that
 * several can become one token; bytes of the fallback do not end the wait (as the reference). */
struct symbols {
    const struct bpe *bpe;
    struct bpe_scratch *scratch;
    size_t n;
    bool unk_waits;
};

static void add(struct symbols *w, int32_t id) {
    merge_scratch_reserve(&w->scratch->merge, w->n + 1);
    w->scratch->merge.id[w->n++] = id;
}

static bool add_bytes(struct symbols *w, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (w->bpe->byte_id[(unsigned char)s[i]] < 0)
            return false;
    for (size_t i = 0; i < n; i++)
        add(w, w->bpe->byte_id[(unsigned char)s[i]]);
    return true;
}

static enum err add_unknown(struct symbols *w, const char *s, size_t n, struct err_msg *em) {
    const struct bpe *b = w->bpe;
    if (b->byte_fallback && add_bytes(w, s, n))
        return ERR_OK;
    if (b->unk_token == NULL) /* the character vanishes */
        return ERR_OK;
    if (b->unk_id < 0)
        return err_set(em, ERR_INPUT,
                       "the text has a character that the tokenizer lacks, and its unk_token "
                       "`%.60s` is not in its vocabulary",
                       b->unk_token);
    if (w->unk_waits && !b->fuse_unk)
        add(w, b->unk_id);
    w->unk_waits = true;
    return ERR_OK;
}

static void flush_unknown(struct symbols *w) {
    if (w->unk_waits)
        add(w, w->bpe->unk_id);
    w->unk_waits = false;
}

/* Id of the symbol that a character at begin…end of the word s[0…n) starts as; *symbol is its
 * spelling with prefix and suffix. */
static int32_t symbol_id(struct symbols *w, const char *s, size_t begin, size_t end, size_t n,
                         const char **symbol, size_t *len) {
    const struct bpe *b = w->bpe;
    *symbol = s + begin;
    *len = end - begin;
    if (b->prefix.len + b->suffix.len > 0) {
        struct text *t = &w->scratch->symbol;
        text_reset(t);
        if (begin > 0)
            text_add(t, b->prefix.data, b->prefix.len);
        text_add(t, s + begin, end - begin);
        if (end == n)
            text_add(t, b->suffix.data, b->suffix.len);
        *symbol = t->data;
        *len = t->len;
    }
    return vocab_find(&b->vocab, *symbol, *len);
}

enum err bpe_encode(const struct bpe *b, struct bpe_scratch *scratch, const char *s, size_t n,
                    struct ids *out, struct err_msg *em) {
    if (n >= INT32_MAX)
        return err_set(em, ERR_LIMIT, "a word of more than 2^31 bytes");
    if (b->ignore_merges) {
        int32_t whole = vocab_find(&b->vocab, s, n);
        if (whole >= 0) {
            ids_add(out, whole);
            return ERR_OK;
        }
    }
    bool plain = b->prefix.len + b->suffix.len == 0;
    struct symbols w = {.bpe = b, .scratch = scratch};
    merge_scratch_reserve(&scratch->merge, n < 256 ? n : n / 2);
    for (size_t at = 0, len; at < n; at += len) {
        uint32_t cp = utf8_get(s + at, s + n, &len);
        const char *symbol = s + at;
        size_t symbol_len = len;
        int32_t id = plain && cp < 65536 ? b->char_id[cp]
                                         : symbol_id(&w, s, at, at + len, n, &symbol, &symbol_len);
        if (id >= 0) {
            flush_unknown(&w);
            add(&w, id);
            continue;
        }
        enum err e = add_unknown(&w, symbol, symbol_len, em);
        if (e != ERR_OK)
            return e;
    }
    flush_unknown(&w);
    size_t tokens = merge_word(&b->merges, b->has_joints ? &b->joints : NULL, &scratch->merge, w.n);
    for (size_t i = 0; i < tokens; i++)
        ids_add(out, scratch->merge.id[i]);
    return ERR_OK;
}
