/* plot: panels one below the other, over the same steps. */
#include "base/plot.h"

#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#define WIDTH 800
#define LEFT 64
#define RIGHT 784
#define TITLE_MAX 200

struct panel {
    const char *name;
    double top, bottom; /* pixels */
    double lo, hi;      /* values */
};

struct drawing {
    struct buf *out;
    const struct curve *c;
    double last; /* step at the right edge */
    enum err e;
};

static void put(struct drawing *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void put(struct drawing *d, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (d->e == ERR_OK)
        d->e = n < (int)sizeof text ? buf_add(d->out, text, (size_t)n) : ERR_LIMIT;
}

static void put_escaped(struct drawing *d, const char *text) {
    for (int i = 0; text[i] != '\0' && i < TITLE_MAX; i++)
        switch (text[i]) {
        case '&':
            put(d, "&amp;");
            break;
        case '<':
            put(d, "&lt;");
            break;
        case '>':
            put(d, "&gt;");
            break;
        default:
            put(d, "%c", text[i] >= ' ' && text[i] <= '~' ? text[i] : '?');
        }
}

static double x_of(const struct drawing *d, double step) {
    return LEFT + (RIGHT - LEFT) * step / d->last;
}

static double y_of(const struct panel *p, double value) {
    return p->bottom - (p->bottom - p->top) * (value - p->lo) / (p->hi - p->lo);
}

/* ---- axes ----------------------------------------------------------------------------------- */

/* 1, 2 or 5 times a power of ten: the least that needs at most n ticks. */
static double tick(double span, int n) {
    double unit = pow(10.0, floor(log10(span / n)));
    double parts = span / n / unit;
    return unit * (parts <= 1.0 ? 1.0 : parts <= 2.0 ? 2.0 : parts <= 5.0 ? 5.0 : 10.0);
}

static void draw_y_axis(struct drawing *d, const struct panel *p) {
    double by = tick(p->hi - p->lo, (int)((p->bottom - p->top) / 28.0));
    put(d, "<text class=\"n\" x=\"%d\" y=\"%.1f\">%s</text>\n", LEFT, p->top - 8.0, p->name);
    for (double k = ceil(p->lo / by); k * by <= p->hi * (1.0 + 1e-9); k++) {
        double y = y_of(p, k * by);
        put(d,
            "<path class=\"g\" d=\"M%d %.1fH%d\"/><text class=\"y\" x=\"%d\" y=\"%.1f\">%.6g"
            "</text>\n",
            LEFT, y, RIGHT, LEFT - 8, y + 4.0, k * by);
    }
}

static void draw_steps(struct drawing *d, double y) {
    double by = fmax(tick(d->last, 10), 1.0);
    for (double step = 0.0; step <= d->last; step += by)
        put(d, "<text class=\"x\" x=\"%.1f\" y=\"%.1f\">%.0f</text>\n", x_of(d, step), y + 16.0,
            step);
    put(d, "<text class=\"x\" x=\"%d\" y=\"%.1f\">optimizer steps</text>\n", (LEFT + RIGHT) / 2,
        y + 34.0);
}

/* ---- curves --------------------------------------------------------------------------------- */

static double train_loss(const struct curve_point *p) {
    return p->train_loss;
}

static double full_valid_loss(const struct curve_point *p) {
    return p->full_valid_loss;
}

static double learning_rate(const struct curve_point *p) {
    return p->learning_rate;
}

typedef double value_fn(const struct curve_point *p);

static void draw_line(struct drawing *d, const struct panel *p, const char *class,
                      value_fn *value) {
    put(d, "<polyline class=\"%s\" points=\"", class);
    for (int i = 0; i < d->c->n; i++) {
        double v = value(&d->c->point[i]);
        if (!isnan(v))
            put(d, "%.1f,%.1f ", x_of(d, (double)d->c->point[i].step), y_of(p, v));
    }
    put(d, "\"/>\n");
}

static void draw_full_valid(struct drawing *d, const struct panel *p) {
    draw_line(d, p, "v", full_valid_loss);
    for (int i = 0; i < d->c->n; i++) {
        const struct curve_point *at = &d->c->point[i];
        if (!isnan(at->full_valid_loss))
            put(d,
                "<circle class=\"v\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>validation loss %.4f "
                "at "
                "step %lld</title></circle>\n",
                x_of(d, (double)at->step), y_of(p, at->full_valid_loss), at->full_valid_loss,
                (long long)at->step);
    }
}

static void put_stage(struct drawing *d, const struct curve_stage *s) {
    put(d, "<title>step %lld: %.0f simulated steps", (long long)s->step, s->tau);
    if (!isnan(s->loss_before) && !isnan(s->loss_after))
        put(d, ", loss %.4f to %.4f", s->loss_before, s->loss_after);
    put(d, ", %.0f evaluations</title>", s->evaluations);
}

/* From the loss before the stage to the one after it. */
static void draw_falls(struct drawing *d, const struct panel *p) {
    for (int i = 0; i < d->c->n; i++) {
        const struct curve_stage *s = &d->c->point[i].stage;
        if (s->step == 0 || isnan(s->loss_before) || isnan(s->loss_after))
            continue;
        put(d, "<path class=\"s\" d=\"M%.1f %.1fV%.1fh3h-6\">", x_of(d, (double)s->step),
            y_of(p, s->loss_before), y_of(p, s->loss_after));
        put_stage(d, s);
        put(d, "</path>\n");
    }
}

static void draw_stages(struct drawing *d, const struct panel *p) {
    for (int i = 0; i < d->c->n; i++) {
        const struct curve_stage *s = &d->c->point[i].stage;
        if (s->step == 0)
            continue;
        double x = x_of(d, (double)s->step), y = y_of(p, s->tau);
        put(d, "<path class=\"s\" d=\"M%.1f %.1fV%.1f\"/>", x, p->bottom, y);
        put(d, "<circle class=\"s\" cx=\"%.1f\" cy=\"%.1f\" r=\"3\">", x, y);
        put_stage(d, s);
        put(d, "</circle>\n");
    }
}

/* ---- panels --------------------------------------------------------------------------------- */

static void widen(struct panel *p, double value) {
    if (isnan(value))
        return;
    p->lo = fmin(p->lo, value);
    p->hi = fmax(p->hi, value);
}

/* Some height also where all values are one, or there is none. None is below 0. */
static void settle(struct panel *p) {
    if (!(p->hi >= p->lo))
        p->lo = 0.0, p->hi = 1.0;
    double span = p->hi - p->lo;
    double air = span > 0.0 ? 0.03 * span : fmax(fabs(p->hi), 1e-9) * 0.1;
    p->hi += air;
    p->lo = fmax(p->lo - air, 0.0);
}

static void draw_losses(struct drawing *d, double top) {
    struct panel p = {"loss", top, top + 230.0, INFINITY, -INFINITY};
    for (int i = 0; i < d->c->n; i++) {
        const struct curve_point *at = &d->c->point[i];
        widen(&p, at->train_loss);
        widen(&p, at->full_valid_loss);
        widen(&p, at->stage.step > 0 ? at->stage.loss_before : NAN);
        widen(&p, at->stage.step > 0 ? at->stage.loss_after : NAN);
    }
    settle(&p);
    draw_y_axis(d, &p);
    draw_line(d, &p, "t", train_loss);
    draw_falls(d, &p);
    draw_full_valid(d, &p);
}

static void draw_simulated(struct drawing *d, double top) {
    struct panel p = {"simulated steps of each Fast Forward stage", top, top + 80.0, 0.0, 1.0};
    for (int i = 0; i < d->c->n; i++)
        widen(&p, d->c->point[i].stage.step > 0 ? d->c->point[i].stage.tau : NAN);
    settle(&p);
    draw_y_axis(d, &p);
    draw_stages(d, &p);
}

static void draw_rate(struct drawing *d, double top) {
    struct panel p = {"learning rate", top, top + 80.0, 0.0, 0.0};
    for (int i = 0; i < d->c->n; i++)
        widen(&p, d->c->point[i].learning_rate);
    settle(&p);
    draw_y_axis(d, &p);
    draw_line(d, &p, "r", learning_rate);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static const char style[] =
    "<style>svg{background:#fff;font:12px system-ui,sans-serif;fill:#333}"
    ".n{font-weight:600}.y{text-anchor:end}.x{text-anchor:middle}"
    ".g{stroke:#e4e4e4}.t,.v,.s,.r{fill:none;stroke-width:1.5}"
    ".t{stroke:#9aa5b1}.v{stroke:#1f6feb}.s{stroke:#d9730d}.r{stroke:#2a8f5c}"
    "circle.v{fill:#1f6feb}circle.s{fill:#d9730d}.kt{fill:#7b8794}.kv{fill:#1f6feb}.ks{fill:#"
    "d9730d}"
    "@media(prefers-color-scheme:dark){svg{background:#16191d;fill:#ccc}.g{stroke:#30363d}}"
    "</style>\n";

static void draw_head(struct drawing *d, const char *title, double height) {
    put(d,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
        "height=\"%.0f\" role=\"img\">\n<title>",
        WIDTH, height, WIDTH, height);
    put_escaped(d, title);
    put(d, "</title>\n%s<text class=\"n\" x=\"%d\" y=\"24\" font-size=\"15\">", style, LEFT);
    put_escaped(d, title);
    put(d, "</text>\n<text x=\"%d\" y=\"44\">%lld steps", LEFT, (long long)d->c->steps);
    if (d->c->stages > 0)
        put(d, "; Fast Forward: %lld stage%s, %.0f simulated steps", (long long)d->c->stages,
            d->c->stages == 1 ? "" : "s", d->c->simulated);
    if (!isnan(d->c->flops_share))
        put(d, ", %.1f %% of the FLOPs", 100.0 * d->c->flops_share);
    put(d, "</text>\n");
}

static void draw_key(struct drawing *d) {
    put(d,
        "<text x=\"%d\" y=\"72\" text-anchor=\"end\"><tspan class=\"kt\">training</tspan>"
        "<tspan class=\"kv\" dx=\"12\">validation</tspan>",
        RIGHT);
    if (d->c->stages > 0)
        put(d, "<tspan class=\"ks\" dx=\"12\">fall in a Fast Forward stage</tspan>");
    put(d, "</text>\n");
}

enum err plot_svg(const struct curve *c, const char *title, struct buf *out, struct err_msg *em) {
    struct drawing d = {.out = out, .c = c, .last = 1.0};
    double rate_top = c->stages > 0 ? 464.0 : 350.0, bottom = rate_top + 80.0;
    if (c->n > 0)
        d.last = (double)c->point[c->n - 1].step;
    draw_head(&d, title, bottom + 48.0);
    draw_key(&d);
    draw_losses(&d, 84.0);
    if (c->stages > 0)
        draw_simulated(&d, 350.0);
    draw_rate(&d, rate_top);
    draw_steps(&d, bottom);
    put(&d, "</svg>\n");
    return d.e == ERR_OK ? ERR_OK : err_set(em, d.e, "the plot is too large");
}
