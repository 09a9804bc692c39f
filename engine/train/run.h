/* run: what the files of one training run share (private to engine/train).
 *
 * What:    struct run ties job, data, adapter, memory and state together. setup.c fills it, step.c
 *          and stage.c do the work of a step, restore.c saves and restores it, publish.c writes
 *          what stays, run.c is the loop.
 * Owns:    everything it opened; run_teardown frees it in any state.
 * Threads: the control thread.
 * Errors:  as job.h.
 */
#ifndef FFWD_ENGINE_TRAIN_RUN_H
#define FFWD_ENGINE_TRAIN_RUN_H

#include "engine/model/adapter.h"
#include "engine/text/dataset_model.h"
#include "engine/train/average.h"
#include "engine/train/batcher.h"
#include "engine/train/evaluate.h"
#include "engine/train/fast_forward.h"
#include "engine/train/job.h"
#include "engine/train/memory.h"
#include "engine/train/metrics.h"
#include "engine/train/optimizer.h"
#include "engine/train/order.h"
#include "engine/train/plan.h"
#include "engine/train/resume.h"
#include "engine/train/state.h"

struct run {
    const struct train_job *job;
    const struct train_hooks *hooks;
    struct device *dev;
    struct device_info device;
    char *resume_dir, *adapter_dir; /* OUT/resume, OUT/adapter */
    int lock;                       /* the locked OUT folder, -1: none */

    struct dataset_model text;     /* tokenizer and chat template, where the model has them */
    struct dataset *train, *valid; /* valid NULL: none */
    struct dataset_report train_report, valid_report;
    int32_t max_seq_len;
    uint64_t seed;
    struct row_list train_rows; /* trained on */
    struct row_list held_rows;  /* of held_from: Fast Forward measures on them */
    struct row_list full_rows;  /* of valid: full_valid_loss */
    struct dataset *held_from;
    struct plan plan;
    int32_t longest, capacity; /* tokens of a row, of a packed batch */
    int32_t recomputed;        /* layers whose activations are computed twice */
    bool capacity_fixed;       /* by a resume point, and recomputed with it */
    struct memory_plan memory;
    json_t *config; /* what a resumed run must have in common */

    struct adapter *adapter;
    struct adapter_mem *mem; /* of adapter */
    struct order order;
    struct batcher batcher, eval_batcher;
    struct pass *pass, *eval_pass; /* eval_pass lies in the memory of pass */
    struct evaluator evaluator;
    float *nll;       /* [capacity] of a training pass */
    uint8_t *correct; /* [capacity] */
    struct held_set held;
    struct fast_forward ff; /* ff.direction NULL: off */
    struct average average; /* with search "auto": what is measured and saved */
    struct optimizer optimizer;
    int32_t *step_rows; /* [batch_size] */
    struct {            /* the first batch of the next step, made while this one is computed */
        int64_t step;   /* 0: none; step n - 1 comes before it */
        struct host_batch batch;
        bool more; /* false: the step has no batch */
        enum err e;
        struct err_msg em;
    } ahead;

    struct run_state state;
    struct metrics metrics;
    double seconds_before; /* state.seconds when this process began */
    double started;        /* monotonic */
    int64_t saved_step, saved_phase;
    double saved_at; /* monotonic; of the last resume point */
};

/* setup.c: data, plan, adapter. */
enum err run_setup(struct run *r, struct err_msg *em) NODISCARD;
/* Calls the `resolved` hook; when the job starts afresh, also what its first events say. */
void run_announce(const struct run *r, bool resumed);
/* setup_memory.c: how many tokens a pass has, how many layers it computes twice, and what the run
 * takes in all. resumed: as the state that was read says. */
enum err run_plan_memory(struct run *r, bool resumed, struct err_msg *em) NODISCARD;
/* And takes it: pass, optimizer, Fast Forward. */
enum err run_setup_memory(struct run *r, struct err_msg *em) NODISCARD;
void run_teardown(struct run *r);

/* step.c and stage.c: each does the part of the step that state.phase names and moves the phase on.
 */
enum err run_step(struct run *r, struct err_msg *em) NODISCARD;
enum err run_stage(struct run *r, struct err_msg *em) NODISCARD;
/* stage.c */
double run_rate(const struct run *r, int64_t step); /* of an optimizer step from 0 */
bool run_stage_due(const struct run *r);            /* after the optimizer's step state.step */
void run_watch_loss(struct run *r);                 /* after it: lowers a rate too high */
void run_average(struct run *r);                    /* and after its stage: adds the adapter */
enum err run_evaluate(struct run *r, struct err_msg *em) NODISCARD;
bool run_epoch_ends(const struct run *r); /* with state.step */

/* restore.c */
/* Writes a resume point of the present state, unless the last one is of it. */
enum err run_save(struct run *r, struct err_msg *em) NODISCARD;
/* Finds the newest resume point and makes sure that the run is the same; *found false: there is
 * none. The state is read, the tensors are not. */
enum err run_find(struct run *r, struct resume_point *point, bool *found,
                  struct err_msg *em) NODISCARD;
/* Reads the tensors, after run_setup_memory. */
enum err run_load(struct run *r, const struct resume_point *point, struct err_msg *em) NODISCARD;

/* publish.c */
/* Makes OUT, takes its lock and sees whether the job is done already (*result: data of its last
 * event, caller decrefs; NULL: not done). */
enum err run_claim_out(struct run *r, json_t **result, struct err_msg *em) NODISCARD;
/* OUT/checkpoints/step-N, and its event. */
enum err run_write_checkpoint(struct run *r, struct err_msg *em) NODISCARD;
bool run_has_checkpoint(const struct run *r); /* of state.step */
/* OUT/adapter; *result as above. */
enum err run_publish(struct run *r, json_t **result, struct err_msg *em) NODISCARD;

/* run.c: ERR_CANCELLED or ERR_STOPPED when asked for. arg is the struct run. */
enum err run_poll(void *arg, struct err_msg *em) NODISCARD;
double run_seconds(const struct run *r);

#endif
