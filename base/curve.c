/* curve: columns by the names of the first line, points that are joined in pairs when full. */
#include "base/curve.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define MAX_LINE 4096
#define MAX_COLUMNS 64

enum column {
    STEP,
    TRAIN_LOSS,
    FULL_VALID_LOSS,
    TAU,
    EVALUATIONS,
    LOSS_BEFORE,
    LOSS_AFTER,
    FLOPS_SHARE,
    LEARNING_RATE,
    N_COLUMNS
};

static const char *const names[N_COLUMNS] = {
    "step",           "train_loss",    "full_valid_loss", "ff_tau",        "ff_evaluations",
    "ff_loss_before", "ff_loss_after", "ff_flops_share",  "learning_rate",
};

struct reader {
    FILE *f;
    const char *path;
    int64_t line;
    enum column of[MAX_COLUMNS]; /* N_COLUMNS: one that is not needed */
    char text[MAX_LINE];
};

/* False at the end, and before a line that is not whole. */
static bool next_line(struct reader *r) {
    if (fgets(r->text, sizeof r->text, r->f) == NULL)
        return false;
    size_t len = strlen(r->text);
    if (len == 0 || r->text[len - 1] != '\n')
        return false;
    r->text[len - 1] = '\0';
    r->line++;
    return true;
}

static enum err not_metrics(const struct reader *r, struct err_msg *em) {
    return err_set(em, ERR_INPUT, "%s, line %lld: this is not a metrics.csv", r->path,
                   (long long)r->line);
}

static enum err read_names(struct reader *r, struct err_msg *em) {
    bool found[N_COLUMNS + 1] = {false};
    int n = 0;
    for (char *rest = r->text, *name; (name = strsep(&rest, ",")) != NULL;) {
        int c = 0;
        while (c < N_COLUMNS && strcmp(name, names[c]) != 0)
            c++;
        if (n == MAX_COLUMNS)
            return not_metrics(r, em);
        r->of[n++] = (enum column)c;
        found[c] = true;
    }
    for (; n < MAX_COLUMNS; n++)
        r->of[n] = N_COLUMNS;
    return found[STEP] && found[TRAIN_LOSS] ? ERR_OK : not_metrics(r, em);
}

/* An empty cell is NaN; so is one that is no finite number. */
static enum err read_cells(struct reader *r, double cell[N_COLUMNS + 1], struct err_msg *em) {
    int n = 0;
    for (int c = 0; c <= N_COLUMNS; c++)
        cell[c] = NAN;
    for (char *rest = r->text, *text; (text = strsep(&rest, ",")) != NULL; n++) {
        char *end = text;
        double x = strtod(text, &end);
        if (n == MAX_COLUMNS || *end != '\0')
            return not_metrics(r, em);
        if (end > text && isfinite(x))
            cell[r->of[n]] = x;
    }
    return cell[STEP] >= 1.0 && cell[STEP] < 1e15 ? ERR_OK : not_metrics(r, em);
}

static double later(double old, double new) {
    return isnan(new) ? old : new;
}

/* b is added to a, which comes before it. */
static void join(struct curve_point *a, const struct curve_point *b) {
    int64_t losses = a->losses + b->losses;
    a->step = b->step;
    if (a->losses == 0)
        a->train_loss = b->train_loss;
    else if (b->losses > 0)
        a->train_loss += (b->train_loss - a->train_loss) * (double)b->losses / (double)losses;
    a->losses = losses;
    a->learning_rate = later(a->learning_rate, b->learning_rate);
    a->full_valid_loss = later(a->full_valid_loss, b->full_valid_loss);
    if (b->stage.step > 0 && (a->stage.step == 0 || b->stage.tau > a->stage.tau))
        a->stage = b->stage;
}

static void join_pairs(struct curve *c) {
    int n = 0;
    for (int i = 0; i < c->n; i += 2, n++) {
        c->point[n] = c->point[i];
        if (i + 1 < c->n)
            join(&c->point[n], &c->point[i + 1]);
    }
    c->n = n;
    c->steps_each *= 2;
}

static void add_row(struct curve *c, const double cell[N_COLUMNS + 1]) {
    struct curve_point p = {
        .step = (int64_t)cell[STEP],
        .train_loss = cell[TRAIN_LOSS],
        .learning_rate = cell[LEARNING_RATE],
        .full_valid_loss = cell[FULL_VALID_LOSS],
        .losses = !isnan(cell[TRAIN_LOSS]),
    };
    if (!isnan(cell[TAU])) {
        p.stage = (struct curve_stage){p.step, cell[TAU], cell[EVALUATIONS], cell[LOSS_BEFORE],
                                       cell[LOSS_AFTER]};
        c->stages++;
        c->simulated += cell[TAU];
    }
    c->flops_share = later(c->flops_share, cell[FLOPS_SHARE]);
    bool begins = c->steps % c->steps_each == 0;
    if (begins && c->n == CURVE_POINTS) {
        join_pairs(c);
        begins = c->steps % c->steps_each == 0;
    }
    c->steps++;
    if (begins)
        c->point[c->n++] = p;
    else
        join(&c->point[c->n - 1], &p);
}

static enum err read_rows(struct reader *r, const atomic_bool *stop, struct curve *out,
                          struct err_msg *em) {
    double cell[N_COLUMNS + 1];
    if (!next_line(r))
        return ERR_OK; /* nothing is written yet */
    enum err e = read_names(r, em);
    while (e == ERR_OK && next_line(r)) {
        if (stop != NULL && atomic_load(stop))
            return err_set(em, ERR_STOPPED, "stopped");
        e = read_cells(r, cell, em);
        if (e == ERR_OK)
            add_row(out, cell);
    }
    return e;
}

char *curve_file(const char *dir) {
    static const char *const places[] = {"adapter/metrics.csv", "metrics.csv"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        char *path = xasprintf("%s/%s", dir, places[i]);
        if (file_size(path) >= 0)
            return path;
        free(path);
    }
    return xasprintf("%s/resume/metrics.csv", dir);
}

enum err curve_read(const char *path, const atomic_bool *stop, struct curve *out,
                    struct err_msg *em) {
    struct reader r = {.path = path, .f = fopen(path, "rbe")};
    *out = (struct curve){.steps_each = 1, .flops_share = NAN};
    if (r.f == NULL)
        return err_set_errno(em, errno, "cannot read %s", path);
    enum err e = read_rows(&r, stop, out, em);
    if (e == ERR_OK && ferror(r.f))
        e = err_set(em, ERR_IO, "cannot read %s", path);
    (void)fclose(r.f);
    return e;
}
