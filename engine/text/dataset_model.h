/* dataset_model: what a model folder says about its texts.
 *
 * What:    opens the tokenizer and the chat template where there are any, and finds the size of the
 *          vocabulary, the end token and the longest sequence, so that `ffwd check` and training
 *          read a data set with the same options.
 * Owns:    tokenizer and template; free with dataset_model_close.
 * Threads: read-only after opening.
 * Errors:  those of the files; a folder with neither config.json nor tokenizer.json is ERR_INPUT.
 */
#ifndef FFWD_ENGINE_TEXT_DATASET_MODEL_H
#define FFWD_ENGINE_TEXT_DATASET_MODEL_H

#include "engine/text/dataset.h"

struct dataset_model {
    struct tokenizer *tokenizer;    /* NULL: the folder has no tokenizer.json */
    struct chat_template *template; /* NULL as above */
    int32_t vocab_size;             /* config.json's, else the tokenizer's */
    int32_t eos_id;                 /* eos_token of tokenizer_config.json, else config.json's; -1 */
    int32_t max_positions;          /* of config.json; 0: not said */
};

enum err dataset_model_open(const char *model_dir, struct dataset_model *out,
                            struct err_msg *em) NODISCARD;
void dataset_model_close(struct dataset_model *m);

/* Options with the model's values; max_seq_len 0 means min(model's, 2048). Borrows from m. */
void dataset_model_options(const struct dataset_model *m, int max_seq_len,
                           struct dataset_options *out);

#endif
