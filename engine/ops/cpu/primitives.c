/* primitives: see primitives.h. */
#include "engine/ops/cpu/primitives.h"

#include <dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define BUCKETS 256

enum layout { LAYOUT_PLAIN, LAYOUT_PACKED, LAYOUT_OPEN };

/* All that a primitive depends on; compared as bytes. b_packed: enum layout. */
struct key {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t dtype, a_transposed, b_transposed, b_packed, accumulate, unused;
};

struct entry {
    struct key key;
    struct entry *next;
    dnnl_primitive_t primitive; /* NULL: the library has no fast one */
    dnnl_memory_desc_t src, weights, dst, scratchpad;
};

struct primitives {
    dnnl_engine_t engine;
    int workers;
    dnnl_stream_t *streams; /* [workers] */
    pthread_rwlock_t lock;  /* of the table */
    struct entry *bucket[BUCKETS];
};

struct packed {
    dnnl_memory_desc_t layout;
    void *data;
};

struct primitives *primitives_new(int workers) {
    struct primitives *p = xcalloc(1, sizeof *p);
    pthread_rwlock_init(&p->lock, NULL);
    p->streams = xcalloc((size_t)workers, sizeof(dnnl_stream_t));
    bool ok = dnnl_engine_create(&p->engine, dnnl_cpu, 0) == dnnl_success;
    for (; ok && p->workers < workers; p->workers++)
        ok = dnnl_stream_create(&p->streams[p->workers], p->engine, dnnl_stream_default_flags) ==
             dnnl_success;
    if (ok)
        return p;
    primitives_free(p);
    return NULL;
}

void primitives_free(struct primitives *p) {
    if (!p)
        return;
    for (int i = 0; i < BUCKETS; i++)
        for (struct entry *e = p->bucket[i], *next; e; e = next) {
            next = e->next;
            if (e->primitive)
                dnnl_primitive_destroy(e->primitive);
            free(e);
        }
    for (int i = 0; i < p->workers; i++)
        dnnl_stream_destroy(p->streams[i]);
    if (p->engine)
        dnnl_engine_destroy(p->engine);
    pthread_rwlock_destroy(&p->lock);
    free(p->streams);
    free(p);
}

static bool processor_has(dnnl_cpu_isa_t isa) {
    return (dnnl_get_effective_cpu_isa() & isa) == isa;
}

void primitives_limit(enum isa isa) {
    static const dnnl_cpu_isa_t most[ISA_COUNT] = {
        [ISA_BASE] = dnnl_cpu_isa_sse41,
        [ISA_AVX2] = dnnl_cpu_isa_avx2,
        [ISA_AVX512] = dnnl_cpu_isa_avx512_core_vnni,
        [ISA_AVX512_BF16] = dnnl_cpu_isa_avx512_core_bf16,
        [ISA_AVX512_FP16] = dnnl_cpu_isa_avx512_core_bf16,
        [ISA_AMX] = dnnl_cpu_isa_all};
    (void)dnnl_set_max_cpu_isa(most[isa]); /* refused after the first product */
}

bool primitives_pack_f32(void) {
    return processor_has(dnnl_cpu_isa_avx512_core);
}

bool primitives_claim_bf16(void) {
    return processor_has(dnnl_cpu_isa_avx512_core_bf16);
}

/* ---- primitives ----------------------------------------------------------------------------- */

static bool describe(dnnl_memory_desc_t *md, enum dtype dtype, int64_t rows, int64_t cols,
                     int64_t stride, bool is_transposed) {
    dnnl_dims_t dims = {rows, cols}, strides = {stride, 1};
    if (is_transposed)
        strides[0] = 1, strides[1] = stride;
    dnnl_data_type_t type = dtype == DTYPE_F32 ? dnnl_f32 : dnnl_bf16;
    return dnnl_memory_desc_init_by_strides(md, 2, dims, type, strides) == dnnl_success;
}

/* Scratch memory is given by the caller of each product, so that threads do not share it. */
static dnnl_primitive_attr_t make_attributes(bool accumulate) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    if (dnnl_primitive_attr_create(&attr) != dnnl_success)
        return NULL;
    bool ok =
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success;
    if (ok && accumulate)
        ok = dnnl_post_ops_create(&ops) == dnnl_success &&
             dnnl_post_ops_append_sum(ops, 1.0f) == dnnl_success &&
             dnnl_primitive_attr_set_post_ops(attr, ops) == dnnl_success;
    if (ops)
        dnnl_post_ops_destroy(ops);
    if (ok)
        return attr;
    dnnl_primitive_attr_destroy(attr);
    return NULL;
}

/* Makes e's primitive from its descriptors; weights may leave the layout open. */
static void make_primitive(struct primitives *p, struct entry *e) {
    dnnl_matmul_desc_t product;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_attr_t attr = make_attributes(e->key.accumulate);
    if (!attr)
        return;
    if (dnnl_matmul_desc_init(&product, &e->src, &e->weights, NULL, &e->dst) == dnnl_success &&
        dnnl_primitive_desc_create(&desc, &product, attr, p->engine, NULL) == dnnl_success) {
        const char *name = "";
        dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &name);
        /* the library's fallback for what it does not know is far slower than widening */
        if (!strstr(name, "ref")) {
            e->weights = *dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
            e->scratchpad = *dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0);
            if (dnnl_primitive_create(&e->primitive, desc) != dnnl_success)
                e->primitive = NULL;
        }
        dnnl_primitive_desc_destroy(desc);
    }
    dnnl_primitive_attr_destroy(attr);
}

static struct entry *make_entry(struct primitives *p, const struct key *key,
                                const dnnl_memory_desc_t *layout) {
    struct entry *e = xcalloc(1, sizeof *e);
    enum dtype dtype = (enum dtype)key->dtype;
    e->key = *key;
    if (layout)
        e->weights = *layout;
    if (describe(&e->src, dtype, key->m, key->k, key->lda, key->a_transposed) &&
        (layout || describe(&e->weights, dtype, key->k, key->n, key->ldb, key->b_transposed)) &&
        describe(&e->dst, DTYPE_F32, key->m, key->n, key->ldc, false))
        make_primitive(p, e);
    return e;
}

static uint64_t hash(const struct key *key) {
    const unsigned char *bytes = (const unsigned char *)key;
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        h = (h ^ bytes[i]) * 0x100000001b3ull;
    return h ^ h >> 32;
}

static struct entry *find(struct primitives *p, size_t bucket, const struct key *key) {
    struct entry *e = p->bucket[bucket];
    while (e && memcmp(&e->key, key, sizeof *key) != 0)
        e = e->next;
    return e;
}

static struct entry *entry_for(struct primitives *p, const struct key *key,
                               const dnnl_memory_desc_t *layout) {
    size_t bucket = hash(key) % BUCKETS;
    pthread_rwlock_rdlock(&p->lock);
    struct entry *e = find(p, bucket, key);
    pthread_rwlock_unlock(&p->lock);
    if (e)
        return e;
    pthread_rwlock_wrlock(&p->lock);
    e = find(p, bucket, key);
    if (!e) {
        e = make_entry(p, key, layout);
        e->next = p->bucket[bucket];
        p->bucket[bucket] = e;
    }
    pthread_rwlock_unlock(&p->lock);
    return e;
}

/* ---- products ------------------------------------------------------------------------------- */

#define N_ARGS 4

static bool execute(struct cpu *c, int worker, const struct entry *e, const void *a, const void *b,
                    float *out) {
    struct primitives *p = c->primitives;
    static const int names[N_ARGS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                      DNNL_ARG_SCRATCHPAD};
    const dnnl_memory_desc_t *mds[N_ARGS] = {&e->src, &e->weights, &e->dst, &e->scratchpad};
    size_t bytes = dnnl_memory_desc_get_size(&e->scratchpad);
    void *data[N_ARGS] = {(void *)(uintptr_t)a, (void *)(uintptr_t)b, out,
                          cpu_scratch(c, worker, SLOT_GEMM_WORK, bytes + 1)};
    dnnl_exec_arg_t args[N_ARGS];
    int n = 0;
    bool ok = true;
    for (; ok && n < N_ARGS; n++) {
        args[n].arg = names[n];
        ok = dnnl_memory_create(&args[n].memory, mds[n], p->engine, data[n]) == dnnl_success;
    }
    n -= !ok;
    if (ok)
        ok = dnnl_primitive_execute(e->primitive, p->streams[worker], n, args) == dnnl_success &&
             dnnl_stream_wait(p->streams[worker]) == dnnl_success;
    for (int i = 0; i < n; i++)
        dnnl_memory_destroy(args[i].memory);
    return ok;
}

bool primitives_run(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
                    struct operand b, float *out, int64_t ldc, bool accumulate) {
    struct key key = {.m = m,
                      .n = n,
                      .k = k,
                      .lda = a.stride,
                      .ldb = b.packed ? 0 : b.stride,
                      .ldc = ldc,
                      .dtype = (int32_t)a.dtype,
                      .a_transposed = a.transposed,
                      .b_transposed = b.packed ? 0 : b.transposed,
                      .b_packed = b.packed ? LAYOUT_PACKED : LAYOUT_PLAIN,
                      .accumulate = accumulate};
    struct entry *e = entry_for(c->primitives, &key, b.packed ? &b.packed->layout : NULL);
    return e->primitive && execute(c, worker, e, a.data, b.packed ? b.packed->data : b.data, out);
}

/* ---- packed matrices ------------------------------------------------------------------------ */

/* The layout that products of m_max rows prefer; NULL if there is no such product. */
static const dnnl_memory_desc_t *preferred_layout(struct primitives *p, int64_t m_max, int64_t n,
                                                  int64_t k, enum dtype dtype) {
    struct key key = {.m = m_max,
                      .n = n,
                      .k = k,
                      .lda = k,
                      .ldc = n,
                      .dtype = (int32_t)dtype,
                      .b_packed = LAYOUT_OPEN};
    dnnl_dims_t dims = {k, n};
    dnnl_memory_desc_t any;
    if (dnnl_memory_desc_init_by_tag(&any, 2, dims, dtype == DTYPE_F32 ? dnnl_f32 : dnnl_bf16,
                                     dnnl_format_tag_any) != dnnl_success)
        return NULL;
    struct entry *e = entry_for(p, &key, &any);
    return e->primitive ? &e->weights : NULL;
}

size_t primitives_packed_bytes(struct cpu *c, int64_t m_max, int64_t n, int64_t k,
                               enum dtype dtype) {
    if (n % PRIMITIVE_UNIT || k % PRIMITIVE_UNIT)
        return 0;
    const dnnl_memory_desc_t *layout = preferred_layout(c->primitives, m_max, n, k, dtype);
    return layout ? dnnl_memory_desc_get_size(layout) : 0;
}

static bool reorder(struct primitives *p, int worker, const dnnl_memory_desc_t *from,
                    const void *src, const dnnl_memory_desc_t *to, void *dst) {
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t in = NULL, out = NULL;
    bool ok = dnnl_reorder_primitive_desc_create(&desc, from, p->engine, to, p->engine, NULL) ==
                  dnnl_success &&
              dnnl_primitive_create(&primitive, desc) == dnnl_success &&
              dnnl_memory_create(&in, from, p->engine, (void *)(uintptr_t)src) == dnnl_success &&
              dnnl_memory_create(&out, to, p->engine, dst) == dnnl_success;
    if (ok) {
        dnnl_exec_arg_t args[2] = {{DNNL_ARG_FROM, in}, {DNNL_ARG_TO, out}};
        ok = dnnl_primitive_execute(primitive, p->streams[worker], 2, args) == dnnl_success &&
             dnnl_stream_wait(p->streams[worker]) == dnnl_success;
    }
    if (in)
        dnnl_memory_destroy(in);
    if (out)
        dnnl_memory_destroy(out);
    if (primitive)
        dnnl_primitive_destroy(primitive);
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    return ok;
}

struct packed *primitives_pack(struct cpu *c, int worker, int64_t m_max, int64_t n, int64_t k,
                               struct operand b) {
    dnnl_memory_desc_t from;
    if (n % PRIMITIVE_UNIT || k % PRIMITIVE_UNIT ||
        !describe(&from, b.dtype, k, n, b.stride, b.transposed))
        return NULL;
    const dnnl_memory_desc_t *layout = preferred_layout(c->primitives, m_max, n, k, b.dtype);
    if (!layout)
        return NULL;
    struct packed *w = xcalloc(1, sizeof *w);
    w->layout = *layout;
    w->data = cpu_block_alloc(dnnl_memory_desc_get_size(layout));
    if (w->data && reorder(c->primitives, worker, &from, b.data, layout, w->data))
        return w;
    packed_free(w);
    return NULL;
}

bool primitives_unpack(struct cpu *c, int worker, const struct packed *w, int64_t n, int64_t k,
                       enum dtype dtype, void *to) {
    dnnl_memory_desc_t dense;
    return describe(&dense, dtype, k, n, n, false) &&
           reorder(c->primitives, worker, &w->layout, w->data, &dense, to);
}

void packed_free(struct packed *w) {
    if (!w)
        return;
    free(w->data);
    free(w);
}
