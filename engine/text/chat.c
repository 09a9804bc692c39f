/* chat: opening a template and rendering a row with it. */
#include "engine/text/chat.h"

#include <stdlib.h>

#include "base/limits.h"
#include "base/mem.h"
#include "engine/text/chat_render.h"

static const struct {
    const char *name;
    void (*render)(const struct chat_rendering *r);
} families[] = {
    [CHAT_UNKNOWN] = {"unknown", NULL},
    [CHAT_CHATML] = {"chatml", chat_render_chatml},
    [CHAT_QWEN] = {"qwen", chat_render_qwen},
    [CHAT_LLAMA3] = {"llama3", chat_render_llama3},
    [CHAT_LLAMA31] = {"llama3.1", chat_render_llama31},
    [CHAT_LLAMA2] = {"llama2", chat_render_inst},
    [CHAT_MISTRAL] = {"mistral", chat_render_inst},
    [CHAT_ZEPHYR] = {"zephyr", chat_render_zephyr},
};

enum err chat_template_open(const char *model_dir, const struct tokenizer *tok,
                            struct chat_template **out, struct err_msg *em) {
    struct chat_template *t = xcalloc(1, sizeof *t);
    t->tok = tok;
    enum err e = chat_detect(model_dir, t, em);
    if (e != ERR_OK) {
        chat_template_close(t);
        return e;
    }
    *out = t;
    return ERR_OK;
}

void chat_template_close(struct chat_template *t) {
    if (t == NULL)
        return;
    struct chat_marker *markers[] = {&t->start, &t->end, &t->header_end, &t->bos, &t->eos};
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++)
        free(markers[i]->text);
    free(t->default_system);
    free(t);
}

const char *chat_template_name(const struct chat_template *t) {
    return families[t->family].name;
}

const char *chat_template_note(const struct chat_template *t) {
    if (t->family == CHAT_UNKNOWN)
        return "the model's chat_template is not one that ffwd knows: chat rows cannot be used, "
               "other kinds of rows can";
    if (t->fallback && t->family == CHAT_CHATML && t->start.id < 0)
        return "the model has no chat template: conversations are written as ChatML text";
    if (t->fallback)
        return "the model has no chat template: one was chosen by its special tokens or type";
    if (t->guessed)
        return "the model's chat_template is not known word for word: its family was recognised, "
               "details may differ";
    return NULL;
}

/* tok NULL: only checks. */
static enum err render(const struct chat_template *t, const struct tokenizer *tok,
                       const json_t *row, enum train_on train_on, struct ids *ids,
                       struct ids *labels, struct err_msg *em) {
    struct chat chat;
    struct chat_sink sink;
    if (t->family == CHAT_UNKNOWN)
        return err_set(em, ERR_UNSUPPORTED, "%s", chat_template_note(t));
    enum err e = chat_read(row, train_on != TRAIN_ON_ALL, &chat, em);
    if (e != ERR_OK)
        return e;
    /* A row's text is at most the line; tools may be written out with indentation. */
    chat_sink_init(&sink, tok, (size_t)LIMIT_ROW_BYTES * 8, ids, labels, em);
    sink.all = train_on == TRAIN_ON_ALL;
    struct chat_rendering r = {
        .t = t, .chat = &chat, .sink = &sink, .train_on = train_on, .last_assistant = chat.n};
    for (size_t i = 0; i < chat.n; i++)
        if (chat.messages[i].role == CHAT_ASSISTANT)
            r.last_assistant = i;
    families[t->family].render(&r);
    e = chat_sink_end(&sink);
    chat_clear(&chat);
    return e;
}

enum err chat_template_render(const struct chat_template *t, const json_t *row,
                              enum train_on train_on, struct ids *ids, struct ids *labels,
                              struct err_msg *em) {
    return render(t, t->tok, row, train_on, ids, labels, em);
}

enum err chat_template_check(const struct chat_template *t, const json_t *row,
                             enum train_on train_on, struct err_msg *em) {
    return render(t, NULL, row, train_on, NULL, NULL, em);
}
