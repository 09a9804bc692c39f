/* report: events in the contract's words. */
#include "engine/train/report.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static void emit(const struct train_hooks *hooks, enum event_level level, enum event_type type,
                 const char *message, json_t *data_take) {
    struct event ev;
    event_init(&ev, level, type, message, data_take);
    hooks->event(hooks->arg, &ev);
    event_clear(&ev);
}

void report_message(const struct train_hooks *hooks, enum event_level level, json_t *data_take,
                    const char *fmt, ...) {
    char text[ERR_TEXT_MAX + 128];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    emit(hooks, level, EVENT_MESSAGE, text, data_take);
}

static void set_int(json_t *o, const char *key, int64_t x) {
    json_object_set_new(o, key, json_integer((json_int_t)x));
}

static void set_real(json_t *o, const char *key, double x) {
    json_object_set_new(o, key, event_number(x));
}

/* Leaves out what was not measured. */
static void set_measured(json_t *o, const char *key, double x) {
    if (!isnan(x))
        json_object_set_new(o, key, event_number(x));
}

static void set_valid(json_t *o, const struct step_result *r) {
    set_measured(o, "valid_loss", r->valid_loss);
    set_measured(o, "valid_mean_token_accuracy", r->valid_accuracy);
    set_measured(o, "full_valid_loss", r->full_valid_loss);
    set_measured(o, "full_valid_mean_token_accuracy", r->full_valid_accuracy);
}

static void report_stage(const struct train_hooks *hooks, const struct run_state *s) {
    const struct step_result *r = &s->result;
    json_t *stage = json_object();
    set_int(stage, "tau", r->ff_tau);
    set_int(stage, "evaluations", r->ff_evaluations);
    set_real(stage, "loss_before", r->ff_loss_before);
    set_real(stage, "loss_after", r->ff_loss_after);
    set_real(stage, "flops", r->ff_flops);
    set_real(stage, "flops_share", run_state_flops_share(s));
    set_real(stage, "learning_rate", r->learning_rate);
    char text[160];
    if (isnan(r->ff_loss_before))
        (void)snprintf(text, sizeof text,
                       "Fast Forward at step %lld: %lld simulated steps, loss=%.4f",
                       (long long)s->step, (long long)r->ff_tau, r->ff_loss_after);
    else
        (void)snprintf(text, sizeof text,
                       "Fast Forward at step %lld: %lld simulated steps, loss=%.4f -> %.4f, "
                       "%lld evaluations",
                       (long long)s->step, (long long)r->ff_tau, r->ff_loss_before,
                       r->ff_loss_after, (long long)r->ff_evaluations);
    emit(hooks, EVENT_INFO, EVENT_METRICS, text,
         json_pack("{sIso}", "step", (json_int_t)s->step, "fast_forward", stage));
}

void report_step(const struct train_hooks *hooks, const struct run_state *s, int64_t total_steps) {
    const struct step_result *r = &s->result;
    json_t *data = json_object();
    set_int(data, "step", s->step);
    set_int(data, "total_steps", total_steps);
    set_real(data, "train_loss", r->train_loss);
    set_real(data, "train_mean_token_accuracy", r->train_accuracy);
    set_real(data, "learning_rate", r->learning_rate);
    set_real(data, "grad_norm", r->grad_norm);
    set_int(data, "tokens", s->tokens);
    set_real(data, "seconds", s->seconds);
    set_real(data, "flops", run_state_flops(s));
    set_valid(data, r);
    char text[200];
    int n = snprintf(text, sizeof text, "Step %lld/%lld: training loss=%.2f", (long long)s->step,
                     (long long)total_steps, r->train_loss);
    if (!isnan(r->valid_loss))
        n += snprintf(text + n, sizeof text - (size_t)n, ", validation loss=%.2f", r->valid_loss);
    if (!isnan(r->full_valid_loss))
        (void)snprintf(text + n, sizeof text - (size_t)n, ", full validation loss=%.2f",
                       r->full_valid_loss);
    emit(hooks, EVENT_INFO, EVENT_METRICS, text, data);
    if (r->ff_evaluations > 0)
        report_stage(hooks, s);
}

json_t *report_checkpoint_metrics(const struct run_state *s) {
    json_t *o = json_object();
    set_int(o, "step", s->step);
    set_measured(o, "train_loss", s->result.train_loss);
    set_measured(o, "train_mean_token_accuracy", s->result.train_accuracy);
    set_valid(o, &s->result);
    return o;
}

json_t *report_result(const struct run_state *s, const char *adapter) {
    json_t *flops = json_object();
    set_real(flops, "training", s->flops_training);
    set_real(flops, "fast_forward", s->flops_fast_forward);
    json_t *o = json_object();
    json_object_set_new(o, "status", json_string("succeeded"));
    set_int(o, "steps", s->step);
    set_int(o, "trained_tokens", s->trained_tokens);
    set_real(o, "seconds", s->seconds);
    json_object_set_new(o, "flops", flops);
    json_object_set_new(o, "adapter", json_string(adapter));
    return o;
}

void report_success(const struct train_hooks *hooks, const json_t *result) {
    char text[128];
    (void)snprintf(text, sizeof text, "Training finished after %lld steps",
                   (long long)json_integer_value(json_object_get(result, "steps")));
    emit(hooks, EVENT_INFO, EVENT_MESSAGE, text, json_deep_copy(result));
}

void report_end(const struct train_hooks *hooks, enum err e, const struct err_msg *em) {
    const char *text = em->text[0] != '\0' ? em->text : err_name(e);
    if (e == ERR_STOPPED || e == ERR_CANCELLED) {
        emit(hooks, EVENT_INFO, EVENT_MESSAGE, text,
             json_pack("{ss}", "status", e == ERR_STOPPED ? "stopped" : "cancelled"));
        return;
    }
    json_t *error = json_pack("{ssss}", "code", err_name(e), "message", text);
    if (error == NULL) /* a message that is not UTF-8 */
        error = json_pack("{ssss}", "code", err_name(e), "message", err_name(e));
    json_object_set_new(error, "param",
                        em->param[0] != '\0' ? json_string(em->param) : json_null());
    emit(hooks, EVENT_ERROR, EVENT_MESSAGE, text,
         json_pack("{ssso}", "status", "failed", "error", error));
}
