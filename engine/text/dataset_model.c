/* dataset_model: config.json and tokenizer_config.json, as far as texts are concerned. */
#include "engine/text/dataset_model.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define DEFAULT_SEQ_LEN 2048

/* A file that is missing gives *out NULL. flags: jansson's; tokenizer_config.json may hold integers
 * that fit no integer type (model_max_length). */
static enum err read_object(const char *dir, const char *name, size_t flags, json_t **out,
                            struct err_msg *em) {
    char *path = xasprintf("%s/%s", dir, name), *text = NULL;
    json_error_t error;
    enum err e = ERR_OK;
    *out = NULL;
    if (file_size(path) >= 0)
        e = file_read(path, LIMIT_JSON_FILE, &text, NULL, em);
    if (text != NULL) {
        json_t *value = json_loads(text, flags, &error);
        if (json_is_object(value)) {
            *out = value;
        } else {
            json_decref(value);
            e = err_set(em, ERR_INPUT, "%s is not a JSON object (line %d: %s)", path, error.line,
                        error.text);
        }
    }
    free(text);
    free(path);
    return e;
}

static int32_t first_id(const json_t *value) {
    if (json_is_array(value))
        value = json_array_get(value, 0);
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    return id >= 0 && id < LIMIT_VOCAB ? (int32_t)id : -1;
}

static enum err read_config(const char *dir, const json_t *config, struct dataset_model *m,
                            struct err_msg *em) {
    const json_t *vocab = json_object_get(config, "vocab_size");
    const json_t *positions = json_object_get(config, "max_position_embeddings");
    m->vocab_size = m->tokenizer != NULL ? tokenizer_vocab_size(m->tokenizer) : 0;
    if (config != NULL) {
        json_int_t n = json_integer_value(vocab);
        if (!json_is_integer(vocab) || n < 1 || n > LIMIT_VOCAB)
            return err_set(em, ERR_INPUT,
                           "%s/config.json: vocab_size must be an integer from 1 to %d", dir,
                           LIMIT_VOCAB);
        m->vocab_size = (int32_t)n;
    }
    if (json_is_integer(positions) && json_integer_value(positions) > 0 &&
        json_integer_value(positions) <= LIMIT_POSITIONS)
        m->max_positions = (int32_t)json_integer_value(positions);
    m->eos_id = first_id(json_object_get(config, "eos_token_id"));
    return ERR_OK;
}

/* eos_token is a string or an object with `content`. */
static void read_eos(const json_t *config, struct dataset_model *m) {
    const json_t *token = json_object_get(config, "eos_token");
    if (json_is_object(token))
        token = json_object_get(token, "content");
    int32_t id = json_is_string(token) ? tokenizer_id(m->tokenizer, json_string_value(token)) : -1;
    if (id >= 0)
        m->eos_id = id;
}

static enum err read_tokenizer(const char *dir, struct dataset_model *m, struct err_msg *em) {
    char *path = xasprintf("%s/tokenizer.json", dir);
    bool present = file_size(path) >= 0;
    free(path);
    if (!present)
        return ERR_OK;
    enum err e = tokenizer_open(dir, &m->tokenizer, em);
    return e != ERR_OK ? e : chat_template_open(dir, m->tokenizer, &m->template, em);
}

enum err dataset_model_open(const char *model_dir, struct dataset_model *out, struct err_msg *em) {
    json_t *config = NULL, *tokenizer_config = NULL;
    *out = (struct dataset_model){.eos_id = -1};
    enum err e = read_object(model_dir, "config.json", 0, &config, em);
    if (e == ERR_OK)
        e = read_tokenizer(model_dir, out, em);
    if (e == ERR_OK && config == NULL && out->tokenizer == NULL)
        e = err_set(em, ERR_INPUT,
                    "%s is not a model folder: it has neither config.json nor "
                    "tokenizer.json",
                    model_dir);
    if (e == ERR_OK)
        e = read_config(model_dir, config, out, em);
    if (e == ERR_OK && out->tokenizer != NULL)
        e = read_object(model_dir, "tokenizer_config.json", JSON_DECODE_INT_AS_REAL,
                        &tokenizer_config, em);
    if (e == ERR_OK && tokenizer_config != NULL)
        read_eos(tokenizer_config, out);
    json_decref(config);
    json_decref(tokenizer_config);
    if (e != ERR_OK)
        dataset_model_close(out);
    return e;
}

void dataset_model_close(struct dataset_model *m) {
    chat_template_close(m->template);
    tokenizer_close(m->tokenizer);
    *m = (struct dataset_model){0};
}

void dataset_model_options(const struct dataset_model *m, int max_seq_len,
                           struct dataset_options *out) {
    if (max_seq_len == 0) {
        max_seq_len = DEFAULT_SEQ_LEN;
        if (m->max_positions > 0 && m->max_positions < max_seq_len)
            max_seq_len = m->max_positions;
    }
    *out = (struct dataset_options){.tokenizer = m->tokenizer,
                                    .template = m->template,
                                    .vocab_size = m->vocab_size,
                                    .eos_id = m->eos_id,
                                    .max_seq_len = max_seq_len,
                                    .long_examples = LONG_TRUNCATE,
                                    .train_on = TRAIN_ON_ASSISTANT};
}
