/* rows: kinds of rows and their encoding. Chat rows are checked in chat_rows.c. */
#include "engine/text/rows.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const struct {
    enum row_kind kind;
    const char *keys[5]; /* the first ones, up to `named`, tell the kind */
    int named;
} kinds[] = {
    {ROW_CHAT, {"messages", "tools", "parallel_tool_calls", "functions"}, 1},
    {ROW_COMPLETION, {"prompt", "completion"}, 2},
    {ROW_TEXT, {"text"}, 1},
    {ROW_TOKENS, {"input_ids", "labels"}, 1},
};

#define N_KINDS (sizeof kinds / sizeof kinds[0])

const char *row_kind_name(enum row_kind kind) {
    static const char *const names[] = {"none", "chat", "completion", "text", "tokens"};
    return names[kind];
}

enum err row_kind_of(const json_t *row, enum row_kind *kind, struct err_msg *em) {
    const char *found = NULL;
    for (size_t k = 0; k < N_KINDS; k++)
        for (int i = 0; i < kinds[k].named; i++) {
            const char *key = kinds[k].keys[i];
            if (json_object_get(row, key) == NULL)
                continue;
            if (found != NULL && *kind != kinds[k].kind)
                return err_set_param(em, ERR_INPUT, key,
                                     "the row has both `%s` and `%s`; which kind of row is it?",
                                     found, key);
            found = key;
            *kind = kinds[k].kind;
        }
    if (found != NULL)
        return ERR_OK;
    if (json_object_get(row, "preferred_output") != NULL ||
        json_object_get(row, "preferred_completion") != NULL)
        return err_set(em, ERR_INPUT, "preference rows (DPO) are not supported");
    return err_set(em, ERR_INPUT,
                   "the row has none of the keys that name its kind: `messages`, `prompt` and "
                   "`completion`, `text`, or `input_ids` and `labels`");
}

const char *row_unused_key(const json_t *row, enum row_kind kind) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)row, key, value) {
        bool used = false;
        for (size_t k = 0; k < N_KINDS; k++)
            for (size_t i = 0; kinds[k].kind == kind && kinds[k].keys[i] != NULL; i++)
                used = used || strcmp(kinds[k].keys[i], key) == 0;
        if (!used)
            return key;
    }
    return NULL;
}

enum err row_encoder_init(struct row_encoder *enc, const struct dataset_options *options,
                          struct err_msg *em) {
    *enc = (struct row_encoder){.options = options};
    if (options->tokenizer == NULL)
        return ERR_OK;
    enum err e =
        tokenizer_encode(options->tokenizer, "", 0, TOKENIZER_ADD_SPECIAL, &enc->start, em);
    /* A post-processor that also ends texts gives BOS EOS here: only what stands before counts. */
    while (enc->start.len > 0 && enc->start.data[enc->start.len - 1] == options->eos_id)
        enc->start.len--;
    if (e != ERR_OK)
        row_encoder_clear(enc);
    return e;
}

void row_encoder_clear(struct row_encoder *enc) {
    ids_clear(&enc->start);
}

/* ---- rows that are text ---------------------------------------------------------------------- */

static enum err check_string(const json_t *value, const char *key, struct err_msg *em) {
    if (value == NULL)
        return err_set_param(em, ERR_INPUT, key, "`%s` is missing", key);
    if (!json_is_string(value))
        return err_set_param(em, ERR_INPUT, key, "`%s` must be a string", key);
    return ERR_OK;
}

static enum err add_string(const struct row_encoder *enc, const json_t *row, const char *key,
                           struct ids *ids, struct err_msg *em) {
    const json_t *value = json_object_get(row, key);
    enum err e = check_string(value, key, em);
    if (e != ERR_OK)
        return e;
    return tokenizer_encode(enc->options->tokenizer, json_string_value(value),
                            json_string_length(value), TOKENIZER_PARSE_SPECIAL, ids, em);
}

/* Prompt and completion as one text, if the prompt's ids (those of ids from `from`) begin it: then
 * the rest of the text's ids is added. */
static enum err add_rest_of_text(const struct row_encoder *enc, const json_t *prompt,
                                 const json_t *completion, size_t from, struct ids *ids,
                                 bool *added, struct err_msg *em) {
    size_t n = json_string_length(prompt), more = json_string_length(completion);
    size_t prompt_ids = ids->len - from;
    char *text = xmalloc(n + more + 1); /* two strings of one line */
    struct ids whole = {0};
    memcpy(text, json_string_value(prompt), n);
    memcpy(text + n, json_string_value(completion), more);
    enum err e = tokenizer_encode(enc->options->tokenizer, text, n + more, TOKENIZER_PARSE_SPECIAL,
                                  &whole, em);
    *added = e == ERR_OK && whole.len >= prompt_ids && prompt_ids > 0 &&
             memcmp(whole.data, ids->data + from, prompt_ids * sizeof *ids->data) == 0;
    for (size_t i = prompt_ids; *added && i < whole.len; i++)
        ids_add(ids, whole.data[i]);
    ids_clear(&whole);
    free(text);
    return e;
}

/* The completion goes on with the prompt's text: no token of it may stand for the space that
 * SentencePiece tokenizers put before a text. Where the two would share a token it is encoded by
 * itself, since the model is given the prompt's own tokens. */
static enum err add_completion(const struct row_encoder *enc, const json_t *row, size_t from,
                               struct ids *ids, struct err_msg *em) {
    const json_t *prompt = json_object_get(row, "prompt");
    const json_t *completion = json_object_get(row, "completion");
    bool added = false;
    enum err e = check_string(completion, "completion", em);
    if (e == ERR_OK)
        e = add_rest_of_text(enc, prompt, completion, from, ids, &added, em);
    if (e != ERR_OK || added)
        return e;
    unsigned flags = TOKENIZER_PARSE_SPECIAL | (ids->len > from ? TOKENIZER_CONTINUE : 0u);
    return tokenizer_encode(enc->options->tokenizer, json_string_value(completion),
                            json_string_length(completion), flags, ids, em);
}

/* Labels for the ids from labels->len on. */
static void add_labels(const struct ids *ids, bool trained, struct ids *labels) {
    for (size_t i = labels->len; i < ids->len; i++)
        ids_add(labels, trained ? ids->data[i] : LABEL_IGNORE);
}

/* Ends the row and gives labels to what is new since the prompt's. */
static enum err end_text(const struct row_encoder *enc, const char *key, struct ids *ids,
                         struct ids *labels, struct err_msg *em) {
    int32_t eos = enc->options->eos_id;
    if (eos >= 0 && (ids->len == 0 || ids->data[ids->len - 1] != eos))
        ids_add(ids, eos);
    add_labels(ids, true, labels);
    return ids->len > 0 ? ERR_OK : err_set_param(em, ERR_INPUT, key, "`%s` has no tokens", key);
}

static void add_start(const struct row_encoder *enc, struct ids *ids) {
    for (size_t i = 0; i < enc->start.len; i++)
        ids_add(ids, enc->start.data[i]);
}

static enum err encode_text(const struct row_encoder *enc, const json_t *row, struct ids *ids,
                            struct ids *labels, struct err_msg *em) {
    add_start(enc, ids);
    enum err e = add_string(enc, row, "text", ids, em);
    return e == ERR_OK ? end_text(enc, "text", ids, labels, em) : e;
}

static enum err encode_completion(const struct row_encoder *enc, const json_t *row, struct ids *ids,
                                  struct ids *labels, struct err_msg *em) {
    add_start(enc, ids);
    size_t from = ids->len;
    enum err e = add_string(enc, row, "prompt", ids, em);
    add_labels(ids, enc->options->train_on == TRAIN_ON_ALL, labels);
    if (e == ERR_OK)
        e = add_completion(enc, row, from, ids, em);
    return e == ERR_OK ? end_text(enc, "completion", ids, labels, em) : e;
}

/* ---- pre-tokenized rows ---------------------------------------------------------------------- */

static enum err read_ids(const json_t *row, const char *key, int32_t vocab, bool ignore,
                         struct ids *out, struct err_msg *em) {
    const json_t *array = json_object_get(row, key);
    size_t i;
    json_t *value;
    if (!json_is_array(array))
        return err_set_param(em, ERR_INPUT, key, "`%s` must be an array of integers", key);
    json_array_foreach(array, i, value) {
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value))
            return err_set_param(em, ERR_INPUT, key, "%s[%zu] must be an integer", key, i);
        if ((id < 0 || id >= vocab) && !(ignore && id == LABEL_IGNORE))
            return err_set_param(em, ERR_INPUT, key,
                                 "%s[%zu] is %" JSON_INTEGER_FORMAT "; ids go from 0 to %d%s", key,
                                 i, id, vocab - 1, ignore ? ", and -100 is not trained" : "");
        ids_add(out, (int32_t)id);
    }
    return ERR_OK;
}

static enum err encode_tokens(const struct row_encoder *enc, const json_t *row, struct ids *ids,
                              struct ids *labels, struct err_msg *em) {
    const json_t *given = json_object_get(row, "labels");
    int32_t vocab = enc->options->vocab_size;
    enum err e = read_ids(row, "input_ids", vocab, false, ids, em);
    if (e != ERR_OK)
        return e;
    if (ids->len == 0)
        return err_set_param(em, ERR_INPUT, "input_ids", "`input_ids` is empty");
    if (given == NULL || json_is_null(given)) {
        add_labels(ids, true, labels);
        return ERR_OK;
    }
    e = read_ids(row, "labels", vocab, true, labels, em);
    if (e == ERR_OK && labels->len != ids->len)
        e = err_set_param(em, ERR_INPUT, "labels",
                          "`labels` has %zu entries and `input_ids` %zu; each token needs its own "
                          "label (-100: not trained)",
                          labels->len, ids->len);
    return e;
}

static enum err check_vocabulary(const struct row_encoder *enc, const struct ids *ids,
                                 struct err_msg *em) {
    for (size_t i = 0; i < ids->len; i++)
        if (ids->data[i] < 0 || ids->data[i] >= enc->options->vocab_size)
            return err_set(em, ERR_INPUT,
                           "the row has token id %d, but the model's vocabulary ends at %d: the "
                           "tokenizer has more tokens than the model",
                           ids->data[i], enc->options->vocab_size - 1);
    return ERR_OK;
}

static enum err check_tokenizer(const struct dataset_options *o, enum row_kind kind,
                                struct err_msg *em) {
    if (o->tokenizer != NULL && (kind != ROW_CHAT || o->template != NULL))
        return ERR_OK;
    return err_set(em, ERR_INPUT,
                   "the model has no tokenizer; it takes only rows of `input_ids` and `labels`");
}

enum err row_encode(const struct row_encoder *enc, const json_t *row, enum row_kind kind,
                    struct ids *ids, struct ids *labels, struct err_msg *em) {
    const struct dataset_options *o = enc->options;
    enum err e = ERR_OK;
    ids_reset(ids);
    ids_reset(labels);
    if (kind == ROW_TOKENS)
        return encode_tokens(enc, row, ids, labels, em);
    e = check_tokenizer(o, kind, em);
    if (e != ERR_OK)
        return e;
    if (kind == ROW_CHAT)
        e = chat_template_render(o->template, row, o->train_on, ids, labels, em);
    else if (kind == ROW_COMPLETION)
        e = encode_completion(enc, row, ids, labels, em);
    else
        e = encode_text(enc, row, ids, labels, em);
    return e != ERR_OK ? e : check_vocabulary(enc, ids, em);
}

enum err row_check(const struct row_encoder *enc, const json_t *row, enum row_kind kind,
                   struct err_msg *em) {
    enum err e = check_tokenizer(enc->options, kind, em);
    if (e == ERR_OK && kind == ROW_CHAT)
        return chat_template_check(enc->options->template, row, enc->options->train_on, em);
    if (e == ERR_OK && kind == ROW_COMPLETION)
        e = check_string(json_object_get(row, "prompt"), "prompt", em);
    const char *key = kind == ROW_TEXT ? "text" : "completion";
    return e == ERR_OK ? check_string(json_object_get(row, key), key, em) : e;
}
