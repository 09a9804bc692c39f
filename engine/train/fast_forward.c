/* fast_forward: direction, trial points and roll-back around the line search. */
#include "engine/train/fast_forward.h"

#include <math.h>

/* No part of a step is taken for the best length below this: nothing nearer was measured. */
#define SHORTEST 0.5

static enum err alloc_vec(struct fast_forward *ff, float **out, struct err_msg *em) {
    void *p;
    enum err e = ff->dev->ops->mem_alloc(ff->dev, ff->adapter->n * sizeof(float), &p, em);
    if (e == ERR_OK)
        *out = p;
    return e;
}

enum err fast_forward_init(struct fast_forward *ff, const struct fast_forward_config *config,
                           struct device *dev, const struct adapter_mem *adapter,
                           struct evaluator *evaluator, const struct held_set *held,
                           struct err_msg *em) {
    *ff = (struct fast_forward){
        .config = *config,
        .dev = dev,
        .adapter = adapter,
        .evaluator = evaluator,
        .held = held,
    };
    enum err e = alloc_vec(ff, &ff->base, em);
    if (e == ERR_OK)
        e = alloc_vec(ff, &ff->direction, em);
    if (e != ERR_OK)
        fast_forward_free(ff);
    return e;
}

void fast_forward_free(struct fast_forward *ff) {
    if (ff->base != NULL)
        ff->dev->ops->mem_free(ff->dev, ff->base);
    if (ff->direction != NULL)
        ff->dev->ops->mem_free(ff->dev, ff->direction);
    *ff = (struct fast_forward){0};
}

void fast_forward_before_update(struct fast_forward *ff) {
    ff->dev->ops->mem_copy(ff->dev, ff->direction, ff->adapter->w, ff->adapter->n * sizeof(float));
}

void fast_forward_after_update(struct fast_forward *ff) {
    ff->dev->ops->vec_axpy(ff->dev, ff->direction, ff->adapter->w, -1.0f, ff->direction,
                           ff->adapter->n);
}

/* w = base + tau · direction; tau 0 restores base bit for bit. */
static void move_to(struct fast_forward *ff, double tau) {
    ff->dev->ops->adapter_move(ff->dev, ff->adapter, ff->base, (float)tau, ff->direction);
}

struct trial {
    struct fast_forward *ff;
    double accuracy_before, accuracy_best, best_loss, accuracy_last, loss_one;
};

static enum err loss_at(void *arg, int64_t tau, double *loss, struct err_msg *em) {
    struct trial *t = arg;
    struct measurement m = MEASUREMENT_NONE;
    move_to(t->ff, (double)tau);
    enum err e = held_set_measure(t->ff->evaluator, t->ff->held, &m, em);
    *loss = m.loss;
    t->accuracy_last = m.accuracy;
    if (tau == 0)
        t->accuracy_before = m.accuracy;
    if (tau == 1)
        t->loss_one = isfinite(m.loss) ? m.loss : INFINITY;
    if (m.loss < t->best_loss) {
        t->best_loss = m.loss;
        t->accuracy_best = m.accuracy;
    }
    return e;
}

enum err fast_forward_stage_run(struct fast_forward *ff, const struct fast_forward_bounds *bounds,
                                struct fast_forward_stage *out, struct err_msg *em) {
    struct trial trial = {.ff = ff, .best_loss = INFINITY, .accuracy_before = NAN, .loss_one = NAN};
    const struct line_search search = {
        .kind = ff->config.search,
        .max_tau = bounds->most_tau,
        .guess = bounds->guess,
        .budget = bounds->budget,
        .loss_at = loss_at,
        .arg = &trial,
    };
    *out = (struct fast_forward_stage){0};
    ff->dev->ops->mem_copy(ff->dev, ff->base, ff->adapter->w, ff->adapter->n * sizeof(float));
    enum err e = line_search_run(&search, &out->search, em);
    move_to(ff, e == ERR_OK ? (double)out->search.tau : 0.0);
    if (e != ERR_OK)
        return e;
    double accuracy = out->search.tau == 0 ? trial.accuracy_before : trial.accuracy_best;
    if (ff->config.search == FF_PAPER && out->search.tau > 0)
        accuracy = trial.accuracy_last;
    out->best = (struct measurement){out->search.loss_after, accuracy, ff->held->targets};
    out->before =
        (struct measurement){out->search.loss_before, trial.accuracy_before, ff->held->targets};
    out->flops = ff->held->flops * (double)out->search.evaluations;
    out->loss_one = trial.loss_one;
    return ERR_OK;
}

/* Of the parabola that fell by this much over a step and rises by that much over the next; NaN: not
 * measured, infinite: to no finite loss. */
static double vertex(double fall, double rise) {
    if (!isfinite(fall) || !(fall + rise > 0.0))
        return NAN;
    return isfinite(rise) ? fmax(1.0 + 0.5 * (fall - rise) / (fall + rise), SHORTEST) : SHORTEST;
}

enum err fast_forward_length(struct fast_forward *ff, struct fast_forward_stage *out,
                             double *length, struct err_msg *em) {
    struct measurement m = MEASUREMENT_NONE;
    move_to(ff, -1.0);
    enum err e = held_set_measure(ff->evaluator, ff->held, &m, em);
    move_to(ff, 0.0);
    if (e != ERR_OK)
        return e;
    *length = vertex(m.loss - out->search.loss_before, out->loss_one - out->search.loss_before);
    out->search.evaluations++;
    out->search.not_finite += !isfinite(m.loss);
    out->flops += ff->held->flops;
    return ERR_OK;
}

void fast_forward_undo(struct fast_forward *ff, struct fast_forward_stage *out) {
    move_to(ff, 0.0);
    out->search.tau = 0;
    out->search.loss_after = out->search.loss_before;
    out->best = out->before;
}
