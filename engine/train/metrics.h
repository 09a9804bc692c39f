/* metrics: metrics.csv, one row per optimizer step.
 *
 * What:    a file that grows by one line a step; a resumed run cuts it back to where its resume
 *          point was, so that the finished file is the same as that of an undisturbed run. It has
 *          no column that depends on time.
 * Owns:    the open file; close with metrics_close.
 * Threads: one owner at a time.
 * Errors:  those of the disk.
 */
#ifndef FFWD_ENGINE_TRAIN_METRICS_H
#define FFWD_ENGINE_TRAIN_METRICS_H

#include <stdint.h>
#include <stdio.h>

#include "engine/train/state.h"

struct metrics {
    FILE *f;
    char *path;
    int64_t bytes; /* written so far */
};

/* bytes: length to cut an existing file to; 0 starts it with the header. A file that is shorter
 * is ERR_INPUT. */
enum err metrics_open(struct metrics *m, const char *path, int64_t bytes,
                      struct err_msg *em) NODISCARD;
void metrics_close(struct metrics *m);
/* The row of s->step; s->tokens and the FLOPs of s are its totals. */
enum err metrics_add(struct metrics *m, const struct run_state *s, struct err_msg *em) NODISCARD;
/* Everything written is on the disk. */
enum err metrics_sync(struct metrics *m, struct err_msg *em) NODISCARD;
/* Writes a copy of the whole file. */
enum err metrics_copy(struct metrics *m, const char *path, struct err_msg *em) NODISCARD;

#endif
