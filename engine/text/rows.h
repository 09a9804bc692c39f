/* rows: one JSON row of a data set to token ids and labels.
 *
 * What:    tells which kind of row an object is, checks it, and encodes it:
 *          {"messages"}              as the model's chat template says (chat.h);
 *          {"prompt","completion"}   start tokens, prompt, completion, end token; the prompt is not
 *                                    trained on (unless train_on is `all`); the completion's tokens
 *                                    are those that go on with the prompt's text;
 *          {"text"}                  start tokens, text, end token, all trained on;
 *          {"input_ids","labels"?}   as given; without labels every token is trained on.
 *          Start tokens are those the tokenizer's post-processor puts before a text (BOS); the end
 *          token is left out where the text already ends with it. Special tokens written in a text,
 *          prompt or completion are recognised: these rows have no roles to forge.
 * Owns:    struct row_encoder owns its start tokens; the options are borrowed.
 * Threads: an encoder is read-only after row_encoder_init.
 * Errors:  ERR_INPUT with the path of the value at fault.
 */
#ifndef FFWD_ENGINE_TEXT_ROWS_H
#define FFWD_ENGINE_TEXT_ROWS_H

#include <jansson.h>

#include "base/err.h"
#include "engine/text/dataset.h"

struct row_encoder {
    const struct dataset_options *options;
    struct ids start; /* BOS, or empty */
};

enum err row_encoder_init(struct row_encoder *enc, const struct dataset_options *options,
                          struct err_msg *em) NODISCARD;
void row_encoder_clear(struct row_encoder *enc);

/* "chat", "completion", "text", "tokens" or "none". */
const char *row_kind_name(enum row_kind kind);

/* By its keys; a row of no kind or of several is refused. */
enum err row_kind_of(const json_t *row, enum row_kind *kind, struct err_msg *em) NODISCARD;

/* A key of the row that its kind does not use, or NULL. */
const char *row_unused_key(const json_t *row, enum row_kind kind);

/* Replaces ids and labels (same length, at least 1). Ids are inside the vocabulary. */
enum err row_encode(const struct row_encoder *enc, const json_t *row, enum row_kind kind,
                    struct ids *ids, struct ids *labels, struct err_msg *em) NODISCARD;

/* What is wrong with a row that is text (not ROW_TOKENS), as far as it shows without encoding it.
 */
enum err row_check(const struct row_encoder *enc, const json_t *row, enum row_kind kind,
                   struct err_msg *em) NODISCARD;

#endif
