/* optimizer: moments and update, by the device's operations. */
#include "engine/train/optimizer.h"

#include <math.h>

#define BETA1 0.9f
#define BETA2 0.999f
#define EPSILON 1e-8f
#define CLIP_EPSILON 1e-6 /* torch's, added to the norm */

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

enum err optimizer_grad_norm(const struct optimizer *o, const struct adapter_mem *ad, double *norm,
                             struct err_msg *em) {
    double sum = NAN;
    enum err e = o->dev->ops->vec_sumsq(o->dev, ad->g, o->n, &sum, em);
    *norm = sqrt(sum);
    return e;
}

void optimizer_update(struct optimizer *o, const struct adapter_mem *ad, double learning_rate,
                      double norm) {
    double clip = (double)o->max_grad_norm / (norm + CLIP_EPSILON);
    const struct adamw step = {
        .lr = (float)learning_rate,
        .beta1 = BETA1,
        .beta2 = BETA2,
        .eps = EPSILON,
        .weight_decay = o->weight_decay,
        .step = ++o->updates,
        .grad_scale = clip < 1.0 ? (float)clip : 1.0f,
    };
    o->dev->ops->adamw(o->dev, &step, ad->w, ad->g, o->m, o->v, o->n);
    o->dev->ops->adapter_refresh(o->dev, ad);
}
