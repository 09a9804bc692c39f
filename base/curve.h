/* curve: a run's metrics.csv, as few points as a picture can show.
 *
 * What:    reads the file row by row and keeps at most CURVE_POINTS points of equally many steps
 *          each: means of the training loss, the last learning rate and validation loss, and the
 *          Fast Forward stage that went farthest.
 * Owns:    nothing; a curve is a plain value.
 * Threads: one owner at a time.
 * Errors:  a file that is not a metrics.csv is ERR_INPUT. A last line without its end, as of a file
 *          that is being written, is left out.
 */
#ifndef FFWD_BASE_CURVE_H
#define FFWD_BASE_CURVE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

#define CURVE_POINTS 512

struct curve_stage {
    int64_t step;
    double tau, evaluations;
    double loss_before, loss_after; /* NaN: not measured */
};

/* NaN: not measured in these steps. */
struct curve_point {
    int64_t step; /* the last one */
    double train_loss, learning_rate, full_valid_loss;
    int64_t losses;           /* that train_loss is the mean of */
    struct curve_stage stage; /* step 0: none */
};

struct curve {
    struct curve_point point[CURVE_POINTS];
    int n;
    int64_t steps_each; /* of a point */
    int64_t steps, stages;
    double simulated;   /* steps of all stages */
    double flops_share; /* of Fast Forward in the run's FLOPs; NaN: no stage yet */
};

/* The metrics.csv of a job's folder, finished or not, or of an adapter's; the caller frees. Whether
 * it exists was not looked at last. */
char *curve_file(const char *dir);
/* stop: comes back soon with ERR_STOPPED once it is set; NULL: never. */
enum err curve_read(const char *path, const atomic_bool *stop, struct curve *out,
                    struct err_msg *em) NODISCARD;

#endif
