/* card: the model card. */
#include "engine/train/card.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

/* Bytes of a card; more is a bug. */
#define MAX_CARD 65536

struct text {
    struct buf b;
    enum err e;
};

static void add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *t, const char *fmt, ...) {
    char line[2048];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof line ? (size_t)n : sizeof line - 1;
    if (t->e == ERR_OK)
        t->e = buf_add(&t->b, line, len);
}

/* The name as a JSON string, which is a YAML string as well; the caller frees. */
static char *quoted(const char *s) {
    json_t *o = json_string(s);
    char *text = o != NULL ? json_dumps(o, JSON_ENCODE_ANY) : NULL;
    json_decref(o);
    return text;
}

static void add_head(struct text *t, const struct card *c) {
    char *name = quoted(c->model_name);
    add(t, "---\nbase_model: %s\nlibrary_name: peft\npipeline_tag: text-generation\n",
        name != NULL ? name : "\"\"");
    add(t, "tags:\n- lora\n- fast-forward\n- ffwd\n---\n\n# LoRA adapter\n\n");
    add(t, "Trained with ffwd on the base model `%s`.\n\n", c->model_name);
    add(t, "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n"
           "\nbase = AutoModelForCausalLM.from_pretrained(BASE_MODEL)\n"
           "model = PeftModel.from_pretrained(base, THIS_FOLDER)\n```\n\n");
    free(name);
}

static void add_data(struct text *t, const char *what, const struct dataset_report *r) {
    add(t, "| %s | %lld rows, %lld tokens, %lld trained on | `%s` |\n", what, (long long)r->rows,
        (long long)r->tokens, (long long)r->trained_tokens, r->sha256);
}

static void add_row(struct text *t, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void add_row(struct text *t, const char *key, const char *fmt, ...) {
    char value[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(value, sizeof value, fmt, args);
    va_end(args);
    add(t, "| %s | %s |\n", key, value);
}

static void add_settings(struct text *t, const struct card *c) {
    const struct training_config *tr = &c->request->training;
    const struct fast_forward_config *ff = &c->request->fast_forward;
    add(t, "\n## Settings\n\n| setting | value |\n|---|---|\n");
    add_row(t, "epochs", "%lld", (long long)c->plan->n_epochs);
    add_row(t, "batch size", "%lld", (long long)c->plan->batch_size);
    add_row(t, "learning rate", "%g, %s, %lld warm-up steps", c->plan->learning_rate,
            job_lr_schedule_names[tr->lr_schedule], (long long)c->plan->warmup_steps);
    if (c->plan->learning_rate < c->plan->asked)
        add_row(t, "learning rate asked for, too high to be right", "%g", c->plan->asked);
    if (c->state->rate_found > 0.0)
        add_row(t, "learning rate found by Fast Forward", "%g", c->state->rate_found);
    add_row(t, "weight decay", "%g", tr->weight_decay);
    add_row(t, "gradient norm at most", "%g", tr->max_grad_norm);
    add_row(t, "sequence length at most", "%d", c->max_seq_len);
    add_row(t, "LoRA", "rank %d, alpha %g, dropout %g", c->lora->rank, (double)c->lora->alpha,
            (double)c->lora->dropout);
    if (!c->fast_forward)
        add_row(t, "Fast Forward", "off");
    else if (ff->search == FF_AUTO)
        add_row(t, "Fast Forward", "search auto; the average of the last steps");
    else
        add_row(t, "Fast Forward", "every %lld steps, search %s", (long long)ff->interval,
                job_ff_search_names[ff->search]);
    add_row(t, "seed", "%llu", (unsigned long long)c->seed);
    add_row(t, "device, weights", "%s, %s", c->device, c->dtype);
}

static void add_results(struct text *t, const struct card *c) {
    const struct run_state *s = c->state;
    add(t, "\n## Results\n\n| measure | value |\n|---|---|\n");
    add_row(t, "optimizer steps", "%lld", (long long)s->step);
    add_row(t, "trained tokens", "%lld", (long long)s->trained_tokens);
    add_row(t, "training loss of the last step", "%.4f", s->result.train_loss);
    if (!isnan(s->last_full_loss))
        add_row(t, "validation loss", "%.4f at the end, %.4f at best", s->last_full_loss,
                s->best_full_loss);
    add_row(t, "FLOPs of training", "%.4g", s->flops_training);
    if (s->stages > 0) {
        add_row(t, "Fast Forward", "%lld stages, %lld simulated steps, %lld evaluations",
                (long long)s->stages, (long long)s->simulated, (long long)s->evaluations);
        add_row(t, "FLOPs of Fast Forward", "%.4g", s->flops_fast_forward);
    }
    add(t, "\nEvery step is in `metrics.csv`; `ffwd plot` draws it.\n");
}

enum err card_write(const struct card *c, const char *path, struct err_msg *em) {
    struct text t = {.e = ERR_OK};
    buf_init(&t.b, MAX_CARD);
    add_head(&t, c);
    add(&t, "## Data\n\n| file | content | SHA-256 |\n|---|---|---|\n");
    add_data(&t, "training", c->train);
    if (c->valid != NULL)
        add_data(&t, "validation", c->valid);
    add_settings(&t, c);
    add_results(&t, c);
    enum err e = t.e != ERR_OK ? err_set(em, ERR_BUG, "the model card is too long")
                               : file_write(path, t.b.data, t.b.len, em);
    buf_clear(&t.b);
    return e;
}
