/* graphs: what is enqueued while the stream is captured is kept with copies of its arguments, as a
 * device keeps them, and done when the graph is run. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/cuda/emulation/emulation.h"

struct emulated_node {
    void (*run)(void *arg);
    void *arg;
    struct emulated_node *next;
};
struct emulated_graph {
    struct emulated_node *first, **end;
    size_t nodes;
};
struct emulated_exec {
    struct emulated_graph graph;
};

long emulated_graphs, emulated_replays, emulated_enqueued;
static struct emulated_graph *captured; /* NULL: nothing is */

static void append(struct emulated_graph *g, void (*run)(void *arg), const void *arg,
                   size_t bytes) {
    struct emulated_node *n = xcalloc(1, sizeof *n);
    n->run = run;
    n->arg = memcpy(xmalloc(bytes), arg, bytes);
    n->next = NULL;
    *g->end = n;
    g->end = &n->next;
    g->nodes++;
}

static void clear(struct emulated_graph *g) {
    for (struct emulated_node *n = g->first, *next; n; n = next) {
        next = n->next;
        free(n->arg);
        free(n);
    }
}

void emulated_do(void (*run)(void *arg), const void *arg, size_t bytes) {
    struct emulated_graph once = {.end = &once.first};
    append(captured ? captured : &once, run, arg, bytes);
    if (captured)
        return;
    once.first->run(once.first->arg);
    clear(&once);
}

static bool is_one_of(const char *name, const char *const *names) {
    while (*names && strcmp(name, *names) != 0)
        names++;
    return *names != NULL;
}

void emulated_check_capture(const char *name) {
    static const char *const enqueues[] = {"cudaLaunchKernelEx",
                                           "cudaMemcpyAsync",
                                           "cudaMemsetAsync",
                                           "cudaMemset2DAsync",
                                           "cublasLtMatmul",
                                           "cudnnBackendExecute",
                                           NULL};
    static const char *const allowed[] = {"cudaFuncSetAttribute", "cudaStreamEndCapture", NULL};
    bool work = is_one_of(name, enqueues);
    if (captured && !work && !is_one_of(name, allowed))
        emulated_stop("%s while a stream is captured", name);
    if (!captured && (work || strcmp(name, "cudaGraphLaunch") == 0))
        emulated_enqueued++;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    cudaError_t rc = emulated_call("cudaStreamBeginCapture");
    (void)stream, (void)mode;
    if (rc != cudaSuccess)
        return rc;
    captured = xcalloc(1, sizeof *captured);
    captured->end = &captured->first;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    cudaError_t rc = emulated_call("cudaStreamEndCapture");
    struct emulated_graph *g = captured;
    (void)stream;
    captured = NULL;
    *out = rc == cudaSuccess ? g : NULL;
    if (rc != cudaSuccess)
        (void)cudaGraphDestroy(g);
    return rc;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count) {
    (void)nodes;
    *count = graph->nodes;
    return emulated_call("cudaGraphGetNodes");
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    clear(graph);
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags) {
    cudaError_t rc = emulated_call("cudaGraphInstantiate");
    (void)flags;
    emulated_waits("cudaGraphInstantiate");
    *out = NULL;
    if (rc != cudaSuccess)
        return rc;
    struct emulated_exec *e = xcalloc(1, sizeof *e);
    e->graph = *graph; /* the graph's nodes are its own now */
    graph->first = NULL;
    emulated_graphs++;
    *out = e;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    cudaError_t rc = emulated_call("cudaGraphLaunch");
    emulated_on(stream);
    for (struct emulated_node *n = exec->graph.first; rc == cudaSuccess && n; n = n->next)
        n->run(n->arg);
    emulated_replays += rc == cudaSuccess;
    return rc;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    clear(&exec->graph);
    free(exec);
    emulated_graphs--;
    return cudaSuccess;
}
