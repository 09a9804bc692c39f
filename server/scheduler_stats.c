/* scheduler_stats: the numbers of the training process, for metrics. */
#include "server/scheduler_internal.h"

static double number(const json_t *progress, const char *key) {
    return json_number_value(json_object_get(progress, key));
}

void scheduler_stats(const struct scheduler *sc, struct scheduler_stats *out) {
    const json_t *progress = sc->running.progress;
    double seconds = number(progress, "seconds");
    *out = (struct scheduler_stats){
        .worker_up = sc->worker_ready,
        .worker_restarts = sc->worker_restarts,
        .held = scheduler__why_held(sc) != NULL,
        .has_job = sc->running.id[0] != '\0' && progress != NULL,
        .loss = number(progress, "train_loss"),
        .step = number(progress, "step"),
        .total_steps = number(progress, "total_steps"),
        .tokens_per_second = seconds > 0 ? number(progress, "tokens") / seconds : 0,
    };
}
