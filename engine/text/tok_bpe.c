/* tok_bpe: the `model` of tokenizer.json, byte-pair encoding: reading it. */
#include "engine/text/tok_bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

#define MAX_AFFIX 256 /* bytes of a prefix or suffix */

/* The two halves of one entry of `merges`. */
static enum err merge_halves(const json_t *entry, const char *half[2], size_t len[2],
                             const struct tok_path *at, struct err_msg *em) {
    if (json_is_array(entry) && json_array_size(entry) == 2) {
        for (size_t k = 0; k < 2; k++) {
            const json_t *s = json_array_get(entry, k);
            if (!json_is_string(s))
                return tok_json_error(at, ERR_INPUT, em, "must be two strings");
            half[k] = json_string_value(s);
            len[k] = json_string_length(s);
        }
        return ERR_OK;
    }
    const char *s = json_string_value(entry);
    const char *space = s != NULL ? strchr(s, ' ') : NULL;
    if (space == NULL || strchr(space + 1, ' ') != NULL)
        return tok_json_error(at, ERR_INPUT, em,
                              "must be \"left right\" with one space, or [\"left\", \"right\"]");
    half[0] = s;
    len[0] = (size_t)(space - s);
    half[1] = space + 1;
    len[1] = strlen(space + 1);
    return ERR_OK;
}

static enum err load_merge(struct bpe *b, const json_t *entry, struct text *joined,
                           const struct tok_path *at, struct err_msg *em) {
    const char *half[2];
    size_t len[2];
    struct merge merge;
    enum err e = merge_halves(entry, half, len, at, em);
    if (e != ERR_OK)
        return e;
    if (len[1] < b->prefix.len)
        return tok_json_error(at, ERR_INPUT, em,
                              "the right half is shorter than continuing_subword_prefix");
    text_reset(joined);
    text_add(joined, half[0], len[0]);
    text_add(joined, half[1] + b->prefix.len, len[1] - b->prefix.len);
    merge.left = vocab_find(&b->vocab, half[0], len[0]);
    merge.right = vocab_find(&b->vocab, half[1], len[1]);
    merge.made = vocab_find(&b->vocab, joined->len > 0 ? joined->data : "", joined->len);
    if (merge.left < 0 || merge.right < 0 || merge.made < 0)
        return tok_json_error(at, ERR_INPUT, em, "a half or the whole is not in the vocabulary");
    merges_add(&b->merges, merge);
    return ERR_OK;
}

static enum err load_merges(struct bpe *b, const json_t *json, const struct tok_path *up,
                            struct err_msg *em) {
    const json_t *list, *entry;
    enum err e = tok_json_array(json, "merges", &list, up, em);
    if (e != ERR_OK)
        return e;
    const struct tok_path at = {up, "merges", 0};
    if (json_array_size(list) > LIMIT_VOCAB)
        return tok_json_error(&at, ERR_LIMIT, em, "more than %d merges", LIMIT_VOCAB);
    merges_init(&b->merges, json_array_size(list));
    struct text joined = {0};
    size_t i;
    json_array_foreach(list, i, entry) {
        const struct tok_path here = {&at, NULL, i};
        const char *s = json_string_value(entry);
        if (s != NULL && strncmp(s, "#version", 8) == 0) /* the first line of a merges.txt */
            continue;
        e = load_merge(b, entry, &joined, &here, em);
        if (e != ERR_OK)
            break;
    }
    text_clear(&joined);
    return e;
}

static enum err load_affix(struct text *out, const json_t *json, const char *key,
                           const struct tok_path *at, struct err_msg *em) {
    const char *s;
    size_t n;
    enum err e = tok_json_string(json, key, false, &s, &n, at, em);
    if (e == ERR_OK && n > MAX_AFFIX)
        e = tok_json_error(at, ERR_LIMIT, em, "`%s` is longer than %d bytes", key, MAX_AFFIX);
    if (e == ERR_OK && s != NULL)
        text_add(out, s, n);
    return e;
}

static enum err load_options(struct bpe *b, const json_t *json, const struct tok_path *at,
                             struct err_msg *em) {
    const json_t *dropout = json_object_get(json, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) != 0.0)
        return tok_json_error(at, ERR_UNSUPPORTED, em,
                              "`dropout` makes tokens random; set it to null");
    enum err e = load_affix(&b->prefix, json, "continuing_subword_prefix", at, em);
    if (e == ERR_OK)
        e = load_affix(&b->suffix, json, "end_of_word_suffix", at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "fuse_unk", false, &b->fuse_unk, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "byte_fallback", false, &b->byte_fallback, at, em);
    if (e == ERR_OK)
        e = tok_json_bool(json, "ignore_merges", false, &b->ignore_merges, at, em);
    const char *unk = NULL;
    if (e == ERR_OK)
        e = tok_json_string(json, "unk_token", false, &unk, NULL, at, em);
    if (e == ERR_OK && unk != NULL)
        b->unk_token = xstrdup(unk);
    return e;
}

/* Whether the text of a word can start out as this token, without any merge. */
static bool may_be_symbol(const struct bpe *b, int32_t id) {
    size_t n, len = 0;
    const char *s = vocab_string(&b->vocab, id, &n);
    if (n > 0)
        (void)utf8_get(s, s + n, &len);
    return len == n || id == b->unk_id || (n == 6 && memcmp(s, "<0x", 3) == 0);
}

/* Joints are only sound where symbols and made tokens are different things. */
static void fill_joints(struct bpe *b) {
    bool sound = b->prefix.len + b->suffix.len == 0;
    for (size_t i = 0; i < b->merges.n && sound; i++)
        sound = !may_be_symbol(b, b->merges.by_rank[i].made);
    b->has_joints = sound && merges_joints(&b->merges, b->vocab.n_ids, &b->joints);
}

static void fill_tables(struct bpe *b) {
    char s[8];
    b->char_id = xmalloc(65536 * sizeof *b->char_id);
    for (uint32_t cp = 0; cp < 65536; cp++)
        b->char_id[cp] =
            cp >= 0xD800 && cp < 0xE000 ? -1 : vocab_find(&b->vocab, s, utf8_put(cp, s));
    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(s, sizeof s, "<0x%02X>", i);
        b->byte_id[i] = vocab_find(&b->vocab, s, 6);
    }
    b->unk_id =
        b->unk_token == NULL ? -1 : vocab_find(&b->vocab, b->unk_token, strlen(b->unk_token));
    fill_joints(b);
}

enum err bpe_load(struct bpe *b, const json_t *json, const struct tok_path *at,
                  struct err_msg *em) {
    *b = (struct bpe){0};
    if (!json_is_object(json))
        return tok_json_error(at, ERR_INPUT, em, "must be an object");
    const char *type;
    enum err e = tok_json_string(json, "type", false, &type, NULL, at, em);
    if (e == ERR_OK && type != NULL && strcmp(type, "BPE") != 0)
        e = tok_json_error(at, ERR_UNSUPPORTED, em, "model type `%.40s` is not supported, only BPE",
                           type);
    if (e == ERR_OK)
        e = load_options(b, json, at, em);
    const struct tok_path vocab = {at, "vocab", 0};
    if (e == ERR_OK)
        e = vocab_load(&b->vocab, json_object_get(json, "vocab"), &vocab, em);
    if (e == ERR_OK)
        e = load_merges(b, json, at, em);
    if (e == ERR_OK)
        fill_tables(b);
    return e;
}

void bpe_clear(struct bpe *b) {
    vocab_clear(&b->vocab);
    merges_clear(&b->merges);
    merges_clear(&b->joints);
    free(b->char_id);
    text_clear(&b->prefix);
    text_clear(&b->suffix);
    free(b->unk_token);
    *b = (struct bpe){0};
}
