/* pace: when the running job will end.
 *
 * What:    a step may have a Fast Forward stage and an evaluation of the validation file after it,
 *          each of its own cost. The pace of plain steps is that of the last ones; stages and
 *          evaluations are added by what they have cost so far or, before the first one, by their
 *          arithmetic as planned.
 * Owns:    plain values.
 * Threads: one owner at a time.
 * Errors:  none: what is not known yet is left out.
 */
#ifndef FFWD_SERVER_PACE_H
#define FFWD_SERVER_PACE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define PACE_STEPS 128 /* remembered */

struct pace_step {
    double seconds, flops; /* since the step before */
    bool stage, evaluation;
};

struct pace {
    /* Planned for the whole job; 0: not known. */
    double evaluations, evaluation_flops, stage_flops; /* the second of one evaluation */
    int64_t total_steps;

    struct pace_step steps[PACE_STEPS];          /* a ring */
    int64_t n;                                   /* steps taken in, ever */
    int64_t step;                                /* newest, 0: none */
    double seconds, flops;                       /* at that step, since the job's start */
    double evaluations_done, evaluation_seconds; /* of those seen here: their extra time */
    double evaluations_seen;
};

/* estimate: of the job's files ("evaluations", "flops"), or NULL. done: evaluations of the attempts
 * before. */
void pace_init(struct pace *p, const json_t *estimate, double evaluations_done);
/* Data of a metrics event: a step's, or that of its stage, which follows it. */
void pace_note(struct pace *p, const json_t *data);
/* Seconds until the job's last step; negative: not known, as before the second step. */
double pace_left(const struct pace *p);

#endif
