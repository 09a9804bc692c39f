/* trend: whether the loss of training rises.
 *
 * What:    the losses of a run's steps, a window of them after the other. A window whose mean is
 *          above the lowest of those before it by more than chance would have it says that the
 *          learning rate is too high: at a rate that training stands, noise hides a fall but makes
 *          no rise. Chance is what the losses scatter by inside both windows, so that batches of
 *          few rows need a larger rise.
 * Owns:    nothing.
 * Threads: plain values.
 * Errors:  none; a loss that is not finite is left out.
 */
#ifndef FFWD_ENGINE_TRAIN_TREND_H
#define FFWD_ENGINE_TRAIN_TREND_H

#include <stdbool.h>
#include <stdint.h>

struct trend {
    int64_t n;           /* losses in this window */
    double sum, squares; /* of them */
    double lowest;       /* mean of the lowest window since the last rise; NaN: none yet */
    double variance;     /* of that mean */
};

void trend_init(struct trend *t);
/* Steps of a window in a run of so many. */
int64_t trend_window(int64_t total_steps);
/* The loss of the next step. True where it ends a window that has risen. */
bool trend_add(struct trend *t, int64_t window, double loss);

#endif
