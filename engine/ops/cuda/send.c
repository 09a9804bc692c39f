/* send: a batch on its way to the device while that works on another one.
 *
 * It crosses the bus on a stream of its own, into memory of its own; the other stream then waits
 * for it and copies it to where the work reads it, which may be in use until then, and whose
 * address CUDA graphs hold. One such memory is enough: it is free again when the batch before has
 * begun. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/cuda.h"

struct send {
    void *host, *landing; /* pinned; on the device */
    size_t bytes;
    cudaEvent_t sent;  /* the last copy from host to landing */
    cudaEvent_t taken; /* the last copy out of landing */
};

size_t cuda_send_bytes(struct device *dev, size_t bytes) {
    (void)dev;
    return bytes;
}

enum err cuda_send_new(struct device *dev, size_t bytes, struct send **out, struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    struct send *s = xcalloc(1, sizeof *s);
    const char *call = "cudaEventCreateWithFlags";
    *out = NULL;
    s->bytes = bytes;
    enum err e = cuda_mem_alloc(dev, bytes, &s->landing, em);
    if (e == ERR_OK && cuda_check(c, cudaMallocHost(&s->host, bytes), "cudaMallocHost") &&
        cuda_check(c, cudaEventCreateWithFlags(&s->sent, cudaEventDisableTiming), call))
        cuda_check(c, cudaEventCreateWithFlags(&s->taken, cudaEventDisableTiming), call);
    if (e == ERR_OK)
        e = cuda_fault_return(c, em);
    if (e == ERR_OK) {
        memset(s->host, 0, bytes);
        *out = s;
    } else {
        cuda_send_free(dev, s);
    }
    return e;
}

void cuda_send_free(struct device *dev, struct send *s) {
    struct cuda *c = cuda_of(dev);
    if (s->sent)
        (void)cuda_wait(c, s->sent, "send"); /* it may have been begun and not ended */
    cuda_mem_free(dev, s->landing);
    if (!c->hung) {
        if (s->host)
            (void)cudaFreeHost(s->host);
        if (s->sent)
            (void)cudaEventDestroy(s->sent);
        if (s->taken)
            (void)cudaEventDestroy(s->taken);
    }
    free(s);
}

void *cuda_send_open(struct device *dev, struct send *s) {
    (void)cuda_wait(cuda_of(dev), s->sent, "send");
    return s->host;
}

void cuda_send_begin(struct device *dev, struct send *s) {
    struct cuda *c = cuda_of(dev);
    if (c->fault.code == ERR_OK &&
        cuda_check(c, cudaStreamWaitEvent(c->sends, s->taken, 0), "cudaStreamWaitEvent") &&
        cuda_check(c,
                   cudaMemcpyAsync(s->landing, s->host, s->bytes, cudaMemcpyHostToDevice, c->sends),
                   "cudaMemcpyAsync"))
        cuda_check(c, cudaEventRecord(s->sent, c->sends), "cudaEventRecord");
}

void cuda_send_end(struct device *dev, struct send *s, void *dst) {
    struct cuda *c = cuda_of(dev);
    if (c->fault.code == ERR_OK &&
        cuda_check(c, cudaStreamWaitEvent(c->stream, s->sent, 0), "cudaStreamWaitEvent") &&
        cuda_check(c,
                   cudaMemcpyAsync(dst, s->landing, s->bytes, cudaMemcpyDeviceToDevice, c->stream),
                   "cudaMemcpyAsync"))
        cuda_check(c, cudaEventRecord(s->taken, c->stream), "cudaEventRecord");
}
