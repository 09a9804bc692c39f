/* memory: sums over the plans of model, adapter and pass. */
#include "engine/train/memory.h"

#include <stdio.h>
#include <unistd.h>

/* f32 values kept for each value of the adapter: weight, gradient, two moments; Fast Forward's base
 * and direction, and the average of its search "auto". */
#define STATES 4
#define STATES_FAST_FORWARD 6
#define STATES_AVERAGE 7

enum err memory_plan_make(const struct memory_ask *ask, struct memory_plan *out,
                          struct err_msg *em) {
    struct model_size size;
    size_t states = !ask->fast_forward ? STATES
                    : ask->average     ? STATES_AVERAGE
                                       : STATES_FAST_FORWARD;
    *out = (struct memory_plan){.process = ask->process};
    enum err e = model_size(ask->dev, ask->config, ask->dtype, ask->lora, &ask->training,
                            &ask->eval, &size, em);
    if (e != ERR_OK)
        return e;
    out->trainable = (int64_t)size.adapter_values;
    out->weights = size.weight_bytes;
    out->adapter = size.adapter_values * (states * sizeof(float) + dtype_size(ask->dtype));
    out->activations = size.pass_bytes;
    out->scratch = size.scratch_bytes;
    out->total = out->process + out->weights + out->adapter + out->activations + out->scratch;
    return ERR_OK;
}

json_t *memory_plan_json(const struct memory_plan *p) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "process", (json_int_t)p->process, "weights",
                     (json_int_t)p->weights, "adapter", (json_int_t)p->adapter, "activations",
                     (json_int_t)p->activations, "scratch", (json_int_t)p->scratch, "total",
                     (json_int_t)p->total);
}

/* Code and tables that only the first steps bring in. */
#define FIRST_STEPS ((size_t)4 << 20)

static size_t resident(void) {
    long long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL) {
        if (fscanf(f, "%*s %lld", &pages) != 1 || pages < 0)
            pages = 0;
        (void)fclose(f);
    }
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t memory_process(const struct model *m, size_t weights) {
    size_t all = resident(), models = m != NULL ? weights - model_mapped_bytes(m) : 0;
    return FIRST_STEPS + (all > models ? all - models : 0);
}
