/* chat_render: ChatML (plain, and with Qwen 2.5's tools) and the Llama 3 templates.
 *
 * The wording of the tool instructions is part of the models' formats: it must be theirs to the
 * byte. Checked against transformers' apply_chat_template (tests/reference/make_chat_vectors.py).
 */
#include "engine/text/chat_render.h"

#include <string.h>

static void open_message(const struct chat_rendering *r, const char *role) {
    chat_sink_marker(r->sink, &r->t->start);
    chat_sink_text(r->sink, role);
    chat_sink_text(r->sink, "\n");
}

static void close_message(const struct chat_rendering *r) {
    chat_sink_marker(r->sink, &r->t->end);
    chat_sink_train(r->sink, false);
    chat_sink_text(r->sink, "\n");
}

static bool has_system(const struct chat_rendering *r) {
    return r->chat->messages[0].role == CHAT_SYSTEM;
}

static void plain_message(const struct chat_rendering *r, size_t i) {
    const struct chat_message *m = &r->chat->messages[i];
    open_message(r, chat_role_name(m->role));
    chat_sink_train(r->sink, chat_trains(r, i));
    chat_put_content(r, m);
    close_message(r);
}

static void default_system(const struct chat_rendering *r) {
    if (r->t->default_system == NULL || has_system(r))
        return;
    open_message(r, "system");
    chat_sink_text(r->sink, r->t->default_system);
    close_message(r);
}

void chat_render_chatml(const struct chat_rendering *r) {
    if (!chat_plain_only(r, true))
        return;
    chat_sink_marker(r->sink, &r->t->bos);
    default_system(r);
    for (size_t i = 0; i < r->chat->n; i++)
        plain_message(r, i);
}

/* ---- Qwen 2.5 -------------------------------------------------------------------------------- */

static void qwen_tools(const struct chat_rendering *r) {
    struct chat_sink *s = r->sink;
    size_t i;
    json_t *tool;
    open_message(r, "system");
    if (has_system(r))
        chat_put_content(r, &r->chat->messages[0]);
    else if (r->t->default_system != NULL)
        chat_sink_text(s, r->t->default_system);
    chat_sink_text(s, "\n\n# Tools\n\nYou may call one or more functions to assist with the user "
                      "query.\n\nYou are provided with function signatures within <tools></tools> "
                      "XML tags:\n<tools>");
    json_array_foreach(r->chat->tools, i, tool) {
        chat_sink_text(s, "\n");
        chat_put_json(r, tool, 0);
    }
    chat_sink_text(s, "\n</tools>\n\nFor each function call, return a json object with function "
                      "name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
                      "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
                      "</tool_call>");
    close_message(r);
}

static void qwen_calls(const struct chat_rendering *r, size_t i) {
    const struct chat_message *m = &r->chat->messages[i];
    struct chat_sink *s = r->sink;
    chat_sink_marker(s, &r->t->start);
    chat_sink_text(s, "assistant\n");
    chat_sink_train(s, chat_trains(r, i));
    if (m->len > 0) {
        chat_put_content(r, m);
        chat_sink_text(s, "\n");
    }
    for (size_t k = 0; k < m->n_calls; k++) {
        chat_sink_text(s, k == 0 ? "<tool_call>\n{\"name\": \"" : "\n<tool_call>\n{\"name\": \"");
        chat_sink_text(s, m->calls[k].name);
        chat_sink_text(s, "\", \"arguments\": ");
        chat_put_json(r, m->calls[k].arguments, 0);
        chat_sink_text(s, "}\n</tool_call>");
    }
    close_message(r);
}

static void qwen_tool_result(const struct chat_rendering *r, size_t i) {
    const struct chat_message *m = r->chat->messages;
    struct chat_sink *s = r->sink;
    if (i == 0 || m[i - 1].role != CHAT_TOOL) {
        chat_sink_marker(s, &r->t->start);
        chat_sink_text(s, "user");
    }
    chat_sink_text(s, "\n<tool_response>\n");
    chat_put_content(r, &m[i]);
    chat_sink_text(s, "\n</tool_response>");
    if (i + 1 == r->chat->n || m[i + 1].role != CHAT_TOOL)
        close_message(r);
}

void chat_render_qwen(const struct chat_rendering *r) {
    if (r->chat->tools != NULL)
        qwen_tools(r);
    else
        default_system(r);
    size_t first = r->chat->tools != NULL && has_system(r) ? 1 : 0;
    for (size_t i = first; i < r->chat->n; i++) {
        if (r->chat->messages[i].role == CHAT_TOOL)
            qwen_tool_result(r, i);
        else if (r->chat->messages[i].n_calls > 0)
            qwen_calls(r, i);
        else
            plain_message(r, i);
    }
}

/* ---- Llama 3 --------------------------------------------------------------------------------- */

static void open_header(const struct chat_rendering *r, const char *role) {
    chat_sink_marker(r->sink, &r->t->start);
    chat_sink_text(r->sink, role);
    chat_sink_marker(r->sink, &r->t->header_end);
    chat_sink_text(r->sink, "\n\n");
}

static void close_header(const struct chat_rendering *r) {
    chat_sink_marker(r->sink, &r->t->end);
    chat_sink_train(r->sink, false);
}

static void header_message(const struct chat_rendering *r, size_t i) {
    const struct chat_message *m = &r->chat->messages[i];
    open_header(r, chat_role_name(m->role));
    chat_sink_train(r->sink, chat_trains(r, i));
    chat_put_stripped(r, m->content, m->len);
    close_header(r);
}

void chat_render_llama3(const struct chat_rendering *r) {
    if (!chat_plain_only(r, true))
        return;
    chat_sink_marker(r->sink, &r->t->bos);
    for (size_t i = 0; i < r->chat->n; i++)
        header_message(r, i);
}

/* The date is the template's own default. Llama 3.2's template says today's date where it can: rows
 * must not change with the day they are read. */
static void llama31_system(const struct chat_rendering *r) {
    struct chat_sink *s = r->sink;
    const struct chat_message *m = r->chat->messages;
    open_header(r, "system");
    if (r->chat->tools != NULL)
        chat_sink_text(s, "Environment: ipython\n");
    chat_sink_text(s, "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n");
    if (has_system(r))
        chat_put_stripped(r, m[0].content, m[0].len);
    close_header(r);
}

/* The tools stand in the first user message. */
static void llama31_tools(const struct chat_rendering *r, size_t user) {
    struct chat_sink *s = r->sink;
    size_t i;
    json_t *tool;
    open_header(r, "user");
    chat_sink_text(s, "Given the following functions, please respond with a JSON for a function "
                      "call with its proper arguments that best answers the given prompt.\n\n"
                      "Respond in the format {\"name\": function name, \"parameters\": dictionary "
                      "of argument name and its value}.Do not use variables.\n\n");
    json_array_foreach(r->chat->tools, i, tool) {
        chat_put_json(r, tool, 4);
        chat_sink_text(s, "\n\n");
    }
    chat_put_stripped(r, r->chat->messages[user].content, r->chat->messages[user].len);
    close_header(r);
}

static void llama31_call(const struct chat_rendering *r, size_t i) {
    const struct chat_message *m = &r->chat->messages[i];
    struct chat_sink *s = r->sink;
    if (m->n_calls > 1) {
        chat_refuse(r, i, "has several tool_calls; the model's chat template can write only one");
        return;
    }
    open_header(r, "assistant");
    chat_sink_train(s, chat_trains(r, i));
    chat_sink_text(s, "{\"name\": \"");
    chat_sink_text(s, m->calls[0].name);
    chat_sink_text(s, "\", \"parameters\": ");
    chat_put_json(r, m->calls[0].arguments, 0);
    chat_sink_text(s, "}");
    close_header(r);
}

void chat_render_llama31(const struct chat_rendering *r) {
    size_t i = has_system(r) ? 1 : 0;
    chat_sink_marker(r->sink, &r->t->bos);
    llama31_system(r);
    if (r->chat->tools != NULL) {
        if (i == r->chat->n || r->chat->messages[i].role != CHAT_USER) {
            chat_refuse(r, i, "must be a user message: the tools are written into it");
            return;
        }
        llama31_tools(r, i++);
    }
    for (; i < r->chat->n; i++) {
        const struct chat_message *m = &r->chat->messages[i];
        if (m->role == CHAT_TOOL) {
            json_t *text = json_stringn(m->content, m->len);
            open_header(r, "ipython");
            chat_put_json(r, text, 0); /* the template writes a string result as JSON too */
            close_header(r);
            json_decref(text);
        } else if (m->n_calls > 0) {
            llama31_call(r, i);
        } else {
            header_message(r, i);
        }
    }
}
