/* chat_detect: which chat template a model folder has.
 *
 * The text of the template decides (chat_template.jinja, else `chat_template` of
 * tokenizer_config.json): its family is told by its markers, and the small differences inside a
 * family are read from it. Without a template the special tokens decide, then the model's type.
 */
#include "engine/text/chat_render.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "engine/text/chat_known.h"

static bool has(const char *text, const char *part) {
    return strstr(text, part) != NULL;
}

void chat_marker_set(struct chat_template *t, struct chat_marker *marker, const char *text) {
    struct ids ids = {0};
    unsigned flags = TOKENIZER_PARSE_SPECIAL | TOKENIZER_CONTINUE;
    char *old = marker->text;
    marker->text = xstrdup(text);
    marker->id = -1;
    if (tokenizer_encode(t->tok, text, strlen(text), flags, &ids, NULL) == ERR_OK && ids.len == 1)
        marker->id = ids.data[0];
    ids_clear(&ids);
    free(old);
}

/* ---- the folder's files ---------------------------------------------------------------------- */

/* A file that is missing is *text NULL. */
static enum err read_optional(const char *dir, const char *name, size_t max, char **text,
                              struct err_msg *em) {
    char *path = xasprintf("%s/%s", dir, name);
    enum err e = ERR_OK;
    *text = NULL;
    if (file_size(path) >= 0)
        e = file_read(path, max, text, NULL, em);
    free(path);
    return e;
}

static enum err read_json(const char *dir, const char *name, json_t **out, struct err_msg *em) {
    char *text = NULL;
    json_error_t error;
    *out = NULL;
    enum err e = read_optional(dir, name, LIMIT_JSON_FILE, &text, em);
    if (e == ERR_OK && text != NULL) {
        /* model_max_length may be 1e30 written as an integer. */
        *out = json_loads(text, JSON_DECODE_INT_AS_REAL, &error);
        if (!json_is_object(*out))
            e = err_set(em, ERR_INPUT, "%s/%s: not a JSON object (line %d: %s)", dir, name,
                        error.line, error.text);
    }
    free(text);
    if (e != ERR_OK && *out != NULL) {
        json_decref(*out);
        *out = NULL;
    }
    return e;
}

/* The template's text, NULL if the folder has none; the caller frees. Of several, the default. */
static enum err read_template(const char *dir, const json_t *config, char **text,
                              struct err_msg *em) {
    enum err e = read_optional(dir, "chat_template.jinja", LIMIT_JSON_BODY, text, em);
    if (e != ERR_OK || *text != NULL)
        return e;
    const json_t *value = json_object_get(config, "chat_template");
    size_t i;
    json_t *entry;
    json_array_foreach(value, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name != NULL && strcmp(name, "default") == 0)
            *text = xstrdup(json_string_value(json_object_get(entry, "template")) != NULL
                                ? json_string_value(json_object_get(entry, "template"))
                                : "");
    }
    if (json_is_string(value))
        *text = xstrdup(json_string_value(value));
    return ERR_OK;
}

/* bos_token and eos_token are strings or objects with `content`. */
static const char *token_text(const json_t *config, const char *key, const char *otherwise) {
    const json_t *value = json_object_get(config, key);
    if (json_is_object(value))
        value = json_object_get(value, "content");
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

/* ---- the variant inside a family ------------------------------------------------------------- */

/* The text of a Jinja string literal up to stop, escapes resolved; NULL if the literal ends before
 * stop does: then what follows is computed, not a default. */
static char *literal_until(const char *from, const char *stop) {
    const char *end = strstr(from, stop);
    if (end == NULL)
        return NULL;
    char *out = xmalloc((size_t)(end - from) + 1);
    size_t n = 0;
    for (const char *p = from; p < end; p++) {
        if (*p == '\'' || *p == '"' || strncmp(p, "{{", 2) == 0 || strncmp(p, "{%", 2) == 0) {
            free(out);
            return NULL;
        }
        if (*p == '\\' && p + 1 < end)
            p++, out[n++] = *p == 'n' ? '\n' : *p;
        else
            out[n++] = *p;
    }
    out[n] = '\0';
    return out;
}

static char *find_default_system(const char *text) {
    static const char open[] = "<|im_start|>system";
    for (const char *at = strstr(text, open); at != NULL; at = strstr(at, open)) {
        at += sizeof open - 1;
        const char *from = *at == '\n' ? at + 1 : strncmp(at, "\\n", 2) == 0 ? at + 2 : NULL;
        char *found = from != NULL ? literal_until(from, "<|im_end|>") : NULL;
        if (found != NULL)
            return found;
    }
    return NULL;
}

static void set_chatml(struct chat_template *t, const char *text, const json_t *config) {
    t->family = has(text, "<args-json-object>") ? CHAT_QWEN : CHAT_CHATML;
    chat_marker_set(t, &t->start, "<|im_start|>");
    chat_marker_set(t, &t->end, "<|im_end|>");
    t->default_system = find_default_system(text);
    const char *bos = token_text(config, "bos_token", NULL);
    if (t->family == CHAT_CHATML && bos != NULL && has(text, "bos_token"))
        chat_marker_set(t, &t->bos, bos);
}

static void set_llama3(struct chat_template *t, const char *text, const json_t *config) {
    t->family = has(text, "Cutting Knowledge Date") ? CHAT_LLAMA31 : CHAT_LLAMA3;
    chat_marker_set(t, &t->start, "<|start_header_id|>");
    chat_marker_set(t, &t->header_end, "<|end_header_id|>");
    chat_marker_set(t, &t->end, "<|eot_id|>");
    chat_marker_set(t, &t->bos, token_text(config, "bos_token", "<|begin_of_text|>"));
}

static void set_inst(struct chat_template *t, const char *text, const json_t *config) {
    bool llama2 = has(text, "<<SYS>>");
    bool spaced = has(text, "' ' + message") || has(text, "\" \" + message");
    t->family = llama2 ? CHAT_LLAMA2 : CHAT_MISTRAL;
    chat_marker_set(t, &t->start, "[INST]");
    chat_marker_set(t, &t->end, "[/INST]");
    chat_marker_set(t, &t->bos, token_text(config, "bos_token", "<s>"));
    chat_marker_set(t, &t->eos, token_text(config, "eos_token", "</s>"));
    t->before_inst = !llama2 && (has(text, "' [INST]") || has(text, "\" [INST]")) ? " " : "";
    t->after_inst = has(text, "[INST] ") ? " " : "";
    t->before_inst_end = has(text, " [/INST]") ? " " : "";
    t->before_answer = llama2 || spaced ? " " : "";
    t->before_eos = llama2 ? " " : "";
    t->after_eos = has(text, "eos_token + ' '") || has(text, "eos_token + \" \"") ? " " : "";
    t->system_in_last = has(text, "loop.last and system_message") || has(text, "user_messages[-1]");
    t->refuses_system = !has(text, "system");
    t->strips = has(text, "content.strip()") || has(text, "trim }") || has(text, "trim +");
}

static void set_zephyr(struct chat_template *t, const json_t *config) {
    t->family = CHAT_ZEPHYR;
    chat_marker_set(t, &t->eos, token_text(config, "eos_token", "</s>"));
}

static void from_text(struct chat_template *t, const char *text, const json_t *config) {
    if (has(text, "<|start_header_id|>"))
        set_llama3(t, text, config);
    else if (has(text, "<|im_start|>"))
        set_chatml(t, text, config);
    else if (has(text, "[INST]"))
        set_inst(t, text, config);
    else if (has(text, "<|user|>") && has(text, "<|assistant|>") && has(text, "eos_token"))
        set_zephyr(t, config);
    else
        t->family = CHAT_UNKNOWN;
    t->guessed = !chat_text_known(text);
}

/* The model has no template. */
static enum err from_model(struct chat_template *t, const char *dir, const json_t *config,
                           struct err_msg *em) {
    static const char mistral[] = "'[INST] ' ' [/INST]' \" \" + message system_message";
    json_t *model = NULL;
    enum err e = read_json(dir, "config.json", &model, em);
    if (e != ERR_OK)
        return e;
    const char *type = json_string_value(json_object_get(model, "model_type"));
    t->fallback = true;
    if (tokenizer_id(t->tok, "<|start_header_id|>") >= 0 && tokenizer_id(t->tok, "<|eot_id|>") >= 0)
        set_llama3(t, "", config);
    else if (type != NULL && strcmp(type, "mistral") == 0 &&
             tokenizer_id(t->tok, "<|im_start|>") < 0)
        set_inst(t, mistral, config);
    else
        set_chatml(t, "", config);
    json_decref(model);
    return ERR_OK;
}

enum err chat_detect(const char *model_dir, struct chat_template *t, struct err_msg *em) {
    json_t *config = NULL;
    char *text = NULL;
    enum err e = read_json(model_dir, "tokenizer_config.json", &config, em);
    if (e == ERR_OK)
        e = read_template(model_dir, config, &text, em);
    if (e == ERR_OK && text != NULL)
        from_text(t, text, config);
    else if (e == ERR_OK)
        e = from_model(t, model_dir, config, em);
    json_decref(config);
    free(text);
    return e;
}
