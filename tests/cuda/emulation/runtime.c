/* runtime: CUDA's runtime calls on host memory, but for streams.c and graphs.c. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/ops/cpu/half.h"
#include "engine/ops/cuda/cuda.h"
#include "tests/cuda/emulation/emulation.h"

struct emulated_machine emulated_machine = {13000, 1, 9, (size_t)8 << 30, "emulated device"};
long emulated_allocations;
size_t emulated_pinned;
float emulated_clock;

static struct {
    const char *call;
    cudaError_t rc;
    int skip;
    bool sticky;
} planned;
static cudaError_t broken;     /* a sticky error */
static long answers_left = -1; /* until the device hangs; -1: it never does */

void emulated_stop(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("emulation: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

void emulation_fail(const char *call, cudaError_t rc, int skip, bool sticky) {
    planned.call = call;
    planned.rc = rc;
    planned.skip = skip;
    planned.sticky = sticky;
    broken = cudaSuccess;
}

void emulation_hang(long answers) {
    answers_left = answers;
}

bool emulated_answers(void) {
    answers_left -= answers_left > 0;
    return answers_left != 0;
}

void emulated_waits(const char *call) {
    if (answers_left == 0)
        emulated_stop("%s waits for a device that does not answer", call);
}

cudaError_t emulated_call(const char *name) {
    emulated_check_capture(name);
    if (broken != cudaSuccess)
        return broken;
    if (!planned.call || strcmp(planned.call, name) != 0 || planned.skip-- > 0)
        return cudaSuccess;
    planned.call = NULL;
    broken = planned.sticky ? planned.rc : cudaSuccess;
    return planned.rc;
}

/* For programs that load this as their device: FFWD_EMULATED_FAULT is "CALL ERROR SKIP STICKY", the
 * arguments of emulation_fail, or "hang ANSWERS"; FFWD_EMULATED_MEMORY the device's bytes,
 * FFWD_EMULATED_NAME its name; FFWD_EMULATED_ALGORITHMS "rounding", or "noise" for both knobs;
 * FFWD_EMULATED_CUDNN the version of cuDNN. */
__attribute__((constructor)) static void read_environment(void) {
    static char call[64];
    const char *fault = getenv("FFWD_EMULATED_FAULT"), *memory = getenv("FFWD_EMULATED_MEMORY");
    const char *name = getenv("FFWD_EMULATED_NAME"), *how = getenv("FFWD_EMULATED_ALGORITHMS");
    const char *cudnn = getenv("FFWD_EMULATED_CUDNN");
    emulated_cudnn = cudnn ? (int)strtol(cudnn, NULL, 10) : emulated_cudnn;
    emulated_machine.name = name ? name : emulated_machine.name;
    emulated_rounding = how != NULL;
    emulated_noise = how && strcmp(how, "noise") == 0;
    int rc, skip, sticky;
    long answers;
    if (memory)
        emulated_machine.memory = strtoull(memory, NULL, 10);
    if (fault && sscanf(fault, "hang %ld", &answers) == 1)
        emulation_hang(answers);
    else if (fault && sscanf(fault, "%63s %d %d %d", call, &rc, &skip, &sticky) == 4)
        emulation_fail(call, (cudaError_t)rc, skip, sticky);
}

/* ---- memory --------------------------------------------------------------------------------- */

struct block {
    char *p;
    size_t bytes;
    struct block *next;
};
static struct block *blocks, *pinned;
static size_t held;

void emulated_check_range(const void *p, size_t bytes, const char *what) {
    for (const struct block *b = blocks; b; b = b->next)
        if ((const char *)p >= b->p && (const char *)p + bytes <= b->p + b->bytes)
            return;
    if (bytes > 0)
        emulated_stop("%s: %zu bytes at %p are not in one block of device memory", what, bytes, p);
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    cudaError_t rc = emulated_call("cudaMalloc");
    if (rc == cudaSuccess && bytes > emulated_machine.memory - held)
        rc = cudaErrorMemoryAllocation;
    if (rc != cudaSuccess)
        return rc;
    struct block *b = xcalloc(1, sizeof *b);
    void *p; /* of exactly this size: what lies behind it is AddressSanitizer's */
    if (posix_memalign(&p, 256, bytes) != 0)
        emulated_stop("the host has no memory for %zu bytes", bytes);
    *b = (struct block){p, bytes, blocks};
    memset(b->p, 0xff, bytes);
    blocks = b;
    held += bytes;
    emulated_allocations++;
    *out = b->p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    emulated_waits("cudaFree");
    emulated_finish();
    for (struct block **at = &blocks; *at; at = &(*at)->next)
        if ((*at)->p == p) {
            struct block *b = *at;
            *at = b->next;
            held -= b->bytes;
            emulated_forget(b->p, b->bytes);
            free(b->p);
            free(b);
            return emulated_call("cudaFree");
        }
    if (p)
        emulated_stop("cudaFree: %p was not allocated", p);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **out, size_t bytes) {
    cudaError_t rc = emulated_call("cudaMallocHost");
    *out = rc == cudaSuccess ? xmalloc(bytes) : NULL;
    if (rc == cudaSuccess) {
        struct block *b = xcalloc(1, sizeof *b);
        *b = (struct block){*out, bytes, pinned};
        pinned = b;
        emulated_pinned += bytes;
    }
    return rc;
}

cudaError_t cudaFreeHost(void *p) {
    emulated_waits("cudaFreeHost");
    emulated_finish();
    for (struct block **at = &pinned; *at; at = &(*at)->next)
        if ((*at)->p == p) {
            struct block *b = *at;
            *at = b->next;
            emulated_forget(b->p, b->bytes);
            free(b->p);
            free(b);
            return cudaSuccess;
        }
    emulated_stop("cudaFreeHost: %p was not allocated", p);
}

/* A copy from or to other host memory waits, however it is called. */
static void check_pinned(const void *p, size_t bytes) {
    for (const struct block *b = pinned; b; b = b->next)
        if ((const char *)p >= b->p && (const char *)p + bytes <= b->p + b->bytes)
            return;
    emulated_stop("cudaMemcpyAsync: %zu bytes at %p are not in pinned memory", bytes, p);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total) {
    *available = emulated_machine.memory - held;
    *total = emulated_machine.memory;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream) {
    cudaError_t rc = emulated_call("cudaMemcpyAsync");
    if (rc != cudaSuccess)
        return rc;
    if (kind != cudaMemcpyDeviceToHost)
        emulated_check_range(dst, bytes, "cudaMemcpyAsync, destination");
    else
        check_pinned(dst, bytes);
    if (kind != cudaMemcpyHostToDevice)
        emulated_check_range(src, bytes, "cudaMemcpyAsync, source");
    else
        check_pinned(src, bytes);
    if (kind != cudaMemcpyDeviceToDevice)
        emulated_check_capture("a copy from or to the host");
    emulated_copy(stream, dst, src, bytes, kind);
    return cudaSuccess;
}

struct fill {
    char *dst;
    size_t pitch, width, height;
    int value;
};

static void run_fill(void *arg) {
    const struct fill *f = arg;
    for (size_t row = 0; row < f->height; row++) {
        emulated_check_range(f->dst + row * f->pitch, f->width, "cudaMemsetAsync");
        memset(f->dst + row * f->pitch, f->value, f->width);
    }
}

cudaError_t cudaMemset2DAsync(void *dst, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
    cudaError_t rc = emulated_call("cudaMemset2DAsync");
    const struct fill fill = {dst, pitch, width, height, value};
    emulated_on(stream);
    if (rc == cudaSuccess)
        emulated_do(run_fill, &fill, sizeof fill);
    return rc;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t bytes, cudaStream_t stream) {
    cudaError_t rc = emulated_call("cudaMemsetAsync");
    const struct fill fill = {dst, bytes, bytes, 1, value};
    emulated_on(stream);
    if (rc == cudaSuccess)
        emulated_do(run_fill, &fill, sizeof fill);
    return rc;
}

/* ---- time ----------------------------------------------------------------------------------- */

static double paused;

double cuda_clock(void) {
    return clock_mono() + paused;
}

void cuda_pause(double seconds) {
    paused += seconds;
}

/* ---- the machine ---------------------------------------------------------------------------- */

cudaError_t cudaGetLastError(void) {
    return broken;
}

const char *cudaGetErrorString(cudaError_t rc) {
    switch (rc) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    case cudaErrorUnknown:
        return "unknown error";
    case cudaErrorECCUncorrectable:
        return "uncorrectable ECC error encountered";
    default:
        return "another error";
    }
}

cudaError_t cudaDriverGetVersion(int *version) {
    *version = emulated_machine.driver;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count) {
    *count = emulated_machine.devices;
    return emulated_machine.driver < CUDART_VERSION ? cudaErrorInsufficientDriver
           : *count == 0                            ? cudaErrorNoDevice
                                                    : cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    return device < emulated_machine.devices ? emulated_call("cudaSetDevice")
                                             : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device) {
    (void)device;
    memset(prop, 0, sizeof *prop);
    snprintf(prop->name, sizeof prop->name, "%s", emulated_machine.name);
    prop->totalGlobalMem = emulated_machine.memory;
    prop->major = emulated_machine.major;
    return emulated_call("cudaGetDeviceProperties");
}

/* For include/cuda_fp16.h, which is C++. */
float emulated_half_to_float(uint16_t bits);
uint16_t emulated_half_from_float(float value);

float emulated_half_to_float(uint16_t bits) {
    return half_to_float(bits);
}

uint16_t emulated_half_from_float(float value) {
    return half_from_float(value);
}
