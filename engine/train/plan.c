/* plan: automatic values and counts. */
#include "engine/train/plan.h"

#include <math.h>

#include "base/limits.h"
#include "engine/train/rate.h"
#include "engine/train/schedule.h"

#define SWEEP_REACH 32.0 /* alpha of the sweeps that the automatic rate is from */
#define MOST_BY_REACH 2.0
#define MAY_BE_RIGHT 4.0
#define DEFAULT_SEQ 2048
#define DEFAULT_EPOCHS 3
#define MIN_EXAMPLES 100   /* trained examples below which epochs are added */
#define MAX_EXAMPLES 25000 /* and above which they are taken away */
#define MAX_AUTO_EPOCHS 25

#define BUDGET_CPU 1024
#define BUDGET_CPU_WIDE 512
#define WIDE 896 /* hidden size */
#define BUDGET_ACCELERATOR 8192
#define EVAL_CPU 8192
#define EVAL_ACCELERATOR 32768
#define EVAL_ROWS 256 /* that an evaluation packs together */

#define LEAST_MEASURED 4 /* rows */
/* A run of so many training steps measures on as many rows as a step has, a shorter one on fewer:
 * an evaluation is half as dear as a step, and what a stage finds differs by its direction more
 * than by the rows. */
#define STEPS_PER_EVALUATION 200

enum err plan_max_seq_len(const struct job_request *r, const struct model_config *c, int32_t *out,
                          struct err_msg *em) {
    int64_t asked = r->training.max_seq_len;
    if (asked > c->max_positions)
        return err_set_param(em, ERR_INPUT, "training.max_seq_len",
                             "training.max_seq_len is %lld; this model has %d positions",
                             (long long)asked, c->max_positions);
    int32_t most = c->max_positions < DEFAULT_SEQ ? c->max_positions : DEFAULT_SEQ;
    *out = asked > 0 ? (int32_t)asked : most;
    return ERR_OK;
}

double plan_reach(double alpha, int64_t rank, bool use_rslora) {
    return alpha * (use_rslora ? sqrt((double)rank) : 1.0);
}

/* The form and the exponent are those of published sweeps of LoRA learning rates on Llama models
 * (3e-4 at width 4096, 1e-3 near 1000); the bounds keep very small and very large models sane. The
 * sweeps had an alpha of 32 at every rank. */
static double by_width(const struct model_config *c) {
    double lr = 5e-4 * pow(2000.0 / (double)c->hidden, 0.78);
    return fmin(fmax(lr, 1e-4), 5e-3);
}

double plan_auto_learning_rate(const struct model_config *c, double reach) {
    return by_width(c) * fmin(SWEEP_REACH / reach, 1.0);
}

double plan_typical_learning_rate(const struct model_config *c, double reach, int64_t batch_size) {
    double most = fmin(fmax(sqrt((double)batch_size) / 2.0, 1.0), MOST_BY_REACH);
    return by_width(c) * fmin(SWEEP_REACH / reach, most);
}

static int64_t auto_epochs(int64_t rows) {
    if (DEFAULT_EPOCHS * rows < MIN_EXAMPLES) {
        int64_t n = MIN_EXAMPLES / rows;
        return n < MAX_AUTO_EPOCHS ? n : MAX_AUTO_EPOCHS;
    }
    if (DEFAULT_EPOCHS * rows > MAX_EXAMPLES) {
        int64_t n = MAX_EXAMPLES / rows;
        return n > 1 ? n : 1;
    }
    return DEFAULT_EPOCHS;
}

static int64_t auto_batch(int64_t rows) {
    int64_t n = llround((double)rows / 64.0);
    return n < 1 ? 1 : n > 16 ? 16 : n;
}

static bool is_auto(const struct job_request *r) {
    return r->fast_forward.enabled && r->fast_forward.search == FF_AUTO;
}

/* The first stage goes along a step of the warm-up, and no further than max_steps of them: a low
 * rate is given whole to the first step that moves. */
static int64_t warmup_steps(const struct job_request *r, const struct plan *p) {
    if (p->learning_rate != p->asked)
        return 0;
    int64_t steps = schedule_warmup_steps(r->training.warmup_ratio, p->total_steps);
    bool low = is_auto(r) && rate_is_low(p->learning_rate, p->typical);
    return low && steps > 1 ? 1 : steps;
}

enum err plan_make(const struct job_request *r, const struct model_config *c, double reach,
                   int64_t rows, int64_t trained, struct plan *out, struct err_msg *em) {
    const struct training_config *t = &r->training;
    struct plan p = {
        .n_epochs = r->n_epochs.is_auto ? auto_epochs(rows) : (int64_t)r->n_epochs.value,
        .batch_size = r->batch_size.is_auto ? auto_batch(rows) : (int64_t)r->batch_size.value,
        .multiplier = r->learning_rate_multiplier.is_auto ? 1.0 : r->learning_rate_multiplier.value,
    };
    p.typical = plan_typical_learning_rate(c, reach, p.batch_size) * p.multiplier;
    double automatic = plan_auto_learning_rate(c, reach) * p.multiplier;
    p.asked = t->learning_rate.is_auto ? automatic : t->learning_rate.value;
    p.learning_rate = p.asked;
    if (is_auto(r))
        p.learning_rate = rate_start(
            p.asked, by_width(c) * fmin(SWEEP_REACH / reach, MAY_BE_RIGHT) * p.multiplier,
            automatic);
    p.total_steps = (p.n_epochs * trained + p.batch_size - 1) / p.batch_size;
    if (t->max_steps > 0 && t->max_steps < p.total_steps)
        p.total_steps = t->max_steps;
    if (p.total_steps > LIMIT_STEPS)
        return err_set_param(em, ERR_INPUT, "hyperparameters.n_epochs",
                             "%lld epochs of %lld rows in batches of %lld are %lld steps; at most "
                             "%d are allowed: take larger batches or set training.max_steps",
                             (long long)p.n_epochs, (long long)trained, (long long)p.batch_size,
                             (long long)p.total_steps, LIMIT_STEPS);
    p.warmup_steps = warmup_steps(r, &p);
    *out = p;
    return ERR_OK;
}

struct row_shares plan_shares(const struct fast_forward_config *ff, int64_t train, int64_t valid) {
    struct row_shares s = {.trained = train};
    int64_t most = valid >= 0 ? valid : train / 10 > 1 ? train / 10 : 1;
    if (ff->enabled && (valid >= 0 || train > 1))
        s.held = ff->validation_examples < most ? ff->validation_examples : most;
    if (valid >= 0)
        s.full = valid - s.held;
    else
        s.trained -= s.held;
    return s;
}

int64_t plan_rows_measured(const struct fast_forward_config *ff, const struct plan *p,
                           int64_t held) {
    if (ff->search != FF_AUTO)
        return held;
    int64_t rows = p->batch_size * p->total_steps / STEPS_PER_EVALUATION;
    rows = rows < p->batch_size ? rows : p->batch_size;
    rows = rows > LEAST_MEASURED ? rows : LEAST_MEASURED;
    return rows < held ? rows : held;
}

static int32_t tokens_of(int64_t budget, int32_t longest, int64_t rows) {
    int64_t all = (int64_t)longest * rows;
    int64_t tokens = budget < all ? budget : all;
    return tokens > longest ? (int32_t)tokens : longest;
}

/* Each pass packs the matrices and adds to the adapter's gradient: the wider the model, the less
 * that is beside its products, and the more memory its activations take (tests/bench/CPU.md). */
static int64_t budget_cpu(const struct model_config *c) {
    return c->hidden >= WIDE ? BUDGET_CPU_WIDE : BUDGET_CPU;
}

int32_t plan_capacity(bool cpu, const struct model_config *c, int32_t longest, int64_t batch_size) {
    return tokens_of(cpu ? budget_cpu(c) : BUDGET_ACCELERATOR, longest, batch_size);
}

int32_t plan_eval_capacity(bool cpu, int32_t longest) {
    return tokens_of(cpu ? EVAL_CPU : EVAL_ACCELERATOR, longest, EVAL_ROWS);
}

int32_t plan_eval_rows(void) {
    return EVAL_ROWS;
}
