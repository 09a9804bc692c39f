/* emulation: CUDA's execution model on the host, for tests.
 *
 * What:    engine/ops/cuda is compiled a second time by the host's compiler against include/, and
 *          linked with fibers.cc (blocks and threads), runtime.c (memory, errors), streams.c,
 *          graphs.c, cublaslt.c (products by a plain loop) and cudnn.c (attention by its
 * definition). Here are the knobs that tests turn. Owns:    device memory is host memory, filled
 * with NaN when it is handed out. Threads: one. Errors:  what a device would leave undefined ends
 * the program with a message: a barrier that not all threads reach, a copy outside an allocation, a
 * product whose operands are aligned worse than its algorithm was chosen for, a call that a capture
 * does not allow.
 *
 * Blocks run one after the other, and so do a block's threads between two barriers: races show only
 * where the result depends on the order, which is why tests run in both orders. Speed, asynchrony,
 * tensor cores, memory models and cuBLASLt's own arithmetic are not shown.
 */
#ifndef FFWD_TESTS_CUDA_EMULATION_H
#define FFWD_TESTS_CUDA_EMULATION_H

#include <stdbool.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks and threads from the last to the first. */
void emulation_reverse(bool on);

/* The call of this name fails with rc after `skip` that do not; NULL: none does. A sticky error
 * makes every call after it fail too. */
void emulation_fail(const char *call, cudaError_t rc, int skip, bool sticky);

/* After so many answers about an event the device gives none: work goes on for ever. Any call that
 * waits inside CUDA then ends the program with a message. -1: it answers always. */
void emulation_hang(long answers);

/* The machine: driver's version (0: none), devices, memory of each. */
struct emulated_machine {
    int driver, devices, major;
    size_t memory;
    const char *name;
};
extern struct emulated_machine emulated_machine;

/* Calls of cudaMalloc so far, and bytes of cudaMallocHost. */
extern long emulated_allocations;
extern size_t emulated_pinned;
/* The most copies to the device that were under way at a time. A copy is late (streams.c): memory
 * that is written before it is done is copied as it has become. */
extern long emulated_copies_most;

/* Milliseconds: only matrix products take time, 2 by the library's first proposal, by the next
 * emulated_second_ms, which is 1; of so many products one takes 5 more, 0: none does. */
extern float emulated_clock, emulated_second_ms;
extern int emulated_hiccups;
/* Noise: the library's first proposal is the faster one. */
extern bool emulated_noise;
/* The two proposals add up in different orders. */
extern bool emulated_rounding;
/* Times that the library was asked for proposals. */
extern long emulated_proposals;

/* cuDNN: its version, 0: there is none; what its plans ask for more of workspace, bytes; and how
 * many plans there are. */
extern int emulated_cudnn;
extern size_t emulated_workspace;
extern long emulated_plans;

/* Graphs that are ready to run, and how often one was run. */
extern long emulated_graphs, emulated_replays;
/* Calls that gave the stream something to do: a kernel, a product, a copy, zeros, a graph. */
extern long emulated_enqueued;

/* What comes on the stream: run(arg) now, or, while it is captured, with a copy of arg's bytes
 * whenever the graph is run. */
void emulated_do(void (*run)(void *arg), const void *arg, size_t bytes);

/* For the other files of the emulation: cudaSuccess, or what the knobs ask for. */
cudaError_t emulated_call(const char *name);
/* Ends the program where a call of this name may not be made now: while a stream is captured. */
void emulated_check_capture(const char *name);
/* Something is enqueued on this stream: after all that came before it there. */
void emulated_on(cudaStream_t stream);
/* The same for a copy of any kind. */
void emulated_copy(cudaStream_t stream, void *dst, const void *src, size_t bytes,
                   enum cudaMemcpyKind kind);
/* All copies are done: said by a call that waits for the device. */
void emulated_finish(void);
/* These bytes are somebody else's from now on. */
void emulated_forget(const void *p, size_t bytes);
/* False: the device gives no answer about an event (emulation_hang). */
bool emulated_answers(void);
/* Said by a call that waits for the device. */
void emulated_waits(const char *call);
/* Ends the program unless [p, p + bytes) lies in one allocation on the device. */
void emulated_check_range(const void *p, size_t bytes, const char *what);
void emulated_stop(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#ifdef __cplusplus
}
#endif

#endif
