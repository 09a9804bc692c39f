/* evaluate: the loss of given rows, without dropout.
 *
 * What:    token-weighted mean loss and accuracy of the rows of a data set; and the same for a
 *          small set that is kept in memory as ready batches, because Fast Forward measures it many
 *          times.
 * Owns:    a held set owns its copies; an evaluator borrows pass and batcher and owns its buffers.
 * Threads: one control thread.
 * Errors:  those of the data set, of the pass, and of the poll function (asked between batches).
 */
#ifndef FFWD_ENGINE_TRAIN_EVALUATE_H
#define FFWD_ENGINE_TRAIN_EVALUATE_H

#include <stdint.h>

#include "engine/model/model.h"
#include "engine/train/batcher.h"
#include "engine/train/order.h"

/* What is known about a set of rows; loss in nats per trained token. */
struct measurement {
    double loss, accuracy; /* NaN: not measured */
    int64_t targets;
};
#define MEASUREMENT_NONE ((struct measurement){NAN, NAN, 0})

struct evaluator {
    struct model *model;
    struct pass *pass;
    struct batcher *batcher;
    float *nll;       /* [capacity] */
    uint8_t *correct; /* [capacity] */
    enum err (*poll)(void *arg, struct err_msg *em);
    void *poll_arg;
};
void evaluator_init(struct evaluator *ev, struct model *model, struct pass *pass,
                    struct batcher *batcher, enum err (*poll)(void *arg, struct err_msg *em),
                    void *poll_arg);
void evaluator_clear(struct evaluator *ev);

/* What a pass's batches came to. */
struct tally {
    double nll;
    int64_t correct, targets;
};
/* Adds the batches under way, the oldest first and each in a fixed order, until no more than `left`
 * are. nll, correct: room for a batch's targets. */
enum err tally_collect(struct tally *t, struct pass *pass, int left, float *nll, uint8_t *correct,
                       struct err_msg *em) NODISCARD;

/* A list without trained tokens gives MEASUREMENT_NONE. */
enum err evaluate_rows(struct evaluator *ev, struct dataset *ds, const struct row_list *list,
                       struct measurement *out, struct err_msg *em) NODISCARD;

struct held_batch {
    struct host_batch batch; /* points into memory */
    void *memory;
};
struct held_set {
    struct held_batch *batches;
    int n_batches;
    int64_t rows, targets;
    double flops; /* of one evaluation */
};
enum err held_set_init(struct held_set *set, struct evaluator *ev, struct dataset *ds,
                       const struct row_list *list, struct err_msg *em) NODISCARD;
void held_set_clear(struct held_set *set);
enum err held_set_measure(struct evaluator *ev, const struct held_set *set, struct measurement *out,
                          struct err_msg *em) NODISCARD;

#endif
