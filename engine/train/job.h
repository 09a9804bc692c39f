/* job: one fine-tuning run from files to adapter.
 *
 * What:    resolves "auto" values, reads the data, trains LoRA with Fast Forward, evaluates,
 *          checkpoints, writes the adapter folder. `ffwd train` and `ffwd worker` both call it.
 * Owns:    nothing after return; the out folder holds the results.
 * Threads: runs on the caller's (control) thread; hooks are called on it.
 * Errors:  ERR_CANCELLED / ERR_STOPPED when the poll hook asked for it (a resume point is written
 *          for ERR_STOPPED); ERR_INPUT with the data's faults; ERR_DIVERGED; ERR_NO_SPACE; …
 */
#ifndef FFWD_ENGINE_TRAIN_JOB_H
#define FFWD_ENGINE_TRAIN_JOB_H

#include <stdbool.h>

#include "base/err.h"
#include "base/event.h"
#include "base/job_request.h"
#include "engine/model/model.h"

/* TRAIN_PAUSE: as TRAIN_STOP, but between two steps and with a checkpoint. */
enum train_signal { TRAIN_GO, TRAIN_CANCEL, TRAIN_STOP, TRAIN_PAUSE };

struct train_hooks {
    void *arg;
    /* Called for every event, in order; ev is borrowed. */
    void (*event)(void *arg, const struct event *ev);
    /* Called once when "auto" values are known: {"hyperparameters":{n_epochs,batch_size,
     * learning_rate_multiplier},"learning_rate",…,"total_steps"}; borrowed. May be NULL. */
    void (*resolved)(void *arg, const json_t *resolved);
    /* Called before a resume point is written: what it covers is not reported again. May be NULL.
     */
    void (*saving)(void *arg);
    /* Asked between steps and between evaluation batches. */
    enum train_signal (*poll)(void *arg);
};

struct train_job {
    struct model *model;                 /* open, on its device */
    const char *model_dir;               /* for the tokenizer and the chat template */
    const char *model_name;              /* for the model card and adapter_config.json */
    const char *train_path, *valid_path; /* valid_path NULL: none */
    const char *out_dir;                 /* laid out as DATA/jobs/<id> */
    const char *init_adapter;            /* PEFT folder to start from, or NULL */
    const struct job_request *request;
    bool resume;
};

/* *result: data of the last event of the job in out_dir, which the caller decrefs; NULL where that
 * job is not complete. */
enum err train_result(const char *out_dir, json_t **result, struct err_msg *em) NODISCARD;

enum err train_run(const struct train_job *job, const struct train_hooks *hooks,
                   struct err_msg *em) NODISCARD;

#endif
