/* setup: from the job's files to rows, plan and adapter. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/train/fingerprint.h"
#include "engine/train/report.h"
#include "engine/train/run.h"

static const enum long_examples long_examples[] = {
    [LONG_POLICY_TRUNCATE] = LONG_TRUNCATE,
    [LONG_POLICY_DROP] = LONG_DROP,
    [LONG_POLICY_FAIL] = LONG_FAIL,
};
static const enum train_on train_on[] = {
    [TRAIN_ON_POLICY_ASSISTANT] = TRAIN_ON_ASSISTANT,
    [TRAIN_ON_POLICY_RESPONSE] = TRAIN_ON_RESPONSE,
    [TRAIN_ON_POLICY_ALL] = TRAIN_ON_ALL,
};

static enum err open_data(struct run *r, const char *path, const char *param, struct dataset **out,
                          struct dataset_report *report, struct err_msg *em) {
    const struct model_config *c = model_config(r->job->model);
    const struct training_config *t = &r->job->request->training;
    struct dataset_options o;
    dataset_model_options(&r->text, r->max_seq_len, &o);
    o.vocab_size = c->vocab;
    o.long_examples = long_examples[t->long_examples];
    o.train_on = train_on[t->train_on];
    enum err e = dataset_open(path, &o, out, report, em);
    if (e != ERR_OK && em->param[0] == '\0')
        memcpy(em->param, param, strlen(param) + 1);
    return e;
}

/* Which rows are trained on, which Fast Forward measures on, which full_valid_loss is of. */
static void divide_rows(struct run *r) {
    int64_t train = dataset_rows(r->train), valid = r->valid != NULL ? dataset_rows(r->valid) : -1;
    struct row_shares s = plan_shares(&r->job->request->fast_forward, train, valid);
    if (r->valid != NULL) {
        row_list_range(&r->held_rows, 0, s.held);
        row_list_range(&r->full_rows, s.held, s.full);
        row_list_range(&r->train_rows, 0, train);
        r->held_from = r->valid;
        return;
    }
    row_list_set_apart(train, s.held, &r->held_rows, &r->train_rows);
    r->held_from = r->train;
}

/* Refuses what depends on a loss that cannot be measured. */
static enum err check_rows(const struct run *r, struct err_msg *em) {
    const struct training_config *t = &r->job->request->training;
    if (r->full_rows.n > 0 || (t->target_loss <= 0 && t->patience == 0))
        return ERR_OK;
    const char *param = t->target_loss > 0 ? "training.target_loss" : "training.early_stopping";
    return err_set_param(em, ERR_INPUT, param,
                         "%s needs a validation file with more rows than the %lld that Fast "
                         "Forward measures on",
                         param, (long long)r->held_rows.n);
}

/* ---- adapter -------------------------------------------------------------------------------- */

static enum err conflict(const char *param, double asked, double has, struct err_msg *em) {
    return err_set_param(
        em, ERR_INPUT, param,
        "%s is %g, but the adapter that training goes on from has %g; leave it out", param, asked,
        has);
}

static enum err open_adapter(struct run *r, struct err_msg *em) {
    const struct lora_config *q = &r->job->request->lora;
    enum err e = adapter_open(r->job->model, r->job->init_adapter, &r->adapter, em);
    if (e != ERR_OK || !q->present)
        return e;
    const struct lora_options *has = adapter_options(r->adapter);
    if (q->rank != has->rank)
        return conflict("lora.rank", (double)q->rank, has->rank, em);
    if ((float)q->alpha != has->alpha)
        return conflict("lora.alpha", q->alpha, (double)has->alpha, em);
    return ERR_OK;
}

static enum err new_adapter(struct run *r, struct err_msg *em) {
    const struct lora_config *q = &r->job->request->lora;
    size_t n = json_array_size(q->target_modules);
    const char **targets = xcalloc(n + 1, sizeof *targets);
    for (size_t i = 0; i < n; i++)
        targets[i] = json_string_value(json_array_get(q->target_modules, i));
    const struct lora_options o = {
        .rank = (int32_t)q->rank,
        .alpha = (float)q->alpha,
        .dropout = (float)q->dropout,
        .use_rslora = q->use_rslora,
        .use_dora = q->use_dora,
        .wide = r->held_rows.n > 0 && r->job->request->fast_forward.search == FF_AUTO,
        .targets = q->target_modules != NULL ? targets : NULL,
        .n_targets = (int)n,
    };
    enum err e = adapter_new(r->job->model, &o, r->seed, &r->adapter, em);
    if (e == ERR_INPUT && em->param[0] == '\0')
        memcpy(em->param, "lora.target_modules", sizeof "lora.target_modules");
    free(targets);
    return e;
}

static enum err make_plan(struct run *r, struct err_msg *em) {
    const struct lora_options *o = adapter_options(r->adapter);
    return plan_make(r->job->request, model_config(r->job->model),
                     plan_reach((double)o->alpha, o->rank, o->use_rslora), dataset_rows(r->train),
                     r->train_rows.n, &r->plan, em);
}

/* ---- what a resumed run must share ---------------------------------------------------------- */

static enum err make_config(struct run *r, struct err_msg *em) {
    char model[SHA256_HEX_SIZE], init[SHA256_HEX_SIZE] = "";
    enum err e = fingerprint_folder(r->job->model_dir, model, em);
    if (e == ERR_OK && r->job->init_adapter != NULL)
        e = fingerprint_folder(r->job->init_adapter, init, em);
    if (e != ERR_OK)
        return e;
    r->config = job_request_extensions(r->job->request);
    json_t *o = r->config;
    json_object_set_new(o, "training_file", json_string(r->train_report.sha256));
    json_object_set_new(o, "validation_file",
                        r->valid != NULL ? json_string(r->valid_report.sha256) : json_null());
    json_object_set_new(o, "model", json_string(model));
    json_object_set_new(o, "init_adapter", init[0] != '\0' ? json_string(init) : json_null());
    json_object_set_new(o, "dtype", json_string(dtype_name(model_dtype(r->job->model))));
    json_object_set_new(o, "seed", json_integer((json_int_t)r->seed));
    json_object_set_new(o, "hyperparameters",
                        json_pack("{sIsIsf}", "n_epochs", (json_int_t)r->plan.n_epochs,
                                  "batch_size", (json_int_t)r->plan.batch_size,
                                  "learning_rate_multiplier", r->plan.multiplier));
    return ERR_OK;
}

/* ---- what is said before the first step ----------------------------------------------------- */

static json_t *resolved_json(const struct run *r) {
    const struct plan *p = &r->plan;
    json_t *o = json_object();
    json_object_set(o, "hyperparameters", json_object_get(r->config, "hyperparameters"));
    json_object_set_new(o, "learning_rate", json_real(p->learning_rate));
    json_object_set_new(o, "total_steps", json_integer(p->total_steps));
    json_object_set_new(o, "warmup_steps", json_integer(p->warmup_steps));
    json_object_set_new(o, "max_seq_len", json_integer(r->max_seq_len));
    json_object_set_new(o, "seed", json_integer((json_int_t)r->seed));
    json_object_set_new(o, "training_rows", json_integer(r->train_rows.n));
    json_object_set_new(o, "fast_forward_rows", json_integer(r->held_rows.n));
    json_object_set_new(o, "validation_rows", json_integer(r->full_rows.n));
    json_object_set_new(o, "trainable_parameters",
                        json_integer((json_int_t)adapter_size(r->adapter)));
    json_object_set_new(o, "memory_bytes", memory_plan_json(&r->memory));
    json_object_set_new(o, "micro_batch_tokens", json_integer(r->capacity));
    json_object_set_new(o, "recomputed_layers", json_integer(r->recomputed));
    return o;
}

static void warn_of_memory(const struct run *r) {
    if (r->recomputed > 0)
        report_message(r->hooks, EVENT_WARN, NULL,
                       "Memory is short: %d of %d layers compute their activations twice, in "
                       "batches of up to %d tokens",
                       r->recomputed, model_config(r->job->model)->layers, r->capacity);
}

static void warn_of_data(const struct run *r, const char *what, const struct dataset_report *d) {
    for (size_t i = 0; i < d->n_warnings; i++)
        report_message(r->hooks, EVENT_WARN, NULL, "%s file: %s", what, d->warnings[i]);
}

static void warn_of_rows(const struct run *r) {
    if (r->valid != NULL && r->full_rows.n == 0)
        report_message(
            r->hooks, EVENT_WARN, NULL,
            "All %lld validation rows are set apart for Fast Forward; full_valid_loss is "
            "not measured (fast_forward.validation_examples)",
            (long long)r->held_rows.n);
    if (r->job->request->fast_forward.enabled && r->held_rows.n == 0)
        report_message(r->hooks, EVENT_WARN, NULL,
                       "Fast Forward is off: one training row and no validation file leave nothing "
                       "to measure on");
}

static void warn_of_rate(const struct run *r) {
    double asked = r->plan.asked, rate = r->plan.learning_rate;
    if (rate < asked)
        report_message(r->hooks, EVENT_WARN, json_pack("{sf}", "learning_rate", rate),
                       "The learning rate %.3g is %.0f times the automatic one; Fast Forward "
                       "begins at that, %.3g",
                       asked, asked / rate, rate);
}

void run_announce(const struct run *r, bool resumed) {
    const struct plan *p = &r->plan;
    json_t *resolved = resolved_json(r);
    if (r->hooks->resolved != NULL)
        r->hooks->resolved(r->hooks->arg, resolved);
    if (!resumed) { /* the events of the first start hold the rest */
        warn_of_data(r, "training", &r->train_report);
        warn_of_data(r, "validation", &r->valid_report);
        warn_of_rows(r);
        warn_of_rate(r);
        warn_of_memory(r);
        report_message(r->hooks, EVENT_INFO, json_incref(resolved),
                       "Training on %lld rows: %lld epochs, batches of %lld, %lld steps, learning "
                       "rate %.3g, %.0f MB of memory at most",
                       (long long)r->train_rows.n, (long long)p->n_epochs, (long long)p->batch_size,
                       (long long)p->total_steps, p->learning_rate, (double)r->memory.total / 1e6);
    }
    json_decref(resolved);
}

enum err run_setup(struct run *r, struct err_msg *em) {
    const struct train_job *job = r->job;
    const struct model_config *c = model_config(job->model);
    r->dev = model_device(job->model);
    r->dev->ops->info(r->dev, &r->device);
    (void)r->dev->ops->choices_use(r->dev, NULL);
    r->seed = job->request->has_seed ? (uint64_t)job->request->seed : 0;
    enum err e = dataset_model_open(job->model_dir, &r->text, em);
    if (e == ERR_OK)
        e = plan_max_seq_len(job->request, c, &r->max_seq_len, em);
    if (e == ERR_OK)
        e = open_data(r, job->train_path, "training_file", &r->train, &r->train_report, em);
    if (e == ERR_OK && job->valid_path != NULL)
        e = open_data(r, job->valid_path, "validation_file", &r->valid, &r->valid_report, em);
    if (e != ERR_OK)
        return e;
    divide_rows(r);
    e = check_rows(r, em);
    if (e == ERR_OK)
        e = job->init_adapter != NULL ? open_adapter(r, em) : new_adapter(r, em);
    if (e == ERR_OK)
        e = make_plan(r, em);
    if (e == ERR_OK)
        e = make_config(r, em);
    if (e != ERR_OK)
        return e;
    r->mem = adapter_mem(r->adapter);
    return ERR_OK;
}

void run_teardown(struct run *r) {
    optimizer_free(&r->optimizer);
    average_free(&r->average);
    fast_forward_free(&r->ff);
    held_set_clear(&r->held);
    evaluator_clear(&r->evaluator);
    batcher_clear(&r->batcher);
    batcher_clear(&r->eval_batcher);
    pass_free(r->eval_pass);
    pass_free(r->pass);
    free(r->nll);
    free(r->correct);
    adapter_free(r->adapter);
    order_clear(&r->order);
    row_list_clear(&r->train_rows);
    row_list_clear(&r->held_rows);
    row_list_clear(&r->full_rows);
    dataset_close(r->train);
    dataset_close(r->valid);
    dataset_report_clear(&r->train_report);
    dataset_report_clear(&r->valid_report);
    dataset_model_close(&r->text);
    metrics_close(&r->metrics);
    json_decref(r->config);
    free(r->step_rows);
    free(r->resume_dir);
    free(r->adapter_dir);
    if (r->lock >= 0)
        close(r->lock);
    *r = (struct run){.lock = -1};
}
