/* graph: work that comes again, captured once and launched as a whole.
 *
 * A small model's step is a thousand kernels that each take less time than their launch. The first
 * time a piece of work is seen it is done as it comes, which chooses algorithms and takes scratch
 * memory; the second time it is captured, and from then on one launch does all of it. Of the pieces
 * seen, those that were needed last are kept. FFWD_CUDA_GRAPHS=0 in the environment turns this off.
 *
 * What cannot be captured is done as it comes: graphs are never the reason that a step fails. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/ops/cuda/cuda.h"

#define PIECES 128                 /* that are remembered */
#define MOST_NODES ((size_t)32768) /* of all graphs: each takes some of CUDA's own memory */

struct piece {
    struct work_key key;
    uint64_t used;        /* when it was needed last; 0: no piece */
    cudaGraphExec_t exec; /* NULL: seen once */
    size_t nodes;
};

struct graphs {
    bool off;
    uint64_t now;
    size_t nodes; /* of all pieces */
    struct piece piece[PIECES];
};

void cuda_graphs_open(struct cuda *c) {
    const char *wish = getenv("FFWD_CUDA_GRAPHS");
    c->graphs = xcalloc(1, sizeof *c->graphs);
    c->graphs->off = wish && strcmp(wish, "0") == 0;
}

static void forget(struct graphs *g, struct piece *p) {
    if (p->exec)
        (void)cudaGraphExecDestroy(p->exec);
    g->nodes -= p->nodes;
    memset(p, 0, sizeof *p);
}

void cuda_graphs_clear(struct cuda *c) {
    for (int i = 0; i < PIECES && !c->hung; i++)
        forget(c->graphs, &c->graphs->piece[i]);
}

void cuda_graphs_close(struct cuda *c) {
    cuda_graphs_clear(c);
    free(c->graphs);
}

bool cuda_not_captured(struct cuda *c, const char *what) {
    char text[ERR_TEXT_MAX];
    if (!c->capturing)
        return false;
    (void)snprintf(text, sizeof text, "work that is seen again needs %s", what);
    cuda_fault_set(c, ERR_BUG, text);
    return true;
}

static struct piece *find(struct graphs *g, const struct work_key *key) {
    for (int i = 0; i < PIECES; i++)
        if (g->piece[i].used && memcmp(&g->piece[i].key, key, sizeof *key) == 0)
            return &g->piece[i];
    return NULL;
}

/* The one that was needed the longest time ago; captured: of those with a graph. NULL: none. */
static struct piece *oldest(struct graphs *g, bool captured) {
    struct piece *best = NULL;
    for (int i = 0; i < PIECES; i++)
        if ((g->piece[i].exec || !captured) && (!best || g->piece[i].used < best->used))
            best = &g->piece[i];
    return best;
}

static void remember(struct graphs *g, const struct work_key *key) {
    struct piece *p = oldest(g, false);
    forget(g, p);
    p->key = *key;
    p->used = ++g->now;
}

static bool record(struct cuda *c, void (*work)(void *arg), void *arg, cudaGraph_t *graph) {
    if (!cuda_check(c, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal),
                    "cudaStreamBeginCapture"))
        return false;
    c->capturing = true;
    work(arg);
    c->capturing = false;
    return cuda_check(c, cudaStreamEndCapture(c->stream, graph), "cudaStreamEndCapture") &&
           c->fault.code == ERR_OK;
}

/* Nothing is under way: making a graph ready to run may wait inside CUDA. */
static bool make(struct cuda *c, struct piece *p, cudaGraph_t graph) {
    struct graphs *g = c->graphs;
    size_t nodes = 0;
    if (!cuda_check(c, cudaGraphGetNodes(graph, NULL, &nodes), "cudaGraphGetNodes"))
        return false;
    for (struct piece *old; g->nodes + nodes > MOST_NODES && (old = oldest(g, true)) != NULL;)
        forget(g, old);
    if (!cuda_check(c, cudaGraphInstantiate(&p->exec, graph, 0), "cudaGraphInstantiate"))
        return false;
    p->nodes = nodes;
    g->nodes += nodes;
    return true;
}

/* Nothing of the work has been done, so the fault is none of it: forgotten with all graphs. One
 * that the device has it will report again. */
static void give_up(struct cuda *c) {
    log_warn("cuda.graphs", "off reason=%s", c->fault.text);
    c->fault = (struct cuda_fault){0};
    cuda_graphs_clear(c);
    c->graphs->off = true;
}

static bool capture(struct cuda *c, struct piece *p, void (*work)(void *arg), void *arg) {
    cudaGraph_t graph = NULL;
    bool made = record(c, work, arg, &graph) && make(c, p, graph);
    if (graph)
        (void)cudaGraphDestroy(graph);
    return made;
}

/* False: it did not begin, for a lack of memory that graphs are to blame for. */
static bool launch(struct cuda *c, struct piece *p) {
    p->used = ++c->graphs->now;
    cuda_launched(c, "cudaGraphLaunch");
    return c->fault.code != ERR_OK ||
           cuda_check(c, cudaGraphLaunch(p->exec, c->stream), "cudaGraphLaunch") ||
           c->fault.code != ERR_NO_MEMORY;
}

void cuda_repeat(struct device *dev, const struct work_key *key, void (*work)(void *arg),
                 void *arg) {
    struct cuda *c = cuda_of(dev);
    struct graphs *g = c->graphs;
    struct piece *p = g->off ? NULL : find(g, key);
    if (c->fault.code != ERR_OK || (p && !p->exec && !cuda_finish(c, "capture")))
        return;
    if (p && (p->exec || capture(c, p, work, arg)) && launch(c, p))
        return;
    if (p)
        give_up(c);
    work(arg);
    if (!g->off)
        remember(g, key);
}
