/* pass: how fast the device does a step's matrix products when nothing stands between them. */
#include <string.h>

#include "base/clock.h"
#include "engine/model/internal.h"

enum { HEAD_ROWS = 512 };

/* Best of up to `repeats`, at least two, and no more once a second has gone by. */
struct stopwatch {
    int repeats, done;
    double start, spent, best;
};

static bool watch_start(struct stopwatch *s) {
    if (s->done == s->repeats || (s->done >= 2 && s->spent > 1))
        return false;
    s->start = clock_mono();
    return true;
}

static void watch_stop(struct stopwatch *s) {
    double seconds = clock_mono() - s->start;
    s->best = s->done == 0 || seconds < s->best ? seconds : s->best;
    s->spent += seconds;
    s->done++;
}

/* The products of one site in one direction, block after block, so that weights come from memory
 * as they do in a step. What is in the buffers is what the last step left there. */
struct product {
    const struct pass *p;
    enum site site;
    bool backward;
    struct tensor in, out; /* of the product: x and y, or dy and dx */
};

static struct product site_product(const struct pass *p, enum site site, bool backward) {
    const struct model_config *c = &p->m->cfg;
    const struct saved *sv = &p->saved[0];
    int64_t rows = p->batch.n_tokens;
    void *x[SITES] = {p->x_norm, sv->att, p->x_norm, p->h};
    void *y[SITES] = {sv->qkv, sv->x_mid, sv->gate_up, sv->x_mid};
    void *dy[SITES] = {p->d_qkv, p->dx, sv->gate_up, p->dx};
    void *dx[SITES] = {p->dx_norm, p->d_att, p->dx_norm, p->dh};
    struct product pr = {.p = p, .site = site, .backward = backward};
    pr.in = backward ? pass_view(p, dy[site], rows, site_out(c, site))
                     : pass_view(p, x[site], rows, site_in(c, site));
    pr.out = backward ? pass_view(p, dx[site], rows, site_in(c, site))
                      : pass_view(p, y[site], rows, site_out(c, site));
    return pr;
}

static void product_run(const struct pass *p, const struct linear *lin, bool backward,
                        struct tensor in, struct tensor out) {
    const struct dropout off = {0};
    const struct tensor none = {0};
    struct device *dev = p->m->dev;
    if (backward)
        dev->ops->linear_backward(dev, lin, NULL, NULL, &off, &p->batch, in, none, none, &out);
    else
        dev->ops->linear_forward(dev, lin, NULL, NULL, &off, &p->batch, in, NULL, out, none);
}

/* Seconds for all blocks, best of repeats. */
static enum err time_site(const struct product *pr, int repeats, double *best, struct err_msg *em) {
    const struct model *m = pr->p->m;
    enum err e = m->dev->ops->sync(m->dev, em);
    struct stopwatch watch = {.repeats = repeats};
    while (e == ERR_OK && watch_start(&watch)) {
        for (int l = 0; l < m->cfg.layers; l++)
            product_run(pr->p, m->layers[l].lin[pr->site], pr->backward, pr->in, pr->out);
        e = m->dev->ops->sync(m->dev, em);
        watch_stop(&watch);
    }
    *best = watch.best;
    return e;
}

/* Seconds for the head in both directions over all tokens, from pieces of HEAD_ROWS rows. */
static enum err time_head(const struct pass *p, int repeats, double *best, struct err_msg *em) {
    const struct model *m = p->m;
    const struct ops *ops = m->dev->ops;
    int64_t tokens = p->batch.n_tokens, rows = tokens < HEAD_ROWS ? tokens : HEAD_ROWS;
    void *piece;
    size_t bytes = (size_t)(rows * m->cfg.vocab) * dtype_size(m->dtype);
    enum err e = ops->mem_alloc(m->dev, bytes, &piece, em);
    if (e != ERR_OK)
        return e;
    struct tensor x = pass_view(p, p->x_norm, rows, m->cfg.hidden);
    struct tensor dx = pass_view(p, p->dx_norm, rows, m->cfg.hidden);
    struct tensor logits = pass_view(p, piece, rows, m->cfg.vocab);
    struct stopwatch watch = {.repeats = repeats};
    while (e == ERR_OK && watch_start(&watch)) {
        product_run(p, m->head, false, x, logits);
        product_run(p, m->head, true, logits, dx);
        e = ops->sync(m->dev, em);
        watch_stop(&watch);
    }
    *best = watch.best * (double)tokens / (double)rows;
    ops->mem_free(m->dev, piece);
    return e;
}

enum err pass_product_speed(struct pass *p, int repeats, double *flops, struct err_msg *em) {
    double total = 0, seconds = 0;
    enum err e = ERR_OK;
    for (int i = 0; i < 2 * SITES && e == ERR_OK; i++) {
        struct product pr = site_product(p, (enum site)(i / 2), i % 2 == 1);
        e = time_site(&pr, repeats, &seconds, em);
        total += seconds;
    }
    if (e == ERR_OK)
        e = time_head(p, repeats, &seconds, em);
    total += seconds;
    *flops = 4.0 * (double)model_matmul_weights(p->m) * p->batch.n_tokens / total;
    return e;
}
