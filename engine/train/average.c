/* average: weights of the running mean, and its turns in the adapter's place. */
#include "engine/train/average.h"

#include <math.h>

/* The mean spans about 1 / (GAMMA + 1) of the steps so far. */
#define GAMMA 15.0

enum err average_init(struct average *a, struct device *dev, const struct adapter_mem *adapter,
                      float *spare, struct err_msg *em) {
    void *p;
    enum err e = dev->ops->mem_alloc(dev, adapter->n * sizeof(float), &p, em);
    if (e != ERR_OK)
        return e;
    *a = (struct average){.dev = dev, .adapter = adapter, .mean = p, .spare = spare};
    dev->ops->mem_copy(dev, a->mean, adapter->w, adapter->n * sizeof(float));
    return ERR_OK;
}

void average_free(struct average *a) {
    if (a->mean != NULL)
        a->dev->ops->mem_free(a->dev, a->mean);
    *a = (struct average){0};
}

double average_weight(int64_t step, int64_t since, double part) {
    double weight = fmax((GAMMA + 1.0) / ((double)step + GAMMA), 1.0 / (double)since);
    return 1.0 - (1.0 - weight) * part;
}

void average_add(struct average *a, double weight) {
    const struct ops *ops = a->dev->ops;
    size_t n = a->adapter->n;
    if (weight == 1.0) {
        ops->mem_copy(a->dev, a->mean, a->adapter->w, n * sizeof(float));
        return;
    }
    ops->vec_axpy(a->dev, a->spare, a->adapter->w, -1.0f, a->mean, n);
    ops->vec_axpy(a->dev, a->mean, a->mean, (float)weight, a->spare, n);
}

static void put(struct average *a, const float *values) {
    a->dev->ops->adapter_move(a->dev, a->adapter, values, 0.0f, values);
}

void average_show(struct average *a) {
    if (a->mean == NULL)
        return;
    a->dev->ops->mem_copy(a->dev, a->spare, a->adapter->w, a->adapter->n * sizeof(float));
    put(a, a->mean);
}

void average_hide(struct average *a) {
    if (a->mean != NULL)
        put(a, a->spare);
}
