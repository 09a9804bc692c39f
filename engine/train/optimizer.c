/* optimizer: moments and update, by the device's operations. */
#include "engine/train/optimizer.h"

#include <math.h>

#define BETA1 0.9f
#define BETA2 0.999f
#define EPSILON 1e-8f

static enum err alloc_zeroed(struct device *dev, size_t n, float **out, struct err_msg *em) {
    void *p;
    enum err e = dev->ops->mem_alloc(dev, n * sizeof(float), &p, em);
    if (e != ERR_OK)
        return e;
    dev->ops->mem_zero(dev, p, n * sizeof(float));
    *out = p;
    return ERR_OK;
}

enum err optimizer_init(struct optimizer *o, struct device *dev, size_t n, double weight_decay,
                        double max_grad_norm, struct err_msg *em) {
    *o = (struct optimizer){
        .dev = dev,
        .n = n,
        .weight_decay = (float)weight_decay,
        .max_grad_norm = (float)max_grad_norm,
    };
    enum err e = alloc_zeroed(dev, n, &o->m, em);
    if (e == ERR_OK)
        e = alloc_zeroed(dev, n, &o->v, em);
    if (e != ERR_OK)
        optimizer_free(o);
    return e;
}

void optimizer_free(struct optimizer *o) {
    if (o->m != NULL)
        o->dev->ops->mem_free(o->dev, o->m);
    if (o->v != NULL)
        o->dev->ops->mem_free(o->dev, o->v);
    *o = (struct optimizer){0};
}

enum err optimizer_step(struct optimizer *o, const struct adapter_mem *ad, double learning_rate,
                        double *norm, struct err_msg *em) {
    double sum = NAN;
    const struct adamw step = {
        .lr = (float)learning_rate,
        .beta1 = BETA1,
        .beta2 = BETA2,
        .eps = EPSILON,
        .weight_decay = o->weight_decay,
        .step = o->updates + 1,
        .max_norm = o->max_grad_norm,
    };
    enum err e = o->dev->ops->adamw(o->dev, &step, ad, o->m, o->v, &sum, em);
    *norm = sqrt(sum);
    o->updates += e == ERR_OK && isfinite(sum);
    return e;
}

void optimizer_forget(struct optimizer *o) {
    o->dev->ops->mem_zero(o->dev, o->m, o->n * sizeof(float));
}
