/* chat: messages to token ids with a mask of what is trained on.
 *
 * What:    renders a conversation in the model's chat template. Templates are recognised (by the
 *          text of `chat_template`, else by the special tokens the vocabulary has) and rendered by
 *          hand-written functions; ChatML is the fallback.
 * Owns:    struct chat_template is read-only after opening.
 * Threads: safe for several threads.
 * Errors:  a conversation the template cannot express is ERR_INPUT naming the message index; a
 *          model whose template nothing here knows is ERR_UNSUPPORTED when a row is rendered.
 *
 * The content of a message is always encoded without special tokens: a row cannot forge a role.
 * The ids are those of transformers' apply_chat_template, with these differences: the role
 * `developer` is read as `system` and `function` as `tool`; text parts are concatenated; tool-call
 * arguments given as a string are parsed first, so that they are written as the object they are;
 * Llama 3.2's "Today Date" is always 26 Jul 2024; special tokens in contents are text.
 */
#ifndef FFWD_ENGINE_TEXT_CHAT_H
#define FFWD_ENGINE_TEXT_CHAT_H

#include <jansson.h>

#include "base/err.h"
#include "engine/text/tokenizer.h"

enum train_on { TRAIN_ON_ASSISTANT, TRAIN_ON_RESPONSE, TRAIN_ON_ALL };

/* Label of a position that is not trained on, as in transformers. */
#define LABEL_IGNORE (-100)

struct chat_template;

/* Reads tokenizer_config.json / chat_template.jinja of the folder if there are any. tok is borrowed
 * for the template's life. */
enum err chat_template_open(const char *model_dir, const struct tokenizer *tok,
                            struct chat_template **out, struct err_msg *em) NODISCARD;
void chat_template_close(struct chat_template *t);
/* "chatml", "qwen", "llama3", "llama3.1", "llama2", "mistral", "zephyr", "unknown": for reports. */
const char *chat_template_name(const struct chat_template *t);
/* A sentence to read before training on chat rows (the model has no template; its text is not one
 * known word for word), or NULL. */
const char *chat_template_note(const struct chat_template *t);

/* row: {"messages":[…], "tools":[…]?}. Appends to ids and labels (same length; labels[i] is ids[i]
 * or LABEL_IGNORE); on an error what they got is undefined. TRAIN_ON_ASSISTANT trains every
 * assistant message whose weight is not 0 with its end token; TRAIN_ON_RESPONSE only the last
 * assistant message; TRAIN_ON_ALL every token. */
enum err chat_template_render(const struct chat_template *t, const json_t *row,
                              enum train_on train_on, struct ids *ids, struct ids *labels,
                              struct err_msg *em) NODISCARD;
/* What is wrong with the row, without encoding it. */
enum err chat_template_check(const struct chat_template *t, const json_t *row,
                             enum train_on train_on, struct err_msg *em) NODISCARD;

#endif
