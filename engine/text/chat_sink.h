/* chat_sink: where a chat template's output goes: token ids, and which of them are trained.
 *
 * What:    a renderer writes text, special tokens, and "trained from here / until here" marks. All
 *          text between two special tokens is encoded as one piece, as Hugging Face does with the
 *          rendered conversation, and never with special tokens recognised: what a message says
 *          stays text. Only markers, which come from the template, become special tokens.
 * Owns:    its buffer, freed by chat_sink_end; ids and labels are the caller's.
 * Threads: one sink, one thread.
 * Errors:  the first one is kept and returned by chat_sink_end; calls after it do nothing.
 *
 * A mark inside a piece of text falls where the encodings of the text before it and of the whole
 * piece part. A token that reaches over the mark (a newline of the header and one of the content
 * in one token) is trained, so the ids are always those of the whole piece.
 */
#ifndef FFWD_ENGINE_TEXT_CHAT_SINK_H
#define FFWD_ENGINE_TEXT_CHAT_SINK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/text/tokenizer.h"

/* A piece of template text that is one special token where the vocabulary has it. */
struct chat_marker {
    char *text; /* owned by the template; NULL: unset, writes nothing */
    int32_t id; /* -1: not a token, written as text */
};

/* Finding a mark costs encoding the piece up to it. Only a template none of whose markers is a
 * token puts more than two into a piece: it is then ended after CHAT_SINK_MARKS marks, or sooner
 * when the marks cost more than CHAT_SINK_BYTES, which keeps a long conversation's cost in bounds.
 */
#define CHAT_SINK_MARKS 32
#define CHAT_SINK_BYTES ((size_t)1 << 20)

struct chat_sink {
    const struct tokenizer *tok; /* NULL: nothing is encoded, only errors count */
    struct ids *ids, *labels;
    struct buf piece; /* text since the last special token */
    struct {
        size_t at; /* byte offset in piece */
        bool trained;
    } marks[CHAT_SINK_MARKS];
    size_t n_marks;
    size_t mark_bytes; /* sum of the marks' `at` */
    bool trained;      /* at the start of piece */
    bool all;          /* train every token, whatever the marks say */
    bool started; /* a piece or token was written: the next piece is not the start of the text */
    enum err e;
    struct err_msg *em;
};

/* max_bytes bounds the text between two special tokens. */
void chat_sink_init(struct chat_sink *s, const struct tokenizer *tok, size_t max_bytes,
                    struct ids *ids, struct ids *labels, struct err_msg *em);
void chat_sink_bytes(struct chat_sink *s, const char *bytes, size_t n);
void chat_sink_text(struct chat_sink *s, const char *text);
void chat_sink_marker(struct chat_sink *s, const struct chat_marker *marker);
void chat_sink_train(struct chat_sink *s, bool trained);
/* Encodes the text that is left, frees the buffer, returns the first error. */
enum err chat_sink_end(struct chat_sink *s) NODISCARD;

#endif
