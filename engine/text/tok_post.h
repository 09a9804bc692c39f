/* tok_post: the `post_processor` of tokenizer.json.
 *
 * What:    TemplateProcessing (single sequences), BertProcessing, RobertaProcessing, ByteLevel
 *          (which only moves offsets) and Sequence, as one template of ids around the text's ids.
 * Owns:    struct tok_post its items.
 * Threads: read-only after loading.
 * Errors:  ERR_INPUT, or ERR_UNSUPPORTED naming the type.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_POST_H
#define FFWD_ENGINE_TEXT_TOK_POST_H

#include <stdbool.h>

#include "engine/text/tok_json.h"
#include "engine/text/tokenizer.h"

#define TOK_POST_TEXT (-1) /* item that stands for the text's ids */

struct tok_post {
    bool present;     /* a template is given */
    struct ids items; /* ids and TOK_POST_TEXT */
};

enum err tok_post_load(struct tok_post *p, const json_t *json, const struct tok_path *at,
                       struct err_msg *em) NODISCARD;
void tok_post_clear(struct tok_post *p);

/* Rebuilds ids[from…) by the template; without `special` only the text's places count. */
void tok_post_apply(const struct tok_post *p, bool special, struct ids *ids, size_t from);

#endif
