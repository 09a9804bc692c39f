/* cublaslt: matrix products by a plain loop, with sums in f32 as the real library's. Operands are
 * first copied into dense f32, so that every address is touched under the sanitizer. */
#include <cublasLt.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tests/cuda/emulation/emulation.h"

long emulated_proposals;
bool emulated_noise, emulated_rounding;
float emulated_second_ms = 1;
int emulated_hiccups;

struct emulated_lt {
    int unused;
};
struct emulated_product {
    cublasOperation_t op_a, op_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
};
struct emulated_layout {
    cudaDataType_t type;
    int64_t rows, cols, ld;
};
struct emulated_preference {
    size_t workspace;
    uint32_t schemes, align[4];
};

static cublasStatus_t status_of(const char *call) {
    cudaError_t rc = emulated_call(call);
    return rc == cudaSuccess                 ? CUBLAS_STATUS_SUCCESS
           : rc == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED
                                             : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    *out = xcalloc(1, sizeof **out);
    return status_of("cublasLtCreate");
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    emulated_waits("cublasLtDestroy");
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED" : "a status";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    *out = xcalloc(1, sizeof **out);
    (*out)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t desc) {
    free(desc);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t set(void *field, size_t field_size, const void *value, size_t size) {
    if (size != field_size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void *value, size_t size) {
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&desc->op_a, sizeof desc->op_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&desc->op_b, sizeof desc->op_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&desc->epilogue, sizeof desc->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return set(&desc->bias, sizeof desc->bias, value, size);
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType_t type,
                                          uint64_t rows, uint64_t cols, int64_t ld) {
    *out = xcalloc(1, sizeof **out);
    **out = (struct emulated_layout){type, (int64_t)rows, (int64_t)cols, ld};
    return ld >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    free(layout);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    *out = xcalloc(1, sizeof **out);
    **out = (struct emulated_preference){0, 7, {256, 256, 256, 256}}; /* the library's defaults */
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref) {
    free(pref);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void *value, size_t size) {
    if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return set(&pref->workspace, sizeof pref->workspace, value, size);
    if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        return set(&pref->schemes, sizeof pref->schemes, value, size);
    int which = (int)attribute - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    return set(&pref->align[which], sizeof pref->align[which], value, size);
}

/* The algorithm remembers what it was chosen for, so that its use can be checked. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t pref, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results,
                                              int *found) {
    (void)handle, (void)desc;
    *found = 0;
    if (wanted < 1 || a->type != b->type || c->type != d->type ||
        (d->type != a->type && d->type != CUDA_R_32F))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (pref->schemes & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        emulated_stop("an algorithm whose sums have no fixed order was allowed");
    emulated_proposals++;
    *found = wanted < 2 ? wanted : 2;
    memset(results, 0, (size_t)*found * sizeof *results);
    for (int n = 0; n < *found; n++) {
        for (int i = 0; i < 4; i++)
            results[n].algo.data[i] = pref->align[i];
        results[n].algo.data[4] = results[n].workspaceSize = pref->workspace;
        results[n].algo.data[5] = (uint64_t)(2 - n); /* milliseconds, and which it is */
    }
    return status_of("cublasLtMatmulAlgoGetHeuristic");
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result) {
    (void)handle, (void)desc, (void)a, (void)b, (void)c, (void)d;
    memset(result, 0, sizeof *result);
    result->workspaceSize = algo->data[4];
    return algo->data[5] == 1 || algo->data[5] == 2 ? CUBLAS_STATUS_SUCCESS
                                                    : CUBLAS_STATUS_INVALID_VALUE;
}

size_t cublasLtGetVersion(void) {
    return 130000;
}

/* ---- the product ---------------------------------------------------------------------------- */

static float value_at(cudaDataType_t type, const void *p, int64_t i) {
    uint32_t bits;
    float value;
    if (type == CUDA_R_32F) {
        memcpy(&value, (const char *)p + i * 4, sizeof value);
        return value;
    }
    uint16_t half;
    memcpy(&half, (const char *)p + i * 2, sizeof half);
    bits = (uint32_t)half << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void put_at(cudaDataType_t type, void *p, int64_t i, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint16_t half = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
    if (value != value)
        half = 0x7fff;
    if (type == CUDA_R_32F)
        memcpy((char *)p + i * 4, &value, sizeof value);
    else
        memcpy((char *)p + i * 2, &half, sizeof half);
}

static size_t bytes_of(const struct emulated_layout *l) {
    int64_t n = l->cols > 0 ? (l->cols - 1) * l->ld + l->rows : 0;
    return (size_t)n * (l->type == CUDA_R_32F ? 4 : 2);
}

static void check_operand(const void *p, const struct emulated_layout *l, uint64_t align,
                          const char *what) {
    emulated_check_range(p, bytes_of(l), what);
    if ((uintptr_t)p % align != 0)
        emulated_stop("%s: %p is not aligned to the %llu bytes its algorithm was chosen for", what,
                      p, (unsigned long long)align);
}

/* [outer, k] with the k values of each outer index side by side; along: k runs along the columns
 * of the matrix in memory. */
static float *dense(const void *p, const struct emulated_layout *l, bool along, int64_t outer,
                    int64_t k) {
    float *to = xcalloc((size_t)(outer * k) + 1, sizeof *to);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < k; i++)
            to[o * k + i] = value_at(l->type, p, along ? o * l->ld + i : i * l->ld + o);
    return to;
}

__attribute__((no_sanitize("address", "undefined"))) static float
dot(const float *a, const float *b, int64_t n, bool backwards) {
    float lanes[16] = {0}, sum = 0;
    int64_t i = 0;
    for (int64_t j = n; backwards && j > 0; j--)
        sum += a[j - 1] * b[j - 1];
    if (backwards)
        return sum;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            lanes[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sum += a[i] * b[i];
    for (int j = 0; j < 16; j++)
        sum += lanes[j];
    return sum;
}

/* All that a product is made of: what a kernel's arguments are on a device. */
struct product {
    struct emulated_product desc;
    struct emulated_layout a_layout, b_layout, c_layout, d_layout;
    const void *a, *b, *c;
    void *d, *workspace;
    size_t workspace_bytes;
    float alpha, beta;
    cublasLtMatmulAlgo_t algo;
};

static bool along_a(const struct product *p) {
    return p->desc.op_a == CUBLAS_OP_T;
}
static bool along_b(const struct product *p) {
    return p->desc.op_b == CUBLAS_OP_N;
}
static int64_t depth(const struct product *p) {
    return along_a(p) ? p->a_layout.rows : p->a_layout.cols;
}

static bool shapes_fit(const struct product *p) {
    int64_t m = p->d_layout.rows, n = p->d_layout.cols, k = depth(p);
    return (along_a(p) ? p->a_layout.cols : p->a_layout.rows) == m &&
           (along_b(p) ? p->b_layout.cols : p->b_layout.rows) == n &&
           (along_b(p) ? p->b_layout.rows : p->b_layout.cols) == k && p->c_layout.rows == m &&
           p->c_layout.cols == n && p->workspace_bytes >= p->algo.data[4];
}

static void take_time(bool fast) {
    static int products;
    emulated_clock += fast ? emulated_second_ms : 2;
    if (emulated_hiccups > 0 && ++products % emulated_hiccups == 0)
        emulated_clock += 5;
}

static void run_product(void *arg) {
    const struct product *p = arg;
    int64_t m = p->d_layout.rows, n = p->d_layout.cols, k = depth(p);
    check_operand(p->a, &p->a_layout, p->algo.data[0], "cublasLtMatmul, A");
    check_operand(p->b, &p->b_layout, p->algo.data[1], "cublasLtMatmul, B");
    check_operand(p->c, &p->c_layout, p->algo.data[2], "cublasLtMatmul, C");
    check_operand(p->d, &p->d_layout, p->algo.data[3], "cublasLtMatmul, D");
    emulated_check_range(p->workspace, p->workspace_bytes, "cublasLtMatmul, workspace");
    take_time((p->algo.data[5] == 1) != emulated_noise);
    bool backwards = emulated_rounding && p->algo.data[5] == 1;
    float *rows = dense(p->a, &p->a_layout, along_a(p), m, k);
    float *cols = dense(p->b, &p->b_layout, along_b(p), n, k);
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            float sum = p->alpha * dot(rows + i * k, cols + j * k, k, backwards);
            if (p->beta != 0)
                sum += p->beta * value_at(p->c_layout.type, p->c, j * p->c_layout.ld + i);
            if (p->desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
                sum += value_at(p->d_layout.type, p->desc.bias, i);
            put_at(p->d_layout.type, p->d, j * p->d_layout.ld + i, sum);
        }
    free(rows);
    free(cols);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream) {
    const struct product p = {*desc,
                              *a_layout,
                              *b_layout,
                              *c_layout,
                              *d_layout,
                              a,
                              b,
                              c,
                              d,
                              workspace,
                              workspace_bytes,
                              *(const float *)alpha,
                              *(const float *)beta,
                              *algo};
    cublasStatus_t rc = status_of("cublasLtMatmul");
    (void)handle;
    emulated_on(stream);
    if (rc != CUBLAS_STATUS_SUCCESS)
        return rc;
    if (!shapes_fit(&p))
        return CUBLAS_STATUS_INVALID_VALUE;
    emulated_do(run_product, &p, sizeof p);
    return CUBLAS_STATUS_SUCCESS;
}
