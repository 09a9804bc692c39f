/* memory: device memory, pinned staging for uploads, scratch memory. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/attention_plans.h"
#include "engine/ops/cuda/cuda.h"
#include "engine/ops/cuda/product.h"

/* ---- blocks --------------------------------------------------------------------------------- */

static void block_add(struct cuda *c, void *p, size_t bytes) {
    if (c->n_blocks == c->room_blocks) {
        c->room_blocks = 2 * c->room_blocks + 64;
        c->blocks = xreallocarray(c->blocks, c->room_blocks, sizeof *c->blocks);
    }
    c->blocks[c->n_blocks++] = (struct cuda_block){p, bytes};
    c->held += bytes;
    c->peak = c->held > c->peak ? c->held : c->peak;
}

static void block_remove(struct cuda *c, const void *p) {
    for (size_t i = 0; i < c->n_blocks; i++)
        if (c->blocks[i].p == p) {
            c->held -= c->blocks[i].bytes;
            c->blocks[i] = c->blocks[--c->n_blocks];
            return;
        }
}

enum err cuda_mem_alloc(struct device *dev, size_t bytes, void **out, struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    size_t available = 0, total = 0;
    *out = NULL;
    if (c->fault.code != ERR_OK)
        return cuda_fault_return(c, em);
    cudaError_t rc =
        bytes > c->memory_total ? cudaErrorMemoryAllocation : cudaMalloc(out, bytes ? bytes : 1);
    if (rc == cudaSuccess) {
        block_add(c, *out, bytes);
        return ERR_OK;
    }
    *out = NULL;
    if (rc != cudaErrorMemoryAllocation) {
        cuda_check(c, rc, "cudaMalloc");
        return cuda_fault_return(c, em);
    }
    /* Running out is no fault: the caller may ask for less. */
    (void)cudaGetLastError();
    (void)cudaMemGetInfo(&available, &total);
    return err_set(em, ERR_NO_MEMORY,
                   "%zu bytes of device memory are needed at once; device %d (%s) has %zu, of "
                   "which %zu are free",
                   bytes, c->index, c->name, c->memory_total, available);
}

void cuda_mem_free(struct device *dev, void *p) {
    struct cuda *c = cuda_of(dev);
    if (!p)
        return;
    block_remove(c, p);
    (void)cuda_finish(c, "cudaFree"); /* which waits for the work that uses it */
    cuda_graphs_clear(c);
    if (!c->hung)
        cuda_check(c, cudaFree(p), "cudaFree");
}

/* Code and tables of kernels are loaded when they first run; and memory is handed out in pages. */
#define LEFT_FOR_CUDA ((size_t)256 << 20)

size_t cuda_memory_usable(const struct cuda *c) {
    size_t available = 0, total = 0;
    if (c->hung || cudaMemGetInfo(&available, &total) != cudaSuccess)
        return c->memory_total;
    available += c->held;
    return available > LEFT_FOR_CUDA ? available - LEFT_FOR_CUDA : 0;
}

const void *cuda_mem_share(struct device *dev, const void *host, size_t bytes) {
    (void)dev;
    (void)host;
    (void)bytes;
    return NULL;
}

size_t cuda_mem_peak(const struct device *dev) {
    return ((const struct cuda *)(const void *)dev)->peak;
}

void cuda_mem_zero(struct device *dev, void *p, size_t bytes) {
    struct cuda *c = cuda_of(dev);
    if (c->fault.code == ERR_OK && bytes > 0)
        cuda_check(c, cudaMemsetAsync(p, 0, bytes, c->stream), "cudaMemsetAsync");
}

void cuda_mem_copy(struct device *dev, void *dst, const void *src, size_t bytes) {
    struct cuda *c = cuda_of(dev);
    if (c->fault.code == ERR_OK && bytes > 0)
        cuda_check(c, cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, c->stream),
                   "cudaMemcpyAsync");
}

/* ---- host and device ------------------------------------------------------------------------ */

enum err cuda_staging_open(struct cuda *c, struct err_msg *em) {
    for (int i = 0; i < 2 && c->fault.code == ERR_OK; i++) {
        struct cuda_staging *s = &c->staging[i];
        if (cuda_check(c, cudaMallocHost(&s->host, CUDA_STAGING_BYTES), "cudaMallocHost"))
            cuda_check(c, cudaEventCreateWithFlags(&s->sent, cudaEventDisableTiming),
                       "cudaEventCreateWithFlags");
    }
    return cuda_fault_return(c, em);
}

/* The host fills one half while the other is on its way, so that uploads run at the speed of the
 * bus and the caller's memory is free on return. */
void cuda_upload(struct device *dev, void *dst, const void *host, size_t bytes) {
    struct cuda *c = cuda_of(dev);
    for (size_t at = 0; at < bytes && c->fault.code == ERR_OK;) {
        struct cuda_staging *s = &c->staging[c->staging_next];
        size_t n = bytes - at < CUDA_STAGING_BYTES ? bytes - at : CUDA_STAGING_BYTES;
        if (!cuda_wait(c, s->sent, "upload"))
            return;
        memcpy(s->host, (const char *)host + at, n);
        if (!cuda_check(
                c, cudaMemcpyAsync((char *)dst + at, s->host, n, cudaMemcpyHostToDevice, c->stream),
                "cudaMemcpyAsync"))
            return;
        cuda_check(c, cudaEventRecord(s->sent, c->stream), "cudaEventRecord");
        c->staging_next ^= 1;
        at += n;
    }
}

enum err cuda_sync(struct device *dev, struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    (void)cuda_finish(c, "sync");
    return cuda_fault_return(c, em);
}

/* By way of pinned memory: a copy into other memory waits inside CUDA. */
void cuda_download_begin(struct cuda *c, const void *src, size_t bytes) {
    struct cuda_staging *s = &c->staging[0];
    if (cuda_wait(c, s->sent, "download") &&
        cuda_check(c, cudaMemcpyAsync(s->host, src, bytes, cudaMemcpyDeviceToHost, c->stream),
                   "cudaMemcpyAsync"))
        cuda_check(c, cudaEventRecord(s->sent, c->stream), "cudaEventRecord");
}

bool cuda_download_end(struct cuda *c, void *host, size_t bytes) {
    const struct cuda_staging *s = &c->staging[0];
    if (!cuda_wait(c, s->sent, "download"))
        return false;
    memcpy(host, s->host, bytes);
    return true;
}

enum err cuda_download(struct device *dev, void *host, const void *src, size_t bytes,
                       struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    for (size_t at = 0; at < bytes && c->fault.code == ERR_OK;) {
        size_t n = bytes - at < CUDA_STAGING_BYTES ? bytes - at : CUDA_STAGING_BYTES;
        cuda_download_begin(c, (const char *)src + at, n);
        (void)cuda_download_end(c, (char *)host + at, n);
        at += n;
    }
    return bytes > 0 ? cuda_fault_return(c, em) : cuda_sync(dev, em);
}

struct fetch {
    void *host;       /* pinned */
    cudaEvent_t sent; /* the last copy into it */
};

enum err cuda_fetch_new(struct device *dev, size_t bytes, struct fetch **out, struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    struct fetch *f = xcalloc(1, sizeof *f);
    *out = NULL;
    if (c->fault.code == ERR_OK &&
        cuda_check(c, cudaMallocHost(&f->host, bytes ? bytes : 1), "cudaMallocHost"))
        cuda_check(c, cudaEventCreateWithFlags(&f->sent, cudaEventDisableTiming),
                   "cudaEventCreateWithFlags");
    enum err e = cuda_fault_return(c, em);
    if (e == ERR_OK)
        *out = f;
    else
        cuda_fetch_free(dev, f);
    return e;
}

void cuda_fetch_free(struct device *dev, struct fetch *f) {
    struct cuda *c = cuda_of(dev);
    if (!f)
        return;
    (void)cuda_finish(c, "cudaFreeHost"); /* which waits for the work that uses it */
    if (!c->hung) {
        if (f->host)
            (void)cudaFreeHost(f->host);
        if (f->sent)
            (void)cudaEventDestroy(f->sent);
    }
    free(f);
}

void cuda_fetch_begin(struct device *dev, struct fetch *f, size_t at, const void *src,
                      size_t bytes) {
    struct cuda *c = cuda_of(dev);
    if (c->fault.code == ERR_OK && bytes > 0 &&
        cuda_check(
            c, cudaMemcpyAsync((char *)f->host + at, src, bytes, cudaMemcpyDeviceToHost, c->stream),
            "cudaMemcpyAsync"))
        cuda_check(c, cudaEventRecord(f->sent, c->stream), "cudaEventRecord");
}

enum err cuda_fetch_end(struct device *dev, struct fetch *f, const void **out, struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    (void)cuda_wait(c, f->sent, "fetch");
    *out = f->host;
    return cuda_fault_return(c, em);
}

/* ---- scratch -------------------------------------------------------------------------------- */

static enum err scratch_grow(struct cuda *c, enum cuda_slot slot, size_t bytes,
                             struct err_msg *em) {
    struct cuda_scratch *s = &c->scratch[slot];
    if (s->size >= bytes)
        return ERR_OK;
    cuda_mem_free(&c->base, s->p);
    *s = (struct cuda_scratch){0};
    enum err e = cuda_mem_alloc(&c->base, bytes, &s->p, em);
    if (e == ERR_OK)
        s->size = bytes;
    return e;
}

void *cuda_scratch(struct cuda *c, enum cuda_slot slot, size_t bytes) {
    struct err_msg em = ERR_MSG_INIT;
    if (c->fault.code != ERR_OK ||
        (c->scratch[slot].size < bytes && cuda_not_captured(c, "memory")))
        return NULL;
    enum err e = scratch_grow(c, slot, bytes, &em);
    if (e != ERR_OK)
        cuda_fault_set(c, e, em.text);
    return e == ERR_OK ? c->scratch[slot].p : NULL;
}

/* a · b · size bytes; SIZE_MAX, which no device has, where that overflows. */
static size_t bytes_of(int64_t a, int64_t b, size_t size) {
    size_t n;
    return mem_mul((size_t)a, (size_t)b, &n) && mem_mul(n, size, &n) ? n : SIZE_MAX;
}

static void scratch_needs(const struct cuda *c, const struct op_shapes *most,
                          size_t need[SLOT_COUNT]) {
    size_t size = dtype_size(most->dtype);
    memset(need, 0, SLOT_COUNT * sizeof *need);
    need[SLOT_DROPPED] = bytes_of(most->tokens, most->width, size);
    need[SLOT_SHRUNK] = bytes_of(most->tokens, most->rank, size);
    need[SLOT_LOGITS] =
        bytes_of(cuda_head_chunk(most->targets, most->vocab), most->vocab, sizeof(float));
    need[SLOT_DELTA] = most->backward ? bytes_of(most->tokens, most->heads, sizeof(float)) : 0;
    need[SLOT_NORMS] = most->dora ? cuda_dora_bytes(most->rank, most->dora) : 0;
    need[SLOT_PARTIALS] = cuda_sumsq_bytes();
    need[SLOT_PRODUCT] = PRODUCT_WORKSPACE;
    need[SLOT_FUSED] = cuda_attention_bytes(c, most);
}

enum err cuda_reserve(struct device *dev, const struct op_shapes *most, struct err_msg *em) {
    struct cuda *c = cuda_of(dev);
    size_t need[SLOT_COUNT];
    scratch_needs(c, most, need);
    cuda_attention_reserve(c, most);
    enum err e = cuda_fault_return(c, em);
    for (int slot = 0; slot < SLOT_COUNT && e == ERR_OK; slot++)
        if (need[slot] > 0)
            e = scratch_grow(c, (enum cuda_slot)slot, need[slot], em);
    return e;
}

size_t cuda_scratch_bytes(struct device *dev, const struct op_shapes *most) {
    size_t need[SLOT_COUNT], sum = 0;
    scratch_needs(cuda_of(dev), most, need);
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        if (!mem_add(sum, need[slot], &sum))
            return SIZE_MAX;
    return sum;
}

void cuda_memory_close(struct cuda *c) {
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        cuda_mem_free(&c->base, c->scratch[slot].p);
    cuda_mem_free(&c->base, c->matrices.p);
    for (int i = 0; i < 2; i++) {
        if (c->staging[i].host)
            (void)cudaFreeHost(c->staging[i].host);
        if (c->staging[i].sent)
            (void)cudaEventDestroy(c->staging[i].sent);
    }
    free(c->blocks);
}
