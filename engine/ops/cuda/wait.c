/* wait: for the device, but not for ever.
 *
 * A kernel that never ends shows in nothing but its silence, and every call of CUDA that waits
 * would then wait with it. So nothing here waits inside CUDA: an event is asked for again and
 * again, with pauses that grow with the wait, until LIMIT_DEVICE_SECONDS have passed. From then on
 * the device is not called at all: freeing its memory would wait as well. */
#include <stdio.h>

#include "base/limits.h"
#include "engine/ops/cuda/cuda.h"

/* CUDA holds about a thousand launches in line and blocks the one after them; so no more than three
 * times this many are ever under way. */
#define FENCE_EVERY 128

#define PAUSE_LEAST 20e-6
#define PAUSE_MOST 1e-3
#define PAUSE_SHARE (1.0 / 64) /* of the time waited so far: what a wait may last too long */

static double pause_after(double waited) {
    double pause = waited * PAUSE_SHARE;
    return pause < PAUSE_LEAST ? PAUSE_LEAST : pause > PAUSE_MOST ? PAUSE_MOST : pause;
}

static void set_hung(struct cuda *c, const char *call) {
    char text[ERR_TEXT_MAX];
    snprintf(text, sizeof text,
             "CUDA device %d (%s): %s: what comes before it has not ended after %d s (newest "
             "kernel: %s)",
             c->index, c->name, call, LIMIT_DEVICE_SECONDS,
             c->last_launch ? c->last_launch : "none");
    c->hung = true;
    cuda_fault_set(c, ERR_DEVICE, text);
}

bool cuda_wait(struct cuda *c, cudaEvent_t event, const char *call) {
    double start = cuda_clock();
    while (c->fault.code == ERR_OK) {
        cudaError_t rc = cudaEventQuery(event);
        double waited = cuda_clock() - start;
        if (rc != cudaErrorNotReady)
            return cuda_check(c, rc, call);
        (void)cudaGetLastError();
        if (waited >= LIMIT_DEVICE_SECONDS)
            set_hung(c, call);
        else
            cuda_pause(pause_after(waited));
    }
    return false;
}

bool cuda_finish(struct cuda *c, const char *call) {
    return c->fault.code == ERR_OK &&
           cuda_check(c, cudaEventRecord(c->done, c->stream), "cudaEventRecord") &&
           cuda_wait(c, c->done, call);
}

void cuda_launched(struct cuda *c, const char *name) {
    c->last_launch = name;
    if (c->capturing)
        return;
    if (++c->launches % FENCE_EVERY != 0 || c->fault.code != ERR_OK)
        return;
    cudaEvent_t fence = c->fence[c->launches / FENCE_EVERY % 2];
    if (cuda_wait(c, fence, name))
        cuda_check(c, cudaEventRecord(fence, c->stream), "cudaEventRecord");
}

enum err cuda_wait_open(struct cuda *c, struct err_msg *em) {
    cudaEvent_t *events[] = {&c->done, &c->fence[0], &c->fence[1]};
    for (int i = 0; i < 3 && c->fault.code == ERR_OK; i++)
        cuda_check(c, cudaEventCreateWithFlags(events[i], cudaEventDisableTiming),
                   "cudaEventCreateWithFlags");
    return cuda_fault_return(c, em);
}

void cuda_wait_close(struct cuda *c) {
    cudaEvent_t events[] = {c->done, c->fence[0], c->fence[1]};
    for (int i = 0; i < 3; i++)
        if (events[i])
            (void)cudaEventDestroy(events[i]);
}
