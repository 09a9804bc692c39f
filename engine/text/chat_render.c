/* chat_render: what the families share, and the [INST] and Zephyr templates. */
#include "engine/text/chat_render.h"

#include <string.h>

#include "base/limits.h"
#include "engine/text/chat_json.h"

bool chat_trains(const struct chat_rendering *r, size_t i) {
    const struct chat_message *m = &r->chat->messages[i];
    if (m->role != CHAT_ASSISTANT || !m->weighted)
        return false;
    return r->train_on != TRAIN_ON_RESPONSE || i == r->last_assistant;
}

void chat_refuse(const struct chat_rendering *r, size_t i, const char *what) {
    struct chat_sink *s = r->sink;
    if (s->e == ERR_OK)
        s->e = err_set(s->em, ERR_INPUT, "messages[%zu] %s (chat template %s)", i, what,
                       chat_template_name(r->t));
}

bool chat_plain_only(const struct chat_rendering *r, bool tool_messages) {
    if (r->chat->tools != NULL && r->sink->e == ERR_OK)
        r->sink->e = err_set_param(r->sink->em, ERR_INPUT, "tools",
                                   "tools cannot be written in the model's chat template (%s)",
                                   chat_template_name(r->t));
    for (size_t i = 0; i < r->chat->n; i++) {
        if (r->chat->messages[i].n_calls > 0)
            chat_refuse(r, i, "has tool_calls, which the model's chat template cannot write");
        if (r->chat->messages[i].role == CHAT_TOOL && !tool_messages)
            chat_refuse(r, i, "is a tool message, which the model's chat template cannot write");
    }
    return r->sink->e == ERR_OK;
}

void chat_put_json(const struct chat_rendering *r, const json_t *value, int indent) {
    struct buf text;
    buf_init(&text, (size_t)LIMIT_ROW_BYTES * 4);
    if (chat_json_write(value, indent, &text) != ERR_OK)
        r->sink->e = err_set(r->sink->em, ERR_LIMIT, "the row's tools are too long as text");
    else
        chat_sink_bytes(r->sink, text.data, text.len);
    buf_clear(&text);
}

/* Bytes of the white-space character (Python's str.isspace) at s, 0 if it is none. */
static size_t space_at(const char *s, size_t n) {
    static const char *const wide[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
        "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
        "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
    if (n > 0 && ((s[0] >= '\t' && s[0] <= '\r') || (s[0] >= 0x1c && s[0] <= ' ')))
        return 1;
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++)
        if (n >= strlen(wide[i]) && memcmp(s, wide[i], strlen(wide[i])) == 0)
            return strlen(wide[i]);
    return 0;
}

void chat_put_stripped(const struct chat_rendering *r, const char *content, size_t len) {
    size_t n = 1;
    while (len > 0 && (n = space_at(content, len)) > 0)
        content += n, len -= n;
    for (bool more = true; more && len > 0;) {
        more = false;
        for (n = 1; n <= 3 && n <= len && !more; n++)
            if (space_at(content + len - n, n) == n)
                len -= n, more = true;
    }
    chat_sink_bytes(r->sink, content, len);
}

void chat_put_content(const struct chat_rendering *r, const struct chat_message *m) {
    if (r->t->strips)
        chat_put_stripped(r, m->content, m->len);
    else
        chat_sink_bytes(r->sink, m->content, m->len);
}

/* [INST] templates: user and assistant take turns after an optional system message. */
static bool takes_turns(const struct chat_rendering *r, size_t first) {
    if (!chat_plain_only(r, false))
        return false;
    if (first > 0 && r->t->refuses_system)
        chat_refuse(r, 0, "is a system message, which the model's chat template refuses");
    for (size_t i = first; i < r->chat->n; i++) {
        enum chat_role expected = (i - first) % 2 == 0 ? CHAT_USER : CHAT_ASSISTANT;
        if (r->chat->messages[i].role != expected)
            chat_refuse(r, i,
                        "breaks the turns: after an optional system message the model's "
                        "chat template wants user, assistant, user, assistant, ...");
    }
    return r->sink->e == ERR_OK;
}

static void put_system(const struct chat_rendering *r, const struct chat_message *system) {
    bool llama2 = r->t->family == CHAT_LLAMA2;
    chat_sink_text(r->sink, llama2 ? "<<SYS>>\n" : "");
    chat_sink_bytes(r->sink, system->content, system->len);
    chat_sink_text(r->sink, llama2 ? "\n<</SYS>>\n\n" : "\n\n");
}

void chat_render_inst(const struct chat_rendering *r) {
    const struct chat_template *t = r->t;
    const struct chat_message *m = r->chat->messages;
    struct chat_sink *s = r->sink;
    const struct chat_message *system = m[0].role == CHAT_SYSTEM ? m : NULL;
    size_t first = system != NULL ? 1 : 0, system_at = first;
    if (!takes_turns(r, first))
        return;
    for (size_t i = first; t->system_in_last && i < r->chat->n; i++)
        if (m[i].role == CHAT_USER)
            system_at = i;
    if (t->family != CHAT_LLAMA2)
        chat_sink_marker(s, &t->bos);
    for (size_t i = first; i < r->chat->n; i++) {
        if (m[i].role == CHAT_ASSISTANT) {
            chat_sink_train(s, chat_trains(r, i));
            chat_sink_text(s, t->before_answer);
            chat_put_content(r, &m[i]);
            chat_sink_text(s, t->before_eos);
            chat_sink_marker(s, &t->eos);
            chat_sink_train(s, false);
            chat_sink_text(s, t->after_eos);
            continue;
        }
        if (t->family == CHAT_LLAMA2)
            chat_sink_marker(s, &t->bos);
        chat_sink_text(s, t->before_inst);
        chat_sink_marker(s, &t->start);
        chat_sink_text(s, t->after_inst);
        if (system != NULL && i == system_at)
            put_system(r, system);
        chat_put_content(r, &m[i]);
        chat_sink_text(s, t->before_inst_end);
        chat_sink_marker(s, &t->end);
    }
}

void chat_render_zephyr(const struct chat_rendering *r) {
    struct chat_sink *s = r->sink;
    if (!chat_plain_only(r, false))
        return;
    for (size_t i = 0; i < r->chat->n; i++) {
        const struct chat_message *m = &r->chat->messages[i];
        chat_sink_text(s, "<|");
        chat_sink_text(s, chat_role_name(m->role));
        chat_sink_text(s, "|>\n");
        chat_sink_train(s, chat_trains(r, i));
        chat_put_content(r, m);
        chat_sink_marker(s, &r->t->eos);
        chat_sink_train(s, false);
        chat_sink_text(s, "\n");
    }
}
