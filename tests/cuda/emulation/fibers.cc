/* fibers: a grid's blocks one after the other; a block's threads as fibers that change places at
 * barriers only.
 *
 * A warp runs until each of its lanes is done or waits for the block; then the next warp does.
 * Between two barriers a thread runs undisturbed. */
#include <cuda_runtime.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "tests/cuda/emulation/emulation.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

/* Shared memory of a block on sm_90. */
constexpr size_t SHARED_MOST = 227 << 10;
constexpr size_t SHARED_DEFAULT = 48 << 10;
alignas(16) thread_local float shared[SHARED_MOST / sizeof(float)];

constexpr unsigned THREADS_MOST = 1024, LANES = 32;
constexpr size_t STACK = 256 << 10;

enum state { READY, AT_BLOCK, AT_WARP, DONE };

struct fiber {
    void *sp;
    char *stack;
    state at;
    int line;         /* of the barrier it waits at */
    unsigned mask;    /* of the warp barrier */
    unsigned parity;  /* which of the warp's two sets of values it uses next */
    void *fake_stack; /* AddressSanitizer's */
};

static fiber fibers[THREADS_MOST];
alignas(16) static char values[THREADS_MOST / LANES][2][LANES * 32];
static unsigned current;
static void *scheduler_sp, *scheduler_fake;
static const void *scheduler_stack;
static size_t scheduler_size;
static void (*kernel_body)(void *);
static void *kernel_arg;
static bool reversed;

extern "C" void emulation_reverse(bool on) {
    reversed = on;
}

/* ---- changing places ------------------------------------------------------------------------ */

/* Saves what a call must keep and the stack, goes on at the other stack. x86-64, System V. */
extern "C" void emulated_switch(void **save, void *to);
__asm__(".text\n"
        ".globl emulated_switch\n"
        ".type emulated_switch, @function\n"
        "emulated_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size emulated_switch, . - emulated_switch\n"
        ".section .note.GNU-stack,\"\",@progbits\n"
        ".text\n");

#if defined(__SANITIZE_ADDRESS__)
static void leave_stack(void **fake, const void *stack, size_t size) {
    __sanitizer_start_switch_fiber(fake, stack, size);
}
static void enter_stack(void *fake, const void **from, size_t *size) {
    __sanitizer_finish_switch_fiber(fake, from, size);
}
static void bound_shared(size_t bytes) {
    static size_t bound = SIZE_MAX;
    if (bytes == bound)
        return;
    bound = bytes;
    ASAN_UNPOISON_MEMORY_REGION(shared, sizeof shared);
    size_t end = (bytes + 7) / 8 * 8;
    ASAN_POISON_MEMORY_REGION(reinterpret_cast<char *>(shared) + end, sizeof shared - end);
}
#else
static void leave_stack(void **, const void *, size_t) {
}
static void enter_stack(void *, const void **, size_t *) {
}
static void bound_shared(size_t) {
}
#endif

static void to_scheduler(state why) {
    fiber &f = fibers[current];
    f.at = why;
    leave_stack(why == DONE ? nullptr : &f.fake_stack, scheduler_stack, scheduler_size);
    emulated_switch(&f.sp, scheduler_sp);
    enter_stack(f.fake_stack, nullptr, nullptr);
}

/* What a new fiber's stack returns into. */
extern "C" void emulated_entry() {
    enter_stack(nullptr, &scheduler_stack, &scheduler_size);
    kernel_body(kernel_arg);
    to_scheduler(DONE);
    abort();
}

/* Stacks begin at different distances from a page, or all would want the same lines of the cache.
 */
static size_t spread(const fiber &f) {
    return static_cast<size_t>(&f - fibers) % 128 * 448;
}

static void make_fiber(fiber &f) {
    if (!f.stack) {
        void *p = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            emulated_stop("no memory for a thread's stack");
        mprotect(p, 4096, PROT_NONE); /* an overflow stops instead of spoiling another thread */
        f.stack = static_cast<char *>(p);
    }
    /* six registers, the entry, and where it would return to, aligned as after a call */
    void **top = reinterpret_cast<void **>(f.stack + STACK - spread(f)) - 1;
    top[0] = nullptr;
    *--top = reinterpret_cast<void *>(emulated_entry);
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f.sp = top;
    f.at = READY;
    f.parity = 0;
    f.fake_stack = nullptr;
}

static void resume(unsigned i) {
    fiber &f = fibers[i];
    current = i;
    threadIdx = {i, 0, 0};
    leave_stack(&scheduler_fake, f.stack, STACK);
    emulated_switch(&scheduler_sp, f.sp);
    enter_stack(scheduler_fake, nullptr, nullptr);
}

/* ---- barriers ------------------------------------------------------------------------------- */

void emulated_block_barrier(int line) {
    fibers[current].line = line;
    to_scheduler(AT_BLOCK);
}

unsigned emulated_lane() {
    return current % LANES;
}

void emulated_warp_barrier(unsigned mask, int line) {
    fibers[current].line = line;
    fibers[current].mask = mask;
    to_scheduler(AT_WARP);
}

/* Two sets of values in turn: no lane can be more than one exchange ahead of another. */
const void *emulated_exchange(unsigned mask, const void *value, size_t size, int line) {
    unsigned parity = fibers[current].parity ^= 1;
    char *set = values[current / LANES][parity];
    memcpy(set + current % LANES * size, value, size);
    emulated_warp_barrier(mask, line);
    return set;
}

/* Lets the lanes go on that wait for each other; false if none does. */
static bool release_warp(unsigned first) {
    bool any = false;
    for (unsigned lane = 0; lane < LANES; lane++) {
        const fiber &f = fibers[first + lane];
        if (f.at != AT_WARP)
            continue;
        if (!(f.mask >> lane & 1))
            emulated_stop("thread %u: not in the mask %08x it gave", first + lane, f.mask);
        for (unsigned other = 0; other < LANES; other++) {
            const fiber &o = fibers[first + other];
            if ((f.mask >> other & 1) && (o.at != AT_WARP || o.mask != f.mask || o.line != f.line))
                emulated_stop("block %u: thread %u waits within its warp for thread %u, which is "
                              "elsewhere",
                              blockIdx.x, first + lane, first + other);
        }
        any = true;
    }
    for (unsigned lane = 0; lane < LANES; lane++)
        if (fibers[first + lane].at == AT_WARP)
            fibers[first + lane].at = READY;
    return any;
}

static void run_warp(unsigned first) {
    do {
        for (unsigned i = 0; i < LANES; i++) {
            unsigned thread = first + (reversed ? LANES - 1 - i : i);
            if (fibers[thread].at == READY)
                resume(thread);
        }
    } while (release_warp(first));
}

/* True once all threads are done. */
static bool release_block(unsigned threads) {
    unsigned done = 0;
    for (unsigned i = 0; i < threads; i++)
        done += fibers[i].at == DONE;
    if (done == threads)
        return true;
    for (unsigned i = 0; i < threads; i++) {
        if (done > 0 || fibers[i].line != fibers[0].line)
            emulated_stop("block %u: __syncthreads is not reached by all threads (line %d)",
                          blockIdx.x, fibers[i].line);
        fibers[i].at = READY;
    }
    return false;
}

static void run_block(unsigned threads, size_t shared_bytes) {
    bound_shared(shared_bytes);
    memset(shared, 0xff, shared_bytes); /* NaN: what no thread has written */
    for (unsigned i = 0; i < threads; i++)
        make_fiber(fibers[i]);
    do {
        unsigned warps = threads / LANES;
        for (unsigned w = 0; w < warps; w++)
            run_warp((reversed ? warps - 1 - w : w) * LANES);
    } while (!release_block(threads));
}

/* ---- launching ------------------------------------------------------------------------------ */

/* Kernels that asked for more shared memory than is given without asking. */
static struct {
    const void *kernel;
    size_t bytes;
} allowed[256];

extern "C" cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute, int value) {
    if (value < 0 || static_cast<size_t>(value) > SHARED_MOST)
        return cudaErrorInvalidValue;
    for (auto &a : allowed)
        if (!a.kernel || a.kernel == kernel) {
            a.kernel = kernel;
            a.bytes = static_cast<size_t>(value);
            return emulated_call("cudaFuncSetAttribute");
        }
    emulated_stop("more than 256 kernels with large shared memory");
}

static size_t shared_allowed(const void *kernel) {
    for (const auto &a : allowed)
        if (a.kernel == kernel)
            return a.bytes;
    return SHARED_DEFAULT;
}

struct grid {
    dim3 blocks, threads;
    size_t shared_bytes;
    void (*body)(void *);
    alignas(16) char arg[1024]; /* a kernel has up to 4096 bytes; ours have less */
};

static void run_grid(void *recorded) {
    grid &g = *static_cast<grid *>(recorded);
    kernel_body = g.body;
    kernel_arg = g.arg;
    gridDim = g.blocks;
    blockDim = g.threads;
    uint64_t count = static_cast<uint64_t>(gridDim.x) * gridDim.y * gridDim.z;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = reversed ? count - 1 - i : i;
        blockIdx = {static_cast<unsigned>(at % gridDim.x),
                    static_cast<unsigned>(at / gridDim.x % gridDim.y),
                    static_cast<unsigned>(at / gridDim.x / gridDim.y)};
        run_block(blockDim.x, g.shared_bytes);
    }
}

cudaError_t emulated_launch(const cudaLaunchConfig_t *config, const void *kernel,
                            void (*body)(void *), const void *arg, size_t bytes) {
    const dim3 &grid = config->gridDim, &block = config->blockDim;
    cudaError_t rc = emulated_call("cudaLaunchKernelEx");
    emulated_on(config->stream);
    if (rc != cudaSuccess)
        return rc;
    if (grid.x < 1 || grid.x > INT32_MAX || grid.y < 1 || grid.y > 65535 || grid.z < 1 ||
        grid.z > 65535 || block.x < 1 || block.x > THREADS_MOST || block.y != 1 || block.z != 1 ||
        config->dynamicSmemBytes > shared_allowed(kernel))
        return cudaErrorInvalidValue;
    if (block.x % LANES != 0)
        emulated_stop("blocks of %u threads: only whole warps are emulated", block.x);
    struct grid g = {grid, block, config->dynamicSmemBytes, body, {}};
    if (bytes > sizeof g.arg)
        emulated_stop("a kernel with %zu bytes of arguments", bytes);
    memcpy(g.arg, arg, bytes);
    emulated_do(run_grid, &g, sizeof g);
    return cudaSuccess;
}
