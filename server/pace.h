/* pace: when the running job will end.
 *
 * What:    a step may have a Fast Forward stage and an evaluation of the validation file after it,
 *          each of its own cost. The pace of plain steps is that of the last ones; evaluations are
 *          added by what they have cost so far or, before the first one, by their arithmetic as
 *          planned. Stages come every interval, which the automatic search does only as long as
 *          they pay: then they are added by what they were planned to cost and have cost, the
 *          latter weighing more with each one. When they do not pay the search has an allowance
 *          for the rest of the run, and that is what is added.
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

/* What is known of a job before it runs. */
struct pace_plan {
    const json_t *estimate;  /* of the job's files ("evaluations", "flops"), or NULL */
    int64_t interval;        /* steps between stages */
    bool adapts;             /* the search may leave stages out */
    double evaluations_done; /* by the attempts before, as the rest */
    int64_t step, stages;
};

struct pace {
    /* Planned for the whole job; 0: not known. */
    double evaluations, evaluation_flops, stage_flops; /* the second of one evaluation */
    double allowed_flops;                              /* of stages that do not pay */
    int64_t total_steps, interval;
    bool adapts;

    int64_t stage_step, stage_gap; /* of the last stage, and steps from the one before to it */
    double stage_seconds;          /* of those seen here */
    int64_t stages_seen;

    struct pace_step steps[PACE_STEPS];          /* a ring */
    int64_t n;                                   /* steps taken in, ever */
    int64_t step;                                /* newest, 0: none */
    double seconds, flops;                       /* at that step, since the job's start */
    double evaluations_done, evaluation_seconds; /* of those seen here: their extra time */
    double evaluations_seen;
};

void pace_init(struct pace *p, const struct pace_plan *plan);
/* Data of a metrics event: a step's, or that of its stage, which follows it. */
void pace_note(struct pace *p, const json_t *data);
/* Seconds until the job's last step; negative: not known, as before the second step. */
double pace_left(const struct pace *p);

#endif
