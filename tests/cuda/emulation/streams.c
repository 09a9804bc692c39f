/* streams: what is in order, and what is not.
 *
 * Kernels and products happen at once. A copy to the device is late: it happens when something
 * comes after it on its own stream, when another stream waits for an event after it, or when the
 * host has seen such an event. A copy to the host takes what is there at once, and arrives when an
 * event after it has been seen. Two copies on two streams that touch the same bytes, of which the
 * later one does not wait for the other, end the program: on a device either might come first.
 *
 * What is enqueued has a number. A clock says up to which number of each stream everything has
 * happened before: what comes next on a stream, an event, or what the host knows. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/cuda/emulation/emulation.h"

enum { STREAMS = 256, PENDING = 16, REMEMBERED = 256 };

struct clock {
    long at[STREAMS];
};
struct emulated_stream {
    int number;
    struct clock before; /* what comes next */
};
struct emulated_event {
    float at;
    struct clock before;
};

struct range {
    const char *p;
    size_t bytes;
};
struct copy {
    int stream;
    long number;
    struct range from, to;
    void *taken; /* of a copy to the host */
};

long emulated_copies_most;
static bool in_use[STREAMS];
static long enqueued;
static struct clock seen; /* by the host */
static struct copy pending[PENDING], remembered[REMEMBERED];
static int n_pending;
static long n_remembered;

static void merge(struct clock *to, const struct clock *from) {
    for (int i = 0; i < STREAMS; i++)
        to->at[i] = from->at[i] > to->at[i] ? from->at[i] : to->at[i];
}

/* ---- copies on their way -------------------------------------------------------------------- */

static void run_copy(void *arg) {
    const struct copy *c = arg;
    memcpy((char *)(uintptr_t)c->to.p, c->taken ? c->taken : c->from.p, c->to.bytes);
}

/* Those that are done by then, to the device or to the host. */
static void finish(const struct clock *by, bool to_host) {
    int left = 0;
    for (int i = 0; i < n_pending; i++) {
        struct copy c = pending[i];
        if ((c.taken != NULL) != to_host || c.number > by->at[c.stream]) {
            pending[left++] = c;
            continue;
        }
        run_copy(&c);
        free(c.taken);
    }
    n_pending = left;
}

void emulated_finish(void) {
    struct clock all;
    for (int i = 0; i < STREAMS; i++)
        all.at[i] = enqueued;
    finish(&all, false);
    finish(&all, true);
}

static void add_pending(const struct copy *c) {
    int to_device = 0;
    if (n_pending == PENDING)
        emulated_finish();
    pending[n_pending++] = *c;
    for (int i = 0; i < n_pending; i++)
        to_device += pending[i].taken == NULL;
    if (to_device > emulated_copies_most)
        emulated_copies_most = to_device;
}

/* ---- copies that must not meet -------------------------------------------------------------- */

static bool meet(struct range a, struct range b) {
    return a.p < b.p + b.bytes && b.p < a.p + a.bytes;
}

/* to_device: the host has written to where it comes from, so what was there before has left it. */
static void check_order(const struct emulated_stream *s, const struct copy *c, bool to_device) {
    for (int i = 0; i < REMEMBERED; i++) {
        const struct copy *old = &remembered[i];
        if (to_device && old->number > seen.at[old->stream] &&
            (meet(c->from, old->from) || meet(c->from, old->to)))
            emulated_stop("host memory is used again before a copy of %zu bytes from or to it is "
                          "seen to have ended",
                          old->to.bytes);
        if (old->number <= s->before.at[old->stream])
            continue;
        if (meet(c->to, old->to) || meet(c->to, old->from) || meet(c->from, old->to))
            emulated_stop("a copy of %zu bytes does not wait for one on another stream that "
                          "touches the same bytes",
                          c->to.bytes);
    }
}

void emulated_forget(const void *p, size_t bytes) {
    const struct range freed = {p, bytes};
    for (int i = 0; i < REMEMBERED; i++)
        if (meet(remembered[i].from, freed) || meet(remembered[i].to, freed))
            remembered[i] = (struct copy){0};
}

/* The next number on this stream. */
static long take_number(cudaStream_t stream) {
    if (!stream)
        emulated_stop("work on the stream that waits for all others");
    merge(&stream->before, &seen);
    stream->before.at[stream->number] = ++enqueued;
    return enqueued;
}

void emulated_on(cudaStream_t stream) {
    struct clock own = {{0}};
    long number = take_number(stream);
    own.at[stream->number] = number;
    finish(&own, false);
}

void emulated_copy(cudaStream_t stream, void *dst, const void *src, size_t bytes,
                   enum cudaMemcpyKind kind) {
    struct copy c = {.stream = stream->number, .from = {src, bytes}, .to = {dst, bytes}};
    if (kind != cudaMemcpyHostToDevice) /* of these two may be under way at a time */
        emulated_on(stream);
    c.number = take_number(stream);
    check_order(stream, &c, kind == cudaMemcpyHostToDevice);
    remembered[n_remembered++ % REMEMBERED] = c;
    if (kind == cudaMemcpyDeviceToDevice) {
        emulated_do(run_copy, &c, sizeof c);
        return;
    }
    if (kind == cudaMemcpyDeviceToHost)
        c.taken = memcpy(xmalloc(bytes), src, bytes);
    add_pending(&c);
}

/* ---- streams and events --------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    int number = 0;
    while (number < STREAMS && in_use[number])
        number++;
    if (number == STREAMS || flags != cudaStreamNonBlocking)
        emulated_stop("more than %d streams, or one that waits for all others", STREAMS);
    in_use[number] = true;
    *out = xcalloc(1, sizeof **out);
    (*out)->number = number;
    return emulated_call("cudaStreamCreateWithFlags");
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    emulated_finish();
    for (int i = 0; i < REMEMBERED; i++)
        if (remembered[i].stream == stream->number)
            remembered[i] = (struct copy){0};
    in_use[stream->number] = false;
    free(stream);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    (void)flags;
    *out = xcalloc(1, sizeof **out);
    return emulated_call("cudaEventCreateWithFlags");
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    merge(&stream->before, &seen);
    event->at = emulated_clock;
    event->before = stream->before;
    return emulated_call("cudaEventRecord");
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags) {
    cudaError_t rc = emulated_call("cudaStreamWaitEvent");
    (void)flags;
    if (rc == cudaSuccess) {
        merge(&stream->before, &event->before);
        finish(&event->before, false);
    }
    return rc;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t stop) {
    *ms = stop->at - start->at;
    return emulated_call("cudaEventElapsedTime");
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
    cudaError_t rc = emulated_call("cudaEventQuery");
    finish(&event->before, false);
    if (rc == cudaSuccess && !emulated_answers())
        rc = cudaErrorNotReady;
    if (rc == cudaSuccess) {
        finish(&event->before, true);
        merge(&seen, &event->before);
    }
    return rc;
}
