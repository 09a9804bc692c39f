/* estimate: what a job would take, from the reports on its files.
 *
 * What:    the resolved hyperparameters, rows and tokens of an epoch, steps, arithmetic, memory
 *          and, where the device's speed is known, seconds: by the same rules that training uses.
 * Owns:    the returned object.
 * Threads: one control thread; estimate_speed uses the device's.
 * Errors:  what training would refuse for these numbers, naming the field.
 */
#ifndef FFWD_ENGINE_TRAIN_ESTIMATE_H
#define FFWD_ENGINE_TRAIN_ESTIMATE_H

#include <jansson.h>

#include "base/job_request.h"
#include "engine/model/model.h"
#include "engine/text/dataset.h"

struct estimate {
    const struct job_request *request;
    const struct model_config *config;
    const struct dataset_report *train, *valid; /* valid NULL: no validation file */
    enum dtype dtype;                           /* of the frozen weights */
    bool cpu;
    struct device *dev;      /* NULL: not open here */
    size_t process;          /* see struct memory_ask */
    double flops_per_second; /* of training on the device; 0: not known */
    const char *basis;       /* how that is known, NULL where it is not */
};

enum err estimate_make(const struct estimate *in, json_t **out, struct err_msg *em) NODISCARD;

/* FLOP/s of training on dev, measured on one and two blocks of the model with random weights for
 * about two seconds; `tokens` is the length of a row. */
enum err estimate_speed(struct device *dev, const struct model_config *config, enum dtype dtype,
                        const struct lora_config *lora, int64_t tokens, double *flops_per_second,
                        struct err_msg *em) NODISCARD;

#endif
