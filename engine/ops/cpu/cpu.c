/* cpu: opening, memory and helpers of the CPU's device. */
#include "engine/ops/cpu/cpu.h"

#include <emmintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/ops/cpu/cgroup.h"
#include "engine/ops/cpu/gemm.h"

#define ALIGNMENT 64
#define HUGE_PAGE ((size_t)2 << 20)
#define LARGE_RESULT ((int64_t)1 << 18) /* elements */
#define ROWS_LEAST 16384                /* elements that are worth handing over */
#define ROWS_BLOCKS 4                   /* of a thread: the threads end together */

static size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

/* ---- memory --------------------------------------------------------------------------------- */

size_t cpu_memory_total(void) {
    size_t total = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE);
    size_t limit = cgroup_memory(CGROUP_ROOT);
    return limit < total ? limit : total;
}

/* Blocks of at least `large` bytes ask for huge pages: the products walk whole matrices. What is
 * left at the end lies in small ones, or all of a huge page would be taken for it. */
void *cpu_block_alloc_large(size_t bytes, size_t large) {
    size_t unit = bytes >= large ? HUGE_PAGE : ALIGNMENT;
    void *p = NULL;
    if (bytes > SIZE_MAX - HUGE_PAGE || posix_memalign(&p, unit, round_up(bytes + 1, ALIGNMENT)))
        return NULL;
    if (unit == HUGE_PAGE) /* a wish; without it only speed is lost */
        madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return p;
}

void *cpu_block_alloc(size_t bytes) {
    return cpu_block_alloc_large(bytes, 4 * HUGE_PAGE);
}

enum err cpu_mem_alloc(struct device *dev, size_t bytes, void **out, struct err_msg *em) {
    (void)dev;
    *out = NULL;
    size_t total = cpu_memory_total();
    if (bytes > total)
        return err_set(em, ERR_NO_MEMORY,
                       "%zu bytes of memory are needed at once, this machine has %zu", bytes,
                       total);
    *out = cpu_block_alloc(bytes);
    if (!*out)
        return err_set(em, ERR_NO_MEMORY, "no memory for %zu bytes", bytes);
    return ERR_OK;
}

void cpu_mem_free(struct device *dev, void *p) {
    (void)dev;
    free(p);
}

static const void *cpu_mem_share(struct device *dev, const void *host, size_t bytes) {
    (void)dev;
    (void)bytes;
    return host;
}

static char *cpu_choices_text(struct device *dev) {
    (void)dev;
    return NULL;
}

static bool cpu_choices_use(struct device *dev, const char *text) {
    (void)dev;
    return text == NULL;
}

static void cpu_repeat(struct device *dev, const struct work_key *key, void (*work)(void *arg),
                       void *arg) {
    (void)dev, (void)key;
    work(arg);
}

static void cpu_mem_zero(struct device *dev, void *p, size_t bytes) {
    (void)dev;
    memset(p, 0, bytes);
}

static void cpu_mem_copy(struct device *dev, void *dst, const void *src, size_t bytes) {
    (void)dev;
    memmove(dst, src, bytes);
}

static enum err cpu_download(struct device *dev, void *host, const void *src, size_t bytes,
                             struct err_msg *em) {
    (void)em;
    cpu_mem_copy(dev, host, src, bytes);
    return ERR_OK;
}

static enum err cpu_sync(struct device *dev, struct err_msg *em) {
    (void)dev;
    (void)em;
    return ERR_OK;
}

static size_t cpu_mem_peak(const struct device *dev) {
    (void)dev;
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (size_t)u.ru_maxrss * 1024;
}

/* Scratch memory grows with the first step: the system takes it page by page anyway. */
static enum err cpu_reserve(struct device *dev, const struct op_shapes *most, struct err_msg *em) {
    (void)dev;
    (void)most;
    (void)em;
    return ERR_OK;
}

/* ---- helpers -------------------------------------------------------------------------------- */

const float *cpu_widen(const struct cpu *c, enum dtype dtype, const void *src, int64_t n,
                       float *buf) {
    if (dtype == DTYPE_F32)
        return src;
    if (dtype == DTYPE_BF16)
        c->k->widen_bf16(buf, src, n);
    else
        c->k->widen_f16(buf, src, n);
    return buf;
}

void cpu_narrow(const struct cpu *c, enum dtype dtype, void *dst, const float *src, int64_t n) {
    if (dtype == DTYPE_BF16)
        c->k->narrow_bf16(dst, src, n);
    else if (dtype == DTYPE_F16)
        c->k->narrow_f16(dst, src, n);
    else if (dst != (const void *)src)
        memcpy(dst, src, (size_t)n * sizeof *src);
}

void cpu_write(const struct cpu *c, struct tensor whole, void *dst, const float *src, int64_t n) {
    bool past_cache = c->choice->writes_past_cache && whole.dtype == DTYPE_BF16 &&
                      whole.rows * whole.cols >= LARGE_RESULT;
    if (past_cache && c->k->narrow_bf16_past_cache)
        c->k->narrow_bf16_past_cache(dst, src, n);
    else
        cpu_narrow(c, whole.dtype, dst, src, n);
}

void cpu_fence(const struct cpu *c) {
    if (c->choice->writes_past_cache)
        _mm_sfence();
}

struct tiling tiling_make(int64_t n, int64_t max, int64_t unit) {
    int64_t count = (n + max - 1) / max;
    struct tiling t = {.n = n, .size = max, .count = count};
    if (count > 0) {
        int64_t even = (n + count - 1) / count;
        t.size = (even + unit - 1) / unit * unit;
        t.count = (n + t.size - 1) / t.size;
    }
    return t;
}

struct rows_run {
    const struct cpu *c;
    struct tiling blocks;
    void (*fn)(void *arg, int64_t first, int64_t count, int worker);
    void *arg;
};

static void rows_item(void *arg, int64_t item, int worker) {
    struct rows_run *r = arg;
    r->fn(r->arg, tiling_first(&r->blocks, item), tiling_count(&r->blocks, item), worker);
    cpu_fence(r->c);
}

void cpu_for_rows(struct cpu *c, int64_t rows, int64_t cols,
                  void (*fn)(void *arg, int64_t first, int64_t count, int worker), void *arg) {
    int64_t least = ROWS_LEAST / (cols > 0 ? cols : 1);
    int64_t even = rows / (ROWS_BLOCKS * team_size(c->team));
    int64_t most = least > even ? least : even;
    struct rows_run r = {c, tiling_make(rows, most > 0 ? most : 1, 1), fn, arg};
    team_run(c->team, r.blocks.count, rows_item, &r);
}

/* ---- device --------------------------------------------------------------------------------- */

/* The processor's name, and the instruction set in use. */
static void cpu_name(char *name, size_t size, const char *isa) {
    char line[256];
    snprintf(name, size, "CPU (%s)", isa);
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (value) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(name, size, "%.100s (%s)", value + strspn(value, ": "), isa);
            break;
        }
    }
    if (f)
        fclose(f);
}

static void cpu_info(const struct device *dev, struct device_info *out) {
    const struct cpu *c = (const struct cpu *)(const void *)dev;
    memset(out, 0, sizeof *out);
    cpu_name(out->name, sizeof out->name, c->k->name);
    snprintf(out->kind, sizeof out->kind, "cpu");
    out->native_bf16 = c->choice->native_bf16;
    out->threads = team_size(c->team);
    out->memory_usable = out->memory_total = cpu_memory_total();
}

static void cpu_close(struct device *dev) {
    struct cpu *c = cpu_of(dev);
    int n = team_size(c->team);
    for (int i = 0; i <= n; i++)
        for (int slot = 0; slot < SLOT_COUNT; slot++)
            free(c->scratch[i].p[slot]);
    free(c->scratch);
    team_free(c->team);
    free(c);
}

static const struct ops cpu_ops = {
    .close = cpu_close,
    .info = cpu_info,
    .mem_alloc = cpu_mem_alloc,
    .mem_free = cpu_mem_free,
    .mem_share = cpu_mem_share,
    .choices_text = cpu_choices_text,
    .choices_use = cpu_choices_use,
    .repeat = cpu_repeat,
    .mem_zero = cpu_mem_zero,
    .mem_copy = cpu_mem_copy,
    .upload = cpu_mem_copy,
    .download = cpu_download,
    .fetch_new = cpu_fetch_new,
    .fetch_free = cpu_fetch_free,
    .fetch_begin = cpu_fetch_begin,
    .fetch_end = cpu_fetch_end,
    .send_new = cpu_send_new,
    .send_free = cpu_send_free,
    .send_open = cpu_send_open,
    .send_begin = cpu_send_begin,
    .send_end = cpu_send_end,
    .send_bytes = cpu_send_bytes,
    .sync = cpu_sync,
    .mem_peak = cpu_mem_peak,
    .reserve = cpu_reserve,
    .scratch_bytes = cpu_scratch_bytes,
    .linear_new = cpu_linear_new,
    .linear_free = cpu_linear_free,
    .linear_room = cpu_linear_room,
    .linear_bytes = cpu_linear_bytes,
    .linear_forward = cpu_linear_forward,
    .linear_backward = cpu_linear_backward,
    .dora_norms = cpu_dora_norms,
    .dora_forward = cpu_dora_forward,
    .dora_backward = cpu_dora_backward,
    .embed = cpu_embed,
    .norm_forward = cpu_norm_forward,
    .norm_apply = cpu_norm_apply,
    .norm_backward = cpu_norm_backward,
    .rope = cpu_rope,
    .attention_forward = cpu_attention_forward,
    .attention_backward = cpu_attention_backward,
    .act_forward = cpu_act_forward,
    .act_backward = cpu_act_backward,
    .rows_gather = cpu_rows_gather,
    .rows_scatter = cpu_rows_scatter,
    .head_loss = cpu_head_loss,
    .adapter_alloc = cpu_adapter_alloc,
    .adapter_free = cpu_adapter_free,
    .adapter_refresh = cpu_adapter_refresh,
    .vec_sumsq = cpu_vec_sumsq,
    .vec_axpy = cpu_vec_axpy,
    .adamw = cpu_adamw,
    .adapter_move = cpu_adapter_move,
};

enum err cpu_open(int threads, enum cpu_product product, struct device **out, struct err_msg *em) {
    *out = NULL;
    if (threads > TEAM_MAX_THREADS)
        return err_set(em, ERR_USAGE, "at most %d threads can be used, not %d", TEAM_MAX_THREADS,
                       threads);
    struct cpu *c = xcalloc(1, sizeof *c);
    c->base.ops = &cpu_ops;
    enum isa isa = product == CPU_PRODUCT_PLAIN ? ISA_BASE : isa_best();
    if (product != CPU_PRODUCT_PLAIN)
        gemm_limit(isa);
    c->k = kernels_of(isa);
    c->choice = product_choice(product, isa);
    c->team = team_new(threads);
    c->scratch = xcalloc((size_t)team_size(c->team) + 1, sizeof *c->scratch);
    *out = &c->base;
    return ERR_OK;
}
