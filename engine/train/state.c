/* state: one table of fields for both directions. */
#include "engine/train/state.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/event.h"

struct field {
    const char *name;
    size_t offset;
    bool real; /* double, else int64_t */
};

#define INT(f)                                                                                     \
    { #f, offsetof(struct run_state, f), false }
#define REAL(f)                                                                                    \
    { #f, offsetof(struct run_state, f), true }

static const struct field fields[] = {
    INT(step),
    INT(phase),
    INT(updates),
    INT(skipped_in_a_row),
    INT(tokens),
    INT(trained_tokens),
    REAL(flops_training),
    REAL(flops_fast_forward),
    REAL(seconds),
    INT(ff_last_tau),
    REAL(ff_last_rate),
    REAL(rate_found),
    INT(rate_settled),
    INT(averaged),
    INT(cadence.gap),
    INT(cadence.next),
    REAL(cadence.loss),
    REAL(cadence.flops),
    REAL(cadence.spent),
    INT(trend.n),
    REAL(trend.sum),
    REAL(trend.squares),
    REAL(trend.lowest),
    REAL(trend.variance),
    INT(stages),
    INT(simulated),
    INT(evaluations),
    REAL(first_full_loss),
    REAL(best_full_loss),
    REAL(last_full_loss),
    INT(evaluations_without_gain),
    INT(finished),
    INT(capacity),
    INT(recomputed),
    INT(csv_bytes),
    REAL(result.train_loss),
    REAL(result.train_accuracy),
    REAL(result.learning_rate),
    REAL(result.grad_norm),
    REAL(result.valid_loss),
    REAL(result.valid_accuracy),
    REAL(result.full_valid_loss),
    REAL(result.full_valid_accuracy),
    REAL(result.ff_loss_before),
    REAL(result.ff_loss_after),
    REAL(result.ff_flops),
    INT(result.ff_tau),
    INT(result.ff_evaluations),
    INT(result.skipped),
};
#define N_FIELDS (sizeof fields / sizeof fields[0])

double run_state_flops(const struct run_state *s) {
    return s->flops_training + s->flops_fast_forward;
}

double run_state_flops_share(const struct run_state *s) {
    return s->flops_fast_forward / run_state_flops(s);
}

void step_result_init(struct step_result *r) {
    *r = (struct step_result){
        .train_loss = NAN,
        .train_accuracy = NAN,
        .learning_rate = NAN,
        .grad_norm = NAN,
        .valid_loss = NAN,
        .valid_accuracy = NAN,
        .full_valid_loss = NAN,
        .full_valid_accuracy = NAN,
        .ff_loss_before = NAN,
        .ff_loss_after = NAN,
        .ff_flops = NAN,
    };
}

void run_state_init(struct run_state *s) {
    *s = (struct run_state){
        .first_full_loss = NAN,
        .best_full_loss = NAN,
        .last_full_loss = NAN,
    };
    cadence_init(&s->cadence);
    trend_init(&s->trend);
    step_result_init(&s->result);
}

json_t *run_state_to_json(const struct run_state *s) {
    json_t *o = json_object();
    for (size_t i = 0; i < N_FIELDS; i++) {
        const char *at = (const char *)s + fields[i].offset;
        json_object_set_new(o, fields[i].name,
                            fields[i].real ? event_number(*(const double *)(const void *)at)
                                           : json_integer(*(const int64_t *)(const void *)at));
    }
    return o;
}

enum err run_state_from_json(const json_t *o, struct run_state *out, struct err_msg *em) {
    run_state_init(out);
    for (size_t i = 0; i < N_FIELDS; i++) {
        const json_t *v = json_object_get(o, fields[i].name);
        char *at = (char *)out + fields[i].offset;
        if (fields[i].real ? !json_is_number(v) && !json_is_null(v) : !json_is_integer(v))
            return err_set(em, ERR_INPUT, "the state has no %s", fields[i].name);
        if (fields[i].real)
            *(double *)(void *)at = json_is_null(v) ? NAN : json_number_value(v);
        else
            *(int64_t *)(void *)at = json_integer_value(v);
    }
    return ERR_OK;
}
