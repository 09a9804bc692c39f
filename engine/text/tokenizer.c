/* tokenizer: text to token ids and back, as Hugging Face's `tokenizers` does it. */
#include "engine/text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "engine/text/tok_added.h"
#include "engine/text/tok_bpe.h"
#include "engine/text/tok_decoder.h"
#include "engine/text/tok_normalizer.h"
#include "engine/text/tok_post.h"
#include "engine/text/tok_pretok.h"

struct tokenizer {
    struct tok_normalizer normalizer;
    struct tok_pretok pretok;
    struct bpe model;
    struct added added;
    struct tok_post post;
    struct tok_decoder decoder;
    int32_t vocab_size;
};

void ids_add(struct ids *ids, int32_t id) {
    if (ids->len == ids->cap) {
        ids->cap = ids->cap == 0 ? 64 : ids->cap * 2;
        ids->data = xreallocarray(ids->data, ids->cap, sizeof *ids->data);
    }
    ids->data[ids->len++] = id;
}

void ids_reset(struct ids *ids) {
    ids->len = 0;
}

void ids_clear(struct ids *ids) {
    free(ids->data);
    *ids = (struct ids){0};
}

/* ---- opening ----------------------------------------------------------------------------- */

static int32_t highest_id(const struct tokenizer *tok) {
    size_t n = tok->model.vocab.n_ids;
    for (size_t i = 0; i < tok->added.n; i++)
        if ((size_t)tok->added.token[i].id + 1 > n)
            n = (size_t)tok->added.token[i].id + 1;
    return (int32_t)n - 1;
}

static enum err load(struct tokenizer *tok, const json_t *root, struct err_msg *em) {
    static const struct tok_path model = {NULL, "model", 0}, added = {NULL, "added_tokens", 0},
                                 normalizer = {NULL, "normalizer", 0},
                                 pretok = {NULL, "pre_tokenizer", 0},
                                 post = {NULL, "post_processor", 0}, decoder = {NULL, "decoder", 0};
    const char *version;
    enum err e = tok_json_string(root, "version", false, &version, NULL, NULL, em);
    if (e == ERR_OK && version != NULL && strcmp(version, "1.0") != 0)
        e = err_set(em, ERR_UNSUPPORTED, "version `%.20s` is not supported, only 1.0", version);
    if (e == ERR_OK)
        e = bpe_load(&tok->model, json_object_get(root, "model"), &model, em);
    if (e == ERR_OK)
        e = tok_normalizer_load(&tok->normalizer, json_object_get(root, "normalizer"), &normalizer,
                                em);
    if (e == ERR_OK)
        e = tok_pretok_load(&tok->pretok, json_object_get(root, "pre_tokenizer"), &pretok, em);
    if (e == ERR_OK)
        e = tok_post_load(&tok->post, json_object_get(root, "post_processor"), &post, em);
    if (e == ERR_OK)
        e = tok_decoder_load(&tok->decoder, json_object_get(root, "decoder"), &decoder, em);
    if (e == ERR_OK)
        e = added_load(&tok->added, json_object_get(root, "added_tokens"), &tok->model.vocab,
                       &tok->normalizer, &added, em);
    if (e == ERR_OK)
        tok->vocab_size = highest_id(tok) + 1;
    return e;
}

enum err tokenizer_open(const char *model_dir, struct tokenizer **out, struct err_msg *em) {
    char *path = xasprintf("%s/tokenizer.json", model_dir), *bytes = NULL;
    struct tokenizer *tok = NULL;
    json_t *root = NULL;
    size_t len;
    *out = NULL;
    enum err e = file_read(path, LIMIT_TOKENIZER_FILE, &bytes, &len, em);
    if (e != ERR_OK)
        goto out;
    json_error_t why;
    root = json_loadb(bytes, len, JSON_REJECT_DUPLICATES, &why);
    free(bytes);
    bytes = NULL;
    if (root == NULL) {
        e = err_set(em, ERR_INPUT, "%s: line %d: %s", path, why.line, why.text);
        goto out;
    }
    if (!json_is_object(root)) {
        e = err_set(em, ERR_INPUT, "%s: must be a JSON object", path);
        goto out;
    }
    tok = xcalloc(1, sizeof *tok);
    struct err_msg inner = ERR_MSG_INIT;
    e = load(tok, root, &inner);
    if (e != ERR_OK)
        e = err_set(em, e, "%s: %s", path, inner.text);
out:
    free(path);
    free(bytes);
    json_decref(root);
    if (e != ERR_OK)
        tokenizer_close(tok);
    else
        *out = tok;
    return e;
}

void tokenizer_close(struct tokenizer *tok) {
    if (tok == NULL)
        return;
    tok_normalizer_clear(&tok->normalizer);
    tok_pretok_clear(&tok->pretok);
    bpe_clear(&tok->model);
    added_clear(&tok->added);
    tok_post_clear(&tok->post);
    tok_decoder_clear(&tok->decoder);
    free(tok);
}

/* ---- encoding ---------------------------------------------------------------------------- */

struct encoding {
    const struct tokenizer *tok;
    bool special;
    bool continues; /* TOKENIZER_CONTINUE: no byte of the text is the first of a text */
    struct ids *out;
    struct tok_scratch scratch;
    struct norm_text normal;
    struct pretok_run pretok;
    struct bpe_scratch bpe;
    struct err_msg *em;
};

static enum err take_word(void *context, const char *s, size_t n, struct err_msg *em) {
    struct encoding *c = context;
    return bpe_encode(&c->tok->model, &c->bpe, s, n, c->out, em);
}

/* Normalized text without raw added tokens in it. */
static enum err encode_normal(struct encoding *c, const char *s, size_t len, size_t zero) {
    const struct added *added = &c->tok->added;
    struct added_find find = {added, &added->normalized, c->special, s, len, 0, 0};
    for (;;) {
        size_t begin, end;
        const struct added_token *t = added_next(&find, &begin, &end);
        size_t z = zero > begin ? zero - begin : 0, n = end - begin;
        enum err e = pretok_run(&c->pretok, (struct piece){s + begin, n, z < n ? z : n});
        if (e != ERR_OK || t == NULL)
            return e;
        ids_add(c->out, t->id);
    }
}

/* Raw text s[begin…end). */
static enum err encode_raw(struct encoding *c, const char *s, size_t begin, size_t end) {
    size_t first = 0;
    if (begin == end)
        return ERR_OK;
    if (begin == 0 && !c->continues)
        (void)utf8_get(s, s + end, &first);
    c->normal.s = s + begin;
    c->normal.len = end - begin;
    c->normal.zero = first;
    enum err e = tok_normalize(&c->tok->normalizer, &c->normal, &c->scratch, c->em);
    return e == ERR_OK ? encode_normal(c, c->normal.s, c->normal.len, c->normal.zero) : e;
}

enum err tokenizer_encode(const struct tokenizer *tok, const char *text, size_t len, unsigned flags,
                          struct ids *out, struct err_msg *em) {
    size_t good = utf8_valid_prefix(text, len), from = out->len;
    if (good < len)
        return err_set(em, ERR_INPUT, "the text is not UTF-8 at byte %zu", good);
    struct encoding c = {.tok = tok,
                         .special = (flags & TOKENIZER_PARSE_SPECIAL) != 0,
                         .continues = (flags & TOKENIZER_CONTINUE) != 0,
                         .out = out,
                         .em = em};
    tok_scratch_init(&c.scratch, len);
    pretok_run_init(&c.pretok, &tok->pretok);
    c.pretok.scratch = &c.scratch;
    c.pretok.word = take_word;
    c.pretok.context = &c;
    c.pretok.em = em;
    struct added_find find = {&tok->added, &tok->added.raw, c.special, text, len, 0, 0};
    enum err e;
    for (;;) {
        size_t begin, end;
        const struct added_token *t = added_next(&find, &begin, &end);
        e = encode_raw(&c, text, begin, end);
        if (e != ERR_OK || t == NULL)
            break;
        ids_add(out, t->id);
    }
    if (e == ERR_OK)
        tok_post_apply(&tok->post, (flags & TOKENIZER_ADD_SPECIAL) != 0, out, from);
    else
        out->len = from;
    pretok_run_clear(&c.pretok);
    tok_scratch_clear(&c.scratch);
    norm_text_clear(&c.normal);
    bpe_scratch_clear(&c.bpe);
    return e;
}

/* ---- decoding ---------------------------------------------------------------------------- */

static const char *token_string(const struct tokenizer *tok, int32_t id, size_t *n) {
    const struct added_token *t = added_by_id(&tok->added, id);
    if (t == NULL)
        return vocab_string(&tok->model.vocab, id, n);
    *n = t->form_len;
    return t->form;
}

enum err tokenizer_decode(const struct tokenizer *tok, const int32_t *ids, size_t n, char **text,
                          size_t *len, struct err_msg *em) {
    struct strings tokens = {0};
    struct text out = {0};
    enum err e = ERR_OK;
    *text = NULL;
    for (size_t i = 0; i < n && e == ERR_OK; i++) {
        size_t size;
        const char *s = token_string(tok, ids[i], &size);
        if (s == NULL)
            e = err_set(em, ERR_INPUT, "id %d at position %zu is not in the vocabulary", ids[i], i);
        else
            strings_add(&tokens, s, size);
    }
    if (e == ERR_OK)
        e = tok_decoder_run(&tok->decoder, &tokens, &out, em);
    strings_clear(&tokens);
    if (e != ERR_OK) {
        text_clear(&out);
        return e;
    }
    if (len != NULL)
        *len = out.len;
    text_add(&out, "", 1);
    *text = out.data;
    return ERR_OK;
}

int32_t tokenizer_id(const struct tokenizer *tok, const char *token) {
    size_t n = strlen(token);
    const struct added_token *t = added_by_content(&tok->added, token, n);
    return t != NULL ? t->id : vocab_find(&tok->model.vocab, token, n);
}

int32_t tokenizer_vocab_size(const struct tokenizer *tok) {
    return tok->vocab_size;
}
