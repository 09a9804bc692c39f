/* card: README.md of an adapter, in the form of a model card.
 *
 * What:    says what the adapter was made of and how: base model, hash of the data, settings,
 *          losses, how to load it.
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  those of the disk.
 */
#ifndef FFWD_ENGINE_TRAIN_CARD_H
#define FFWD_ENGINE_TRAIN_CARD_H

#include "base/job_request.h"
#include "engine/model/adapter.h"
#include "engine/text/dataset.h"
#include "engine/train/plan.h"
#include "engine/train/state.h"

struct card {
    const char *model_name;
    const struct job_request *request;
    const struct plan *plan;
    const struct lora_options *lora;
    const struct dataset_report *train, *valid; /* valid NULL: none */
    const struct run_state *state;
    const char *device, *dtype;
    bool fast_forward; /* it was on: asked for, and there were rows to measure on */
    int32_t max_seq_len;
    uint64_t seed;
};

enum err card_write(const struct card *c, const char *path, struct err_msg *em) NODISCARD;

#endif
