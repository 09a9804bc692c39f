/* product: see product.h.
 *
 * cuBLASLt thinks in columns: a row-major matrix is its transpose, and D = op(A) op(B) becomes
 * Dᵀ = op(B)ᵀ op(A)ᵀ, so our B is its A. A bias along our columns is then one along its rows,
 * which its epilogue adds for nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cuda/product_plan.h"

#define MOST_PLANS 8192 /* then all are made anew: packed batches come in many lengths */

bool product_check(struct cuda *c, cublasStatus_t rc, const char *call) {
    char text[ERR_TEXT_MAX];
    if (rc == CUBLAS_STATUS_SUCCESS)
        return true;
    snprintf(text, sizeof text, "CUDA device %d (%s): %s failed: %s", c->index, c->name, call,
             cublasLtGetStatusString(rc));
    cuda_fault_set(c, rc == CUBLAS_STATUS_ALLOC_FAILED ? ERR_NO_MEMORY : ERR_DEVICE, text);
    return false;
}

enum err products_new(struct cuda *c, struct products **out, struct err_msg *em) {
    struct products *p = xcalloc(1, sizeof *p);
    *out = p;
    if (!product_check(c, cublasLtCreate(&p->handle), "cublasLtCreate"))
        return cuda_fault_return(c, em);
    return product_choices_open(c, em);
}

/* ---- plans ---------------------------------------------------------------------------------- */

static void plan_free(struct plan *plan) {
    if (plan->product)
        (void)cublasLtMatmulDescDestroy(plan->product);
    cublasLtMatrixLayout_t layouts[] = {plan->a, plan->b, plan->c, plan->d};
    for (int i = 0; i < 4; i++)
        if (layouts[i])
            (void)cublasLtMatrixLayoutDestroy(layouts[i]);
    free(plan);
}

void product_plans_clear(struct cuda *c) {
    struct products *p = c->products;
    cuda_graphs_clear(c); /* their products have these algorithms, and all their shapes a plan */
    for (int i = 0; i < BUCKETS; i++) {
        for (struct plan *plan = p->bucket[i], *next; plan; plan = next) {
            next = plan->next;
            plan_free(plan);
        }
        p->bucket[i] = NULL;
    }
    p->count = 0;
}

void products_free(struct cuda *c) {
    struct products *p = c->products;
    if (!p)
        return;
    product_plans_clear(c);
    product_choices_close(p);
    if (p->handle)
        (void)cublasLtDestroy(p->handle);
    free(p);
}

/* How p is aligned, up to the 16 bytes that matter to the library's kernels. */
static int32_t alignment(const void *p) {
    uintptr_t bits = (uintptr_t)p | 16;
    return (int32_t)(bits & -bits);
}

static struct key key_of(const struct product *p) {
    struct key key;
    memset(&key, 0, sizeof key); /* padding too */
    key.m = p->m, key.n = p->n, key.k = p->k;
    key.lda = p->a.stride, key.ldb = p->b.stride, key.ldd = p->d.stride;
    key.ldc = p->c ? p->c->stride : p->d.stride;
    key.in_dtype = (int32_t)p->a.dtype, key.out_dtype = (int32_t)p->d.dtype;
    key.a_transposed = p->a.transposed, key.b_transposed = p->b.transposed;
    key.accumulate = p->c != NULL, key.biased = p->bias != NULL;
    key.align_a = alignment(p->a.data), key.align_b = alignment(p->b.data);
    key.align_c = alignment(p->c ? p->c->data : p->d.data), key.align_d = alignment(p->d.data);
    return key;
}

static cudaDataType_t type_of(int32_t dtype) {
    return dtype == DTYPE_F32 ? CUDA_R_32F : dtype == DTYPE_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/* A row-major [rows, cols] matrix. */
static bool make_layout(struct cuda *c, cublasLtMatrixLayout_t *out, int32_t dtype, int64_t rows,
                        int64_t cols, int64_t stride) {
    return product_check(
        c, cublasLtMatrixLayoutCreate(out, type_of(dtype), (uint64_t)cols, (uint64_t)rows, stride),
        "cublasLtMatrixLayoutCreate");
}

static bool describe(struct cuda *c, struct plan *plan) {
    const struct key *key = &plan->key;
    cublasOperation_t first = key->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t second = key->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    int64_t m = key->m, n = key->n, k = key->k;
    const char *call = "cublasLtMatmulDescSetAttribute";
    /* f32 means f32: no product may be rounded to a shorter type on the way */
    bool ok =
        product_check(c, cublasLtMatmulDescCreate(&plan->product, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                      "cublasLtMatmulDescCreate");
    ok = ok &&
         product_check(c,
                       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSA,
                                                      &first, sizeof first),
                       call) &&
         product_check(c,
                       cublasLtMatmulDescSetAttribute(plan->product, CUBLASLT_MATMUL_DESC_TRANSB,
                                                      &second, sizeof second),
                       call);
    if (ok && key->biased)
        ok = product_check(c,
                           cublasLtMatmulDescSetAttribute(plan->product,
                                                          CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                                          sizeof epilogue),
                           call);
    return ok &&
           make_layout(c, &plan->a, key->in_dtype, key->b_transposed ? n : k,
                       key->b_transposed ? k : n, key->ldb) &&
           make_layout(c, &plan->b, key->in_dtype, key->a_transposed ? k : m,
                       key->a_transposed ? m : k, key->lda) &&
           make_layout(c, &plan->c, key->out_dtype, m, n, key->ldc) &&
           make_layout(c, &plan->d, key->out_dtype, m, n, key->ldd);
}

static bool prefer(struct cuda *c, cublasLtMatmulPreference_t pref,
                   cublasLtMatmulPreferenceAttributes_t attribute, const void *value, size_t size) {
    return product_check(c, cublasLtMatmulPreferenceSetAttribute(pref, attribute, value, size),
                         "cublasLtMatmulPreferenceSetAttribute");
}

/* What an algorithm must do with: the workspace, sums in a fixed order, addresses as they are. Sums
 * that are not split are no scheme, and always allowed. */
static bool set_preference(struct cuda *c, cublasLtMatmulPreference_t pref, const struct key *key) {
    const size_t workspace = PRODUCT_WORKSPACE;
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint32_t align[4] = {(uint32_t)key->align_b, (uint32_t)key->align_a,
                               (uint32_t)key->align_c, (uint32_t)key->align_d};
    return prefer(c, pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                  sizeof workspace) &&
           prefer(c, pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes) &&
           prefer(c, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align[0], 4) &&
           prefer(c, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align[1], 4) &&
           prefer(c, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align[2], 4) &&
           prefer(c, pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align[3], 4);
}

/* ---- algorithms ----------------------------------------------------------------------------- */

cublasStatus_t product_enqueue(struct cuda *c, const struct plan *plan,
                               const cublasLtMatmulAlgo_t *algo, const struct product *p) {
    const float one = 1.0f, zero = 0.0f;
    void *workspace = cuda_scratch(c, SLOT_PRODUCT, PRODUCT_WORKSPACE);
    if (!workspace)
        return CUBLAS_STATUS_ALLOC_FAILED;
    return cublasLtMatmul(c->products->handle, plan->product, &p->alpha, p->b.data, plan->a,
                          p->a.data, plan->b, p->c ? &one : &zero, p->c ? p->c->data : p->d.data,
                          plan->c, p->d.data, plan->d, algo, workspace, PRODUCT_WORKSPACE,
                          c->stream);
}

int product_propose(struct cuda *c, const struct plan *plan, cublasLtMatmulHeuristicResult_t *found,
                    int wanted) {
    cublasLtMatmulPreference_t pref = NULL;
    const char *call = "cublasLtMatmulAlgoGetHeuristic";
    int n = 0;
    bool ok =
        product_check(c, cublasLtMatmulPreferenceCreate(&pref), "cublasLtMatmulPreferenceCreate") &&
        set_preference(c, pref, &plan->key) &&
        product_check(c,
                      cublasLtMatmulAlgoGetHeuristic(c->products->handle, plan->product, plan->a,
                                                     plan->b, plan->c, plan->d, pref, wanted, found,
                                                     &n),
                      call);
    if (pref)
        (void)cublasLtMatmulPreferenceDestroy(pref);
    if (ok && n == 0)
        product_check(c, CUBLAS_STATUS_NOT_SUPPORTED, call);
    return ok ? n : 0;
}

/* The bias is no part of a plan: each call has its own. */
static bool set_bias(struct cuda *c, const struct plan *plan, const struct product *p) {
    return !p->bias || product_check(c,
                                     cublasLtMatmulDescSetAttribute(
                                         plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p->bias,
                                         sizeof p->bias),
                                     "cublasLtMatmulDescSetAttribute");
}

static uint64_t hash(const struct key *key) {
    const unsigned char *bytes = (const unsigned char *)key;
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        h = (h ^ bytes[i]) * 0x100000001b3ull;
    return h ^ h >> 32;
}

static bool is_empty(const struct product *p) {
    return p->m == 0 || p->n == 0 || p->k == 0;
}

/* free_d: d may be overwritten. NULL after a fault. */
static struct plan *plan_for(struct cuda *c, const struct product *product, bool free_d) {
    struct products *p = c->products;
    const struct key key = key_of(product);
    size_t bucket = hash(&key) % BUCKETS;
    for (struct plan *plan = p->bucket[bucket]; plan; plan = plan->next)
        if (memcmp(&plan->key, &key, sizeof key) == 0)
            return plan;
    if (cuda_not_captured(c, "an algorithm"))
        return NULL;
    if (p->count == MOST_PLANS)
        product_plans_clear(c);
    struct plan *plan = xcalloc(1, sizeof *plan);
    plan->key = key;
    if (!describe(c, plan) || !set_bias(c, plan, product) ||
        !product_choose(c, plan, product, free_d)) {
        plan_free(plan);
        return NULL;
    }
    plan->next = p->bucket[bucket];
    p->bucket[bucket] = plan;
    p->count++;
    return plan;
}

void product_plan(struct cuda *c, const struct product *p) {
    if (c->fault.code == ERR_OK && !is_empty(p))
        (void)plan_for(c, p, true);
}

void product_run(struct cuda *c, const struct product *p) {
    if (c->fault.code != ERR_OK || is_empty(p))
        return;
    const struct plan *plan = plan_for(c, p, false);
    if (!plan || !set_bias(c, plan, p))
        return;
    cuda_launched(c, "cublasLtMatmul");
    product_check(c, product_enqueue(c, plan, &plan->algo, p), "cublasLtMatmul");
}
