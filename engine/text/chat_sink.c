/* chat_sink: pieces of text to ids, marks to labels. */
#include "engine/text/chat_sink.h"

#include <string.h>

#include "engine/text/chat.h"

void chat_sink_init(struct chat_sink *s, const struct tokenizer *tok, size_t max_bytes,
                    struct ids *ids, struct ids *labels, struct err_msg *em) {
    *s = (struct chat_sink){.tok = tok, .ids = ids, .labels = labels, .em = em};
    buf_init(&s->piece, max_bytes);
}

/* Encodes the first len bytes of the piece. */
static enum err encode(const struct chat_sink *s, size_t len, struct ids *out) {
    unsigned flags = s->started ? TOKENIZER_CONTINUE : 0;
    return tokenizer_encode(s->tok, s->piece.data, len, flags, out, s->em);
}

/* Index of the first token of the piece (those of s->ids from `first`) after the mark at byte `at`.
 * A token over the mark counts as after a mark that starts training, before one that ends it. */
static enum err token_at(const struct chat_sink *s, size_t first, size_t at, bool starts,
                         size_t *token) {
    size_t n = s->ids->len - first, same = 0;
    struct ids before = {0};
    if (at == 0 || at == s->piece.len) {
        *token = at == 0 ? 0 : n;
        return ERR_OK;
    }
    enum err e = encode(s, at, &before);
    while (same < before.len && same < n && before.data[same] == s->ids->data[first + same])
        same++;
    if (!starts && same < before.len && same < n)
        same++;
    *token = same;
    ids_clear(&before);
    return e;
}

static void add_labels(struct chat_sink *s, size_t from, size_t to, bool trained) {
    for (size_t i = from; i < to; i++)
        ids_add(s->labels, trained || s->all ? s->ids->data[i] : LABEL_IGNORE);
}

static void flush(struct chat_sink *s) {
    if (s->e != ERR_OK)
        return;
    if (s->tok == NULL) {
        buf_reset(&s->piece);
        s->n_marks = s->mark_bytes = 0;
        return;
    }
    size_t first = s->ids->len, done = 0;
    if (s->piece.len > 0)
        s->e = encode(s, s->piece.len, s->ids);
    for (size_t i = 0; s->e == ERR_OK && i < s->n_marks; i++) {
        size_t token = 0;
        if (s->piece.len > 0 && !s->all)
            s->e = token_at(s, first, s->marks[i].at, s->marks[i].trained, &token);
        if (token > done) {
            add_labels(s, first + done, first + token, s->trained);
            done = token;
        }
        s->trained = s->marks[i].trained;
    }
    if (s->e == ERR_OK)
        add_labels(s, first + done, s->ids->len, s->trained);
    s->started = s->started || s->piece.len > 0;
    buf_reset(&s->piece);
    s->n_marks = s->mark_bytes = 0;
}

void chat_sink_bytes(struct chat_sink *s, const char *bytes, size_t n) {
    if (s->e == ERR_OK && buf_add(&s->piece, bytes, n) != ERR_OK)
        s->e = err_set(s->em, ERR_LIMIT, "the conversation is longer than %zu bytes", s->piece.max);
}

void chat_sink_text(struct chat_sink *s, const char *text) {
    chat_sink_bytes(s, text, strlen(text));
}

void chat_sink_marker(struct chat_sink *s, const struct chat_marker *marker) {
    if (marker->text == NULL || s->e != ERR_OK)
        return;
    if (marker->id < 0) {
        chat_sink_text(s, marker->text);
        return;
    }
    flush(s);
    if (s->e != ERR_OK || s->tok == NULL)
        return;
    ids_add(s->ids, marker->id);
    add_labels(s, s->ids->len - 1, s->ids->len, s->trained);
    s->started = true;
}

void chat_sink_train(struct chat_sink *s, bool trained) {
    if (s->e != ERR_OK)
        return;
    if (s->n_marks == CHAT_SINK_MARKS || (s->n_marks > 2 && s->mark_bytes > CHAT_SINK_BYTES))
        flush(s);
    s->mark_bytes += s->piece.len;
    s->marks[s->n_marks].at = s->piece.len;
    s->marks[s->n_marks++].trained = trained;
}

enum err chat_sink_end(struct chat_sink *s) {
    flush(s);
    buf_clear(&s->piece);
    return s->e;
}
