/* tok_added: the `added_tokens` of tokenizer.json. */
#include "engine/text/tok_added.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "engine/text/tok_unicode.h"

#define MAX_CONTENT 4096 /* bytes of one token */

static int32_t trie_step(const struct trie *t, int32_t node, unsigned char byte) {
    int32_t next = node < 0 ? t->root[byte] : t->node[node].child;
    while (next >= 0 && node >= 0 && t->node[next].byte != byte)
        next = t->node[next].sibling;
    return next;
}

static void trie_add(struct trie *t, const char *s, size_t n, int32_t token) {
    int32_t node = -1;
    for (size_t i = 0; i < n; i++) {
        unsigned char byte = (unsigned char)s[i];
        int32_t next = trie_step(t, node, byte);
        if (next < 0) {
            if (t->n == t->cap) {
                t->cap = t->cap == 0 ? 64 : t->cap * 2;
                t->node = xreallocarray(t->node, t->cap, sizeof *t->node);
            }
            next = (int32_t)t->n++;
            t->node[next] = (struct trie_node){-1, -1, -1, byte};
            if (node < 0) {
                t->root[byte] = next;
            } else {
                t->node[next].sibling = t->node[node].child;
                t->node[node].child = next;
            }
        }
        node = next;
    }
    if (node >= 0)
        t->node[node].token = token;
}

static enum err read_token(struct added_token *t, const json_t *json, const struct tok_path *at,
                           struct err_msg *em) {
    static const char *const keys[] = {"single_word", "lstrip", "rstrip", "normalized", "special"};
    bool *const flags[] = {&t->single_word, &t->lstrip, &t->rstrip, &t->normalized, &t->special};
    const char *content;
    int64_t id;
    *t = (struct added_token){0};
    if (!json_is_object(json))
        return tok_json_error(at, ERR_INPUT, em, "must be an object");
    enum err e = tok_json_string(json, "content", true, &content, &t->len, at, em);
    if (e == ERR_OK)
        e = tok_json_int(json, "id", LIMIT_VOCAB - 1, &id, at, em);
    if (e == ERR_OK && t->len > MAX_CONTENT)
        e = tok_json_error(at, ERR_LIMIT, em, "`content` is longer than %d bytes", MAX_CONTENT);
    for (size_t i = 0; i < 5 && e == ERR_OK; i++)
        e = tok_json_bool(json, keys[i], false, flags[i], at, em);
    if (e == ERR_OK)
        t->content = xstrdup(content);
    return e;
}

/* What is searched in normalized text. */
static enum err make_form(struct added_token *t, const struct tok_normalizer *normalizer,
                          struct err_msg *em) {
    struct norm_text text = {.s = t->content, .len = t->len};
    struct tok_scratch scratch;
    tok_scratch_init(&scratch, t->len);
    enum err e = t->normalized ? tok_normalize(normalizer, &text, &scratch, em) : ERR_OK;
    if (e == ERR_OK) {
        t->form = xmalloc(text.len + 1);
        if (text.len > 0)
            memcpy(t->form, text.s, text.len);
        t->form_len = text.len;
    }
    tok_scratch_clear(&scratch);
    norm_text_clear(&text);
    return e;
}

static void token_clear(struct added_token *t) {
    free(t->content);
    free(t->form);
    *t = (struct added_token){0};
}

/* Takes the token over; one with the same id gives way, as the later entry wins. */
static void put(struct added *a, struct added_token *t) {
    int32_t old = a->by_id[t->id];
    if (old >= 0) {
        token_clear(&a->token[old]);
        a->token[old] = *t;
    } else {
        a->by_id[t->id] = (int32_t)a->n;
        a->token[a->n++] = *t;
    }
}

const struct added_token *added_by_id(const struct added *a, int64_t id) {
    if (id < 0 || (uint64_t)id >= a->n_ids || a->by_id[id] < 0)
        return NULL;
    return &a->token[a->by_id[id]];
}

const struct added_token *added_by_content(const struct added *a, const char *s, size_t n) {
    for (size_t i = 0; i < a->n; i++)
        if (a->token[i].len == n && memcmp(a->token[i].content, s, n) == 0)
            return &a->token[i];
    return NULL;
}

/* The id of each distinct content, by a table of the list's own. */
struct content_ids {
    int32_t *id;
    const char **content;
    size_t n_slots;
    uint64_t seed;
};

static int32_t *content_slot(struct content_ids *c, const char *s, size_t n) {
    size_t i = (size_t)vocab_hash(c->seed, s, n) & (c->n_slots - 1);
    while (c->content[i] != NULL && strcmp(c->content[i], s) != 0)
        i = (i + 1) & (c->n_slots - 1);
    c->content[i] = s;
    return &c->id[i];
}

static enum err load_list(struct added *a, const json_t *json, const struct vocab *vocab,
                          const struct tok_normalizer *normalizer, struct content_ids *seen,
                          const struct tok_path *at, struct err_msg *em) {
    size_t i, next_id = vocab->n_tokens;
    const json_t *entry;
    json_array_foreach(json, i, entry) {
        const struct tok_path here = {at, NULL, i};
        struct added_token t;
        enum err e = read_token(&t, entry, &here, em);
        if (e != ERR_OK || t.len == 0) {
            token_clear(&t);
            if (e != ERR_OK)
                return e;
            continue;
        }
        int32_t *id =
            content_slot(seen, json_string_value(json_object_get(entry, "content")), t.len);
        if (*id < 0)
            *id = vocab_find(vocab, t.content, t.len);
        if (*id < 0)
            *id = (int32_t)next_id++;
        t.id = *id;
        if (t.id >= LIMIT_VOCAB)
            e = tok_json_error(&here, ERR_LIMIT, em, "ids reach %d", LIMIT_VOCAB);
        if (e == ERR_OK)
            e = make_form(&t, normalizer, em);
        if (e != ERR_OK) {
            token_clear(&t);
            return e;
        }
        put(a, &t);
    }
    return ERR_OK;
}

enum err added_load(struct added *a, const json_t *json, const struct vocab *vocab,
                    const struct tok_normalizer *normalizer, const struct tok_path *at,
                    struct err_msg *em) {
    *a = (struct added){0};
    memset(a->raw.root, 0xFF, sizeof a->raw.root);
    memset(a->normalized.root, 0xFF, sizeof a->normalized.root);
    if (json == NULL || json_is_null(json))
        return ERR_OK;
    size_t n = json_array_size(json);
    if (!json_is_array(json) || n > LIMIT_VOCAB)
        return tok_json_error(at, ERR_INPUT, em, "must be a list of at most %d", LIMIT_VOCAB);
    a->token = xcalloc(n + 1, sizeof *a->token);
    a->n_ids = (vocab->n_ids > vocab->n_tokens ? vocab->n_ids : vocab->n_tokens) + n;
    a->by_id = xmalloc((a->n_ids + 1) * sizeof *a->by_id);
    memset(a->by_id, 0xFF, (a->n_ids + 1) * sizeof *a->by_id);
    struct content_ids seen = {.n_slots = 16, .seed = vocab_hash_seed()};
    while (seen.n_slots < 2 * n)
        seen.n_slots *= 2;
    seen.id = xmalloc(seen.n_slots * sizeof *seen.id);
    memset(seen.id, 0xFF, seen.n_slots * sizeof *seen.id);
    seen.content = xcalloc(seen.n_slots, sizeof *seen.content);
    enum err e = load_list(a, json, vocab, normalizer, &seen, at, em);
    free(seen.id);
    free(seen.content);
    for (size_t i = 0; e == ERR_OK && i < a->n; i++) {
        const struct added_token *t = &a->token[i];
        trie_add(t->normalized ? &a->normalized : &a->raw, t->form, t->form_len, (int32_t)i);
    }
    return e;
}

void added_clear(struct added *a) {
    for (size_t i = 0; i < a->n; i++)
        token_clear(&a->token[i]);
    free(a->token);
    free(a->by_id);
    free(a->raw.node);
    free(a->normalized.node);
    *a = (struct added){0};
}

/* The longest token that starts at s[at]; its end goes to *end. */
static const struct added_token *longest(const struct added_find *f, size_t at, size_t *end) {
    const struct added_token *best = NULL;
    int32_t node = -1;
    for (size_t i = at; i < f->len; i++) {
        node = trie_step(f->trie, node, (unsigned char)f->s[i]);
        if (node < 0)
            break;
        if (f->trie->node[node].token >= 0) {
            best = &f->added->token[f->trie->node[node].token];
            *end = i + 1;
        }
    }
    return best;
}

static bool stands_alone(const struct added_find *f, size_t begin, size_t end) {
    size_t n;
    if (begin > 0 && tok_is_word(utf8_get_before(f->s, f->s + begin, &n)))
        return false;
    return end == f->len || !tok_is_word(utf8_get(f->s + end, f->s + f->len, &n));
}

/* Widens a match by the white space it takes. */
static void take_space(const struct added_find *f, const struct added_token *t, size_t *begin,
                       size_t *end) {
    size_t n;
    if (t->lstrip) {
        while (*begin > 0 && tok_is_whitespace(utf8_get_before(f->s, f->s + *begin, &n)))
            *begin -= n;
        *begin = *begin > f->done ? *begin : f->done;
    }
    while (t->rstrip && *end < f->len &&
           tok_is_whitespace(utf8_get(f->s + *end, f->s + f->len, &n)))
        *end += n;
}

const struct added_token *added_next(struct added_find *f, size_t *begin, size_t *end) {
    while (f->at < f->len) {
        size_t from = f->at, to = from;
        if (f->trie->root[(unsigned char)f->s[from]] < 0) {
            f->at++;
            continue;
        }
        const struct added_token *t = longest(f, from, &to);
        if (t == NULL) {
            f->at++;
            continue;
        }
        f->at = to; /* also where the match does not count */
        if ((t->special && !f->special) || (t->single_word && !stands_alone(f, from, to)))
            continue;
        take_space(f, t, &from, &to);
        if (from == to)
            continue;
        *begin = f->done;
        *end = from > f->done ? from : f->done;
        f->done = to;
        return t;
    }
    *begin = f->done;
    *end = f->len > f->done ? f->len : f->done;
    return NULL;
}
