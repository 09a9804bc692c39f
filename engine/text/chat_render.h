/* chat_render: the templates themselves (private to engine/text/chat*.c).
 *
 * What:    one function per family of chat templates; variants of a family differ in the fields of
 *          struct chat_template, which chat_detect.c fills in from the model folder.
 * Owns:    struct chat_template owns its strings.
 * Threads: read-only after detection.
 * Errors:  through the sink; a conversation the template cannot express names the message.
 */
#ifndef FFWD_ENGINE_TEXT_CHAT_RENDER_H
#define FFWD_ENGINE_TEXT_CHAT_RENDER_H

#include "engine/text/chat.h"
#include "engine/text/chat_rows.h"
#include "engine/text/chat_sink.h"

enum chat_family {
    CHAT_UNKNOWN, /* the model has a template that no function here knows */
    CHAT_CHATML,
    CHAT_QWEN, /* ChatML with tools as in Qwen 2.5 */
    CHAT_LLAMA3,
    CHAT_LLAMA31, /* with the dated system header and tools */
    CHAT_LLAMA2,
    CHAT_MISTRAL,
    CHAT_ZEPHYR,
};

struct chat_template {
    const struct tokenizer *tok; /* borrowed */
    enum chat_family family;
    bool guessed;         /* the model has a template whose text is not known word for word */
    bool fallback;        /* the model has no template */
    char *default_system; /* said where a conversation has no system message; NULL: nothing */
    /* ChatML: <|im_start|>, <|im_end|>; Llama 3: <|start_header_id|>, <|eot_id|>; Llama 2 and
     * Mistral: [INST], [/INST] */
    struct chat_marker start, end;
    struct chat_marker header_end; /* Llama 3: <|end_header_id|> */
    struct chat_marker bos, eos;
    /* The text between those in the [INST] templates. */
    const char *before_inst, *after_inst, *before_inst_end;
    const char *before_answer, *before_eos, *after_eos;
    bool system_in_last; /* the system message stands in the last user message, not the first */
    bool refuses_system; /* the template raises an exception on a system message */
    bool strips;         /* contents are stripped of white space */
};

/* One conversation being rendered. */
struct chat_rendering {
    const struct chat_template *t;
    const struct chat *chat;
    struct chat_sink *sink;
    enum train_on train_on;
    size_t last_assistant; /* index of the last assistant message, chat->n if none */
};

/* Reads the model folder's files and fills t. t needs chat_template_close after ERR_OK and after
 * errors alike. */
enum err chat_detect(const char *model_dir, struct chat_template *t, struct err_msg *em) NODISCARD;
/* Finds the marker's id: the text must be one token when special tokens are recognised. text is
 * copied; an older text is replaced. */
void chat_marker_set(struct chat_template *t, struct chat_marker *marker, const char *text);

void chat_render_chatml(const struct chat_rendering *r);
void chat_render_qwen(const struct chat_rendering *r);
void chat_render_llama3(const struct chat_rendering *r);
void chat_render_llama31(const struct chat_rendering *r);
void chat_render_inst(const struct chat_rendering *r); /* Llama 2 and Mistral */
void chat_render_zephyr(const struct chat_rendering *r);

/* True if message i is trained on under r->train_on. */
bool chat_trains(const struct chat_rendering *r, size_t i);
/* The sink's error becomes ERR_INPUT: message i has something the template has no form for. */
void chat_refuse(const struct chat_rendering *r, size_t i, const char *what);
/* Refuses tools, tool calls and (unless allowed) tool messages. */
bool chat_plain_only(const struct chat_rendering *r, bool tool_messages);
/* Appends JSON as the template's tojson filter does. */
void chat_put_json(const struct chat_rendering *r, const json_t *value, int indent);
/* content without the white space around it, as Python's str.strip(). */
void chat_put_stripped(const struct chat_rendering *r, const char *content, size_t len);
void chat_put_content(const struct chat_rendering *r, const struct chat_message *m);

#endif
