/* report: the events of a run.
 *
 * What:    builds every event that `ffwd train` prints, in the words and with the keys of the
 *          contract, and hands it to the hook.
 * Owns:    nothing.
 * Threads: the control thread.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_TRAIN_REPORT_H
#define FFWD_ENGINE_TRAIN_REPORT_H

#include "engine/train/job.h"
#include "engine/train/state.h"

/* A message for people; data_take may be NULL. */
void report_message(const struct train_hooks *hooks, enum event_level level, json_t *data_take,
                    const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* The step's metrics event, then the stage's if there was one. */
void report_step(const struct train_hooks *hooks, const struct run_state *s, int64_t total_steps);

/* New object with what is known about the step: the keys of a checkpoint's metrics. */
json_t *report_checkpoint_metrics(const struct run_state *s);

/* New object: the data of the last event of a run that succeeded. adapter: path of the folder. */
json_t *report_result(const struct run_state *s, const char *adapter);
void report_success(const struct train_hooks *hooks, const json_t *result);

/* The last event of a run that did not: stopped or cancelled (info), else failed (error). */
void report_end(const struct train_hooks *hooks, enum err e, const struct err_msg *em);

#endif
