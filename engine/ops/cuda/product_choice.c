/* product_choice: who chooses the algorithm of a shape.
 *
 * Of a job that is resumed the resume point comes first. Then a table that lies beside the program,
 * the same on every machine; then the file that this user's processes share; then timing, whose
 * outcome is written into that file before it is used. So a shape is computed in one way by all
 * that share the file, and by a job from its beginning to its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/ops/cuda/product_plan.h"

#define UNTIMED "first proposals, " /* before the identity, in the text of a job without timing */
#define OFF "off"
#define SHIPPED "ffwd-algorithms" /* folder beside the program */
#define PATH_MOST 4096

/* ---- where choices are kept ----------------------------------------------------------------- */

static char *identify(const struct cuda *c) {
    int driver = 0;
    (void)cudaDriverGetVersion(&driver);
    return xasprintf("device=%s driver=%d cublaslt=%zu", c->name, driver, cublasLtGetVersion());
}

/* folder/NAME, where NAME is the identity without what paths do not like. Frees the folder. */
static char *path_in(char *folder, const char *identity) {
    char *path = xasprintf("%s/%s", folder, identity);
    for (char *at = path + strlen(folder) + 1; *at; at++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.=-", *at))
            *at = '_';
    free(folder);
    return path;
}

/* The user's cache folder as the XDG Base Directory Specification has it; NULL: there is none. */
static char *cache_folder(void) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/')
        return xasprintf("%s/ffwd", xdg);
    return home && *home == '/' ? xasprintf("%s/.cache/ffwd", home) : NULL;
}

/* NULL: choices are kept in memory alone. */
static char *file_path(const struct products *p) {
    const char *given = getenv("FFWD_CUDA_ALGORITHMS");
    struct err_msg em = ERR_MSG_INIT;
    if (given && *given)
        return xstrdup(given);
    char *folder = cache_folder();
    if (folder && file_make_dirs(folder, &em) != ERR_OK) {
        log_warn("cuda.algorithms", "not kept: reason=%s", em.text);
        free(folder);
        folder = NULL;
    }
    return folder ? path_in(folder, p->identity) : NULL;
}

/* A table for this device, driver and library in the program's folder; the caller frees. */
static char *shipped_path(const struct products *p) {
    char program[PATH_MOST];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0)
        return NULL;
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    return path_in(xasprintf("%s/" SHIPPED, program), p->identity);
}

static struct choices_file *open_file(const struct products *p, char *path) {
    struct choices_file *f = path ? choices_file_open(path, p->identity) : NULL;
    free(path);
    return f;
}

enum err product_choices_open(struct cuda *c, struct err_msg *em) {
    struct products *p = c->products;
    const char *given = getenv("FFWD_CUDA_ALGORITHMS");
    p->timing = !given || strcmp(given, OFF) != 0;
    p->identity = identify(c);
    p->job = choices_new(p->identity);
    p->untimed = !p->timing;
    if (!p->timing)
        return ERR_OK;
    if (cuda_check(c, cudaEventCreateWithFlags(&p->start, cudaEventDefault), "cudaEventCreate"))
        cuda_check(c, cudaEventCreateWithFlags(&p->stop, cudaEventDefault), "cudaEventCreate");
    p->file = open_file(p, file_path(p));
    p->shipped = open_file(p, shipped_path(p));
    return cuda_fault_return(c, em);
}

void product_choices_close(struct products *p) {
    choices_file_close(p->file);
    choices_file_close(p->shipped);
    choices_free(p->job);
    free(p->identity);
    if (p->start)
        (void)cudaEventDestroy(p->start);
    if (p->stop)
        (void)cudaEventDestroy(p->stop);
}

/* ---- the choices of a job ------------------------------------------------------------------- */

static char *untimed_text(const struct products *p) {
    return xasprintf(UNTIMED "%s\n", p->identity);
}

char *products_text(const struct cuda *c) {
    const struct products *p = c->products;
    return p->untimed ? untimed_text(p) : choices_text(p->job);
}

/* A job that was not timed stays so. */
static bool resume(struct products *p, const char *text) {
    char *untimed = untimed_text(p);
    bool same = strcmp(text, untimed) == 0;
    free(untimed);
    if (same) {
        p->untimed = true;
        return true;
    }
    struct choices *before = choices_from(text, p->identity);
    if (!before)
        return false;
    choices_free(p->job);
    p->job = before;
    p->untimed = false;
    return true;
}

bool products_use(struct cuda *c, const char *text) {
    struct products *p = c->products;
    product_plans_clear(c); /* they hold what was chosen so far */
    choices_free(p->job);
    p->job = choices_new(p->identity);
    p->untimed = !p->timing;
    return !text || resume(p, text);
}

/* ---- the choice for a shape ----------------------------------------------------------------- */

static void shape_of(const struct key *k, int64_t shape[CHOICE_NUMBERS]) {
    const int64_t all[CHOICE_NUMBERS] = {
        k->m,      k->n,        k->k,         k->lda,          k->ldb,          k->ldc,
        k->ldd,    k->in_dtype, k->out_dtype, k->a_transposed, k->b_transposed, k->accumulate,
        k->biased, k->align_a,  k->align_b,   k->align_c,      k->align_d};
    memcpy(shape, all, sizeof all);
}

/* True: words, which may be NULL, are an algorithm that the library still takes; it is the plan's
 * now. */
static bool take(struct cuda *c, struct plan *plan, const uint64_t *words) {
    cublasLtMatmulHeuristicResult_t result;
    cublasLtMatmulAlgo_t algo;
    if (!words)
        return false;
    memcpy(algo.data, words, sizeof algo.data);
    if (cublasLtMatmulAlgoCheck(c->products->handle, plan->product, plan->a, plan->b, plan->c,
                                plan->d, &algo, &result) != CUBLAS_STATUS_SUCCESS ||
        result.workspaceSize > PRODUCT_WORKSPACE)
        return false;
    plan->algo = algo;
    return true;
}

static bool is_known(struct cuda *c, struct plan *plan, const int64_t shape[CHOICE_NUMBERS]) {
    const struct products *p = c->products;
    return take(c, plan, choices_find(p->job, shape)) ||
           (p->shipped && take(c, plan, choices_file_find(p->shipped, shape))) ||
           (p->file && take(c, plan, choices_file_find(p->file, shape)));
}

/* p as it can be timed: one that adds to what its own result already holds leaves that alone and
 * writes to where logits are made, of which none are under way. False: it does not fit there. */
static bool make_timed(const struct cuda *c, const struct product *p, bool free_d,
                       struct product *out) {
    const struct cuda_scratch *room = &c->scratch[SLOT_LOGITS];
    size_t elements = (size_t)((p->m - 1) * p->d.stride + p->n);
    *out = *p;
    if (free_d || !p->c || p->c->data != p->d.data)
        return true;
    out->d.data = room->p;
    return elements * dtype_size(p->d.dtype) <= room->size;
}

/* Timed where that is possible, else the first proposal. */
static bool choose_anew(struct cuda *c, struct plan *plan, const struct product *p, bool free_d) {
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    struct product timed;
    int n = product_propose(c, plan, found, c->products->untimed ? 1 : CANDIDATES), best = 0;
    if (n > 1 && c->products->timing && make_timed(c, p, free_d, &timed))
        best = product_fastest(c, plan, found, n, &timed);
    if (n > 0)
        plan->algo = found[best].algo;
    return n > 0 && c->fault.code == ERR_OK;
}

bool product_choose(struct cuda *c, struct plan *plan, const struct product *p, bool free_d) {
    struct products *all = c->products;
    int64_t shape[CHOICE_NUMBERS];
    shape_of(&plan->key, shape);
    if (all->untimed)
        return choose_anew(c, plan, p, free_d);
    if (!is_known(c, plan, shape)) {
        if (!choose_anew(c, plan, p, free_d))
            return false;
        if (all->file)
            (void)take(c, plan, choices_file_put(all->file, shape, plan->algo.data));
    }
    choices_add(all->job, shape, plan->algo.data);
    return true;
}
