/* chat_rows: every rule of a chat row, and the sentence that says which was broken. */
#include "engine/text/chat_rows.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

static const char *const role_names[] = {"system", "user", "assistant", "tool"};

static const struct {
    const char *name;
    enum chat_role role;
} roles[] = {
    {"system", CHAT_SYSTEM},       {"developer", CHAT_SYSTEM}, {"user", CHAT_USER},
    {"assistant", CHAT_ASSISTANT}, {"tool", CHAT_TOOL},        {"function", CHAT_TOOL},
};

static const char *const message_keys[] = {"role",    "content",    "name",
                                           "weight",  "tool_calls", "tool_call_id",
                                           "refusal", "audio",      "function_call"};

/* Where in the row a check stands. */
struct place {
    size_t message;
    struct err_msg *em;
};

__attribute__((format(printf, 3, 4))) static enum err
refuse(const struct place *at, const char *field, const char *fmt, ...) {
    char path[ERR_PARAM_MAX], reason[ERR_TEXT_MAX / 2];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(reason, sizeof reason, fmt, args);
    va_end(args);
    (void)snprintf(path, sizeof path, "messages[%zu]%s", at->message, field);
    return err_set_param(at->em, ERR_INPUT, path, "%s %s", path, reason);
}

const char *chat_role_name(enum chat_role role) {
    return role_names[role];
}

/* The value of a key, NULL also where it is null. */
static const json_t *get(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static enum err read_role(const json_t *message, struct chat_message *m, const struct place *at) {
    const json_t *role = get(message, "role");
    if (role == NULL)
        return refuse(at, ".role", "is missing");
    if (!json_is_string(role))
        return refuse(at, ".role", "must be a string");
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(json_string_value(role), roles[i].name) == 0) {
            m->role = roles[i].role;
            return ERR_OK;
        }
    return refuse(
        at, ".role",
        "is `%.40s`; it must be one of system, developer, user, assistant, tool, function",
        json_string_value(role));
}

static enum err check_keys(const json_t *message, const struct place *at) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)message, key, value) {
        size_t i = 0, n = sizeof message_keys / sizeof message_keys[0];
        while (i < n && strcmp(key, message_keys[i]) != 0)
            i++;
        if (i == n)
            return refuse(at, "", "has an unknown key `%.60s`", key);
    }
    if (get(message, "function_call") != NULL)
        return refuse(at, ".function_call", "is the old form; use tool_calls");
    if (get(message, "audio") != NULL)
        return refuse(at, ".audio", "is not supported; only text can be trained on");
    return ERR_OK;
}

/* Text parts are concatenated as they are. */
static enum err read_parts(const json_t *parts, struct chat_message *m, const struct place *at) {
    size_t i, total = 0;
    json_t *part;
    json_array_foreach(parts, i, part) {
        char field[48];
        (void)snprintf(field, sizeof field, ".content[%zu]", i);
        const json_t *type = get(part, "type"), *text = get(part, "text");
        if (!json_is_object(part) || !json_is_string(type))
            return refuse(at, field, "must be an object with a `type`");
        if (strcmp(json_string_value(type), "text") != 0)
            return refuse(at, field, "has type `%.40s`; only `text` parts can be trained on",
                          json_string_value(type));
        if (!json_is_string(text))
            return refuse(at, field, "has no string `text`");
        total += json_string_length(text); /* at most the line's own length */
    }
    m->content = xmalloc(total + 1);
    json_array_foreach(parts, i, part) {
        const json_t *text = get(part, "text");
        memcpy(m->content + m->len, json_string_value(text), json_string_length(text));
        m->len += json_string_length(text);
    }
    m->content[m->len] = '\0';
    return ERR_OK;
}

static enum err read_content(const json_t *message, struct chat_message *m,
                             const struct place *at) {
    const json_t *content = get(message, "content");
    if (json_is_array(content))
        return read_parts(content, m, at);
    if (content == NULL && m->n_calls > 0) {
        m->content = xstrdup("");
        return ERR_OK;
    }
    if (content == NULL)
        return refuse(at, ".content", "is missing");
    if (!json_is_string(content))
        return refuse(at, ".content", "must be a string or an array of text parts");
    m->len = json_string_length(content);
    m->content = xstrndup(json_string_value(content), m->len);
    return ERR_OK;
}

static enum err read_arguments(const json_t *value, struct chat_call *call, const char *field,
                               const struct place *at) {
    if (json_is_object(value)) {
        call->arguments = json_incref((json_t *)(uintptr_t)value);
        return ERR_OK;
    }
    if (!json_is_string(value))
        return refuse(at, field, "has no `function.arguments` (a string of JSON)");
    const char *text = json_string_value(value);
    call->arguments =
        *text == '\0' ? json_object() : json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(call->arguments))
        return refuse(at, field, "has `function.arguments` that are not a JSON object");
    return ERR_OK;
}

static enum err read_calls(const json_t *message, struct chat_message *m, const struct place *at) {
    const json_t *calls = get(message, "tool_calls");
    if (calls == NULL)
        return ERR_OK;
    if (m->role != CHAT_ASSISTANT)
        return refuse(at, ".tool_calls", "may stand only in an assistant message");
    if (!json_is_array(calls))
        return refuse(at, ".tool_calls", "must be an array");
    m->calls = xcalloc(json_array_size(calls), sizeof *m->calls);
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call) {
        char field[48];
        (void)snprintf(field, sizeof field, ".tool_calls[%zu]", i);
        const json_t *type = get(call, "type"), *function = get(call, "function");
        if (type != NULL &&
            (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0))
            return refuse(at, field, "must have the type `function`");
        if (!json_is_object(function) || !json_is_string(get(function, "name")))
            return refuse(at, field, "has no `function` with a `name`");
        m->calls[i].name = json_string_value(get(function, "name"));
        m->n_calls = i + 1;
        enum err e = read_arguments(get(function, "arguments"), &m->calls[i], field, at);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static enum err read_weight(const json_t *message, struct chat_message *m, const struct place *at) {
    const json_t *weight = get(message, "weight");
    m->weighted = true;
    if (weight == NULL)
        return ERR_OK;
    if (m->role != CHAT_ASSISTANT)
        return refuse(at, ".weight", "may stand only in an assistant message");
    if (!json_is_integer(weight) ||
        (json_integer_value(weight) != 0 && json_integer_value(weight) != 1))
        return refuse(at, ".weight", "must be 0 or 1");
    m->weighted = json_integer_value(weight) == 1;
    return ERR_OK;
}

static enum err read_message(const json_t *message, struct chat_message *m,
                             const struct place *at) {
    if (!json_is_object(message))
        return refuse(at, "", "must be an object");
    enum err e = read_role(message, m, at);
    if (e == ERR_OK)
        e = check_keys(message, at);
    if (e == ERR_OK)
        e = read_calls(message, m, at);
    if (e == ERR_OK)
        e = read_content(message, m, at);
    if (e == ERR_OK)
        e = read_weight(message, m, at);
    return e;
}

static enum err read_tools(const json_t *row, struct chat *c, struct err_msg *em) {
    const json_t *tools = get(row, "tools");
    size_t i;
    json_t *tool;
    if (get(row, "functions") != NULL)
        return err_set_param(em, ERR_INPUT, "functions", "functions is the old form; use tools");
    if (tools == NULL)
        return ERR_OK;
    if (!json_is_array(tools))
        return err_set_param(em, ERR_INPUT, "tools", "tools must be an array");
    json_array_foreach(tools, i, tool) {
        if (!json_is_object(tool))
            return err_set_param(em, ERR_INPUT, "tools", "tools[%zu] must be an object", i);
    }
    c->tools = json_array_size(tools) > 0 ? tools : NULL;
    return ERR_OK;
}

enum err chat_read(const json_t *row, bool needs_assistant, struct chat *out, struct err_msg *em) {
    const json_t *messages = get(row, "messages");
    if (!json_is_array(messages) || json_array_size(messages) == 0)
        return err_set_param(em, ERR_INPUT, "messages", "messages must be a non-empty array");
    *out = (struct chat){.messages = xcalloc(json_array_size(messages), sizeof *out->messages)};
    enum err e = read_tools(row, out, em);
    bool assistant = false;
    for (size_t i = 0; e == ERR_OK && i < json_array_size(messages); i++) {
        struct place at = {.message = i, .em = em};
        out->n = i + 1;
        e = read_message(json_array_get(messages, i), &out->messages[i], &at);
        assistant = assistant || out->messages[i].role == CHAT_ASSISTANT;
    }
    if (e == ERR_OK && needs_assistant && !assistant)
        e = err_set_param(em, ERR_INPUT, "messages",
                          "messages has no assistant message, so there is nothing to train on");
    if (e != ERR_OK)
        chat_clear(out);
    return e;
}

void chat_clear(struct chat *c) {
    for (size_t i = 0; i < c->n; i++) {
        struct chat_message *m = &c->messages[i];
        for (size_t k = 0; k < m->n_calls; k++)
            json_decref(m->calls[k].arguments);
        free(m->calls);
        free(m->content);
    }
    free(c->messages);
    *c = (struct chat){0};
}
