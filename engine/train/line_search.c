/* line_search: linear, quick and published searches over whole multiples of a direction. */
#include "engine/train/line_search.h"

#include <math.h>
#include <stdbool.h>

/* Enough for any quick search: doubling from 1 to 2^62 and the parabola points. */
#define MAX_POINTS 96

#define GROW 2   /* factor while the loss falls */
#define SHRINK 4 /* divisor while the first guess is too far */
/* A parabola with a vertex off by 10 % loses 1 % of the gain, so a vertex nearer than this to the
 * best point is not worth an evaluation. */
#define CLOSE_ENOUGH 0.1
#define MAX_VERTICES 2

struct point {
    int64_t tau;
    double loss;
};

/* Points measured so far, by ascending tau. */
struct trail {
    const struct line_search *s;
    struct err_msg *em;
    int n, not_finite;
    struct point p[MAX_POINTS];
};

static enum err measure(struct trail *t, int64_t tau, double *loss) {
    double x = INFINITY;
    enum err e = t->s->loss_at(t->s->arg, tau, &x, t->em);
    if (e != ERR_OK)
        return e;
    *loss = isfinite(x) ? x : INFINITY;
    t->not_finite += !isfinite(x);
    int i = t->n++;
    for (; i > 0 && t->p[i - 1].tau > tau; i--)
        t->p[i] = t->p[i - 1];
    t->p[i] = (struct point){tau, *loss};
    return ERR_OK;
}

static bool may_measure(const struct trail *t) {
    return t->n < MAX_POINTS && t->n < t->s->budget;
}

/* Index of the lowest loss; the smallest tau wins ties. */
static int best_of(const struct trail *t) {
    int best = 0;
    for (int i = 1; i < t->n; i++)
        if (t->p[i].loss < t->p[best].loss)
            best = i;
    return best;
}

static enum err search_linear(const struct line_search *s, struct line_search_result *out,
                              struct err_msg *em) {
    double loss = INFINITY;
    enum err e = s->loss_at(s->arg, 0, &loss, em);
    out->evaluations = 1;
    out->not_finite = !isfinite(loss);
    out->loss_before = out->loss_after = isfinite(loss) ? loss : INFINITY;
    for (int64_t tau = 1; e == ERR_OK && tau <= s->max_tau; tau++) {
        e = s->loss_at(s->arg, tau, &loss, em);
        out->evaluations++;
        out->not_finite += !isfinite(loss);
        if (e != ERR_OK || !(loss < out->loss_after))
            break;
        out->tau = tau;
        out->loss_after = loss;
    }
    return e;
}

static enum err search_paper(const struct line_search *s, struct line_search_result *out,
                             struct err_msg *em) {
    double previous = INFINITY;
    enum err e = ERR_OK;
    out->loss_before = NAN;
    for (int64_t tau = 1; e == ERR_OK && tau <= s->max_tau; tau++) {
        double loss = INFINITY;
        e = s->loss_at(s->arg, tau, &loss, em);
        out->evaluations++;
        out->not_finite += !isfinite(loss);
        out->tau = isfinite(loss) ? tau : 0;
        out->loss_after = isfinite(loss) ? loss : NAN;
        if (!(loss <= previous))
            break;
        previous = loss;
    }
    return e;
}

/* The whole number nearest the vertex of the parabola through three points, or the middle one's tau
 * where there is no minimum between the outer two. */
static int64_t vertex_of(struct point a, struct point b, struct point c) {
    double left = (double)(b.tau - a.tau), right = (double)(b.tau - c.tau);
    double up = b.loss - c.loss, down = b.loss - a.loss;
    double den = left * up - right * down;
    double x = (double)b.tau - 0.5 * (left * left * up - right * right * down) / den;
    if (!isfinite(x) || x <= (double)a.tau || x >= (double)c.tau)
        return b.tau;
    return (int64_t)llround(x);
}

/* A point to try between the neighbours of the best one; its own tau if there is none. */
static int64_t next_vertex(const struct trail *t) {
    int b = best_of(t);
    const struct point *best = &t->p[b];
    if (b == 0 || b == t->n - 1)
        return best->tau;
    const struct point *a = best - 1, *c = best + 1;
    int64_t v = isfinite(c->loss) ? vertex_of(*a, *best, *c) : best->tau;
    if (v == a->tau || v == c->tau)
        return best->tau;
    return fabs((double)(v - best->tau)) > CLOSE_ENOUGH * (double)best->tau ? v : best->tau;
}

/* From the first guess outwards while the loss falls, or inwards until it is below L(0). */
static enum err bracket(struct trail *t, double start) {
    const struct line_search *s = t->s;
    int64_t tau = s->guess > 0 ? s->guess : 1;
    tau = tau < s->max_tau ? tau : s->max_tau;
    double loss;
    enum err e = measure(t, tau, &loss);
    if (e == ERR_OK && loss < start) {
        for (double before = INFINITY;
             e == ERR_OK && loss < before && tau < s->max_tau && may_measure(t);) {
            before = loss;
            tau = tau < s->max_tau / GROW ? tau * GROW : s->max_tau;
            e = measure(t, tau, &loss);
        }
        return e;
    }
    while (e == ERR_OK && !(loss < start) && tau > 1 && may_measure(t)) {
        tau = tau > SHRINK ? tau / SHRINK : 1;
        e = measure(t, tau, &loss);
    }
    return e;
}

static enum err search_auto(const struct line_search *s, struct line_search_result *out,
                            struct err_msg *em) {
    struct trail t = {.s = s, .em = em};
    double start;
    enum err e = measure(&t, 0, &start);
    if (e == ERR_OK)
        e = bracket(&t, start);
    for (int i = 0; e == ERR_OK && i < MAX_VERTICES && may_measure(&t); i++) {
        const struct point best = t.p[best_of(&t)];
        int64_t tau = next_vertex(&t);
        if (tau == best.tau)
            break;
        double loss;
        e = measure(&t, tau, &loss);
    }
    if (e != ERR_OK)
        return e;
    const struct point best = t.p[best_of(&t)];
    out->tau = best.tau;
    out->evaluations = t.n;
    out->not_finite = t.not_finite;
    out->loss_before = start;
    out->loss_after = best.loss;
    return ERR_OK;
}

enum err line_search_run(const struct line_search *s, struct line_search_result *out,
                         struct err_msg *em) {
    *out = (struct line_search_result){0};
    switch (s->kind) {
    case FF_LINEAR:
        return search_linear(s, out, em);
    case FF_PAPER:
        return search_paper(s, out, em);
    case FF_AUTO:
        return search_auto(s, out, em);
    }
    return err_set(em, ERR_BUG, "line search: unknown kind %d", (int)s->kind);
}
