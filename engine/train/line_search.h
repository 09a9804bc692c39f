/* line_search: how far to go along the last step.
 *
 * What:    finds a small loss among the whole multiples tau = 0, 1, 2, … of a direction, asking for
 *          the loss at one tau at a time. FF_LINEAR is the method of Rahamim et al. (EMNLP 2024)
 *          made safe: L(0) is measured and the best point kept. FF_AUTO starts at the last stage's
 *          tau, doubles (or quarters) until the loss rises, and ends with points at the vertex of
 *          the parabola through the best three: same minimum, fewer evaluations. FF_PAPER is the
 *          published code to the letter: no L(0), and it ends on the first point that is worse.
 * Owns:    nothing.
 * Threads: pure but for the caller's function.
 * Errors:  those of the caller's function, at once. A loss that is not finite counts as worse than
 *          any other; FF_PAPER, which would stay there, goes back to tau = 0.
 */
#ifndef FFWD_ENGINE_TRAIN_LINE_SEARCH_H
#define FFWD_ENGINE_TRAIN_LINE_SEARCH_H

#include <stdint.h>

#include "base/err.h"
#include "base/job_request.h"

/* *loss at tau (≥ 0). */
typedef enum err line_search_fn(void *arg, int64_t tau, double *loss, struct err_msg *em);

struct line_search {
    enum ff_search kind;
    int64_t max_tau; /* ≥ 1 */
    int64_t guess;   /* FF_AUTO: tau of the last stage, 0 if there was none */
    int64_t budget;  /* FF_AUTO: no more evaluations than this, of which two are always made */
    line_search_fn *loss_at;
    void *arg;
};

struct line_search_result {
    int64_t tau; /* 0: nothing was better */
    int64_t evaluations;
    int64_t not_finite;             /* evaluations that gave no finite loss */
    double loss_before, loss_after; /* loss_before is NaN with FF_PAPER */
};

enum err line_search_run(const struct line_search *s, struct line_search_result *out,
                         struct err_msg *em) NODISCARD;

#endif
