/* trend: means of windows, compared with their standard errors. */
#include "engine/train/trend.h"

#include <math.h>

/* Windows in a run, and steps in one at least. */
#define WINDOWS 15
#define LEAST_STEPS 6
/* A rise by so many standard errors of the difference is not chance: with windows of six losses
 * that do not fall any more one run of seven has such a rise, with windows of ten one of 25. */
#define SURE 4.0

void trend_init(struct trend *t) {
    *t = (struct trend){.lowest = NAN};
}

int64_t trend_window(int64_t total_steps) {
    int64_t steps = total_steps / WINDOWS;
    return steps > LEAST_STEPS ? steps : LEAST_STEPS;
}

bool trend_add(struct trend *t, int64_t window, double loss) {
    if (!isfinite(loss))
        return false;
    t->n++;
    t->sum += loss;
    t->squares += loss * loss;
    if (t->n < window)
        return false;
    double n = (double)t->n, mean = t->sum / n;
    double variance = fmax(t->squares / n - mean * mean, 0.0) / (n - 1.0);
    bool rose = mean - t->lowest > SURE * sqrt(variance + t->variance);
    if (rose || !(mean >= t->lowest)) {
        t->lowest = mean;
        t->variance = variance;
    }
    t->n = 0;
    t->sum = t->squares = 0.0;
    return rose;
}
