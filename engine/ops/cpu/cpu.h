/* cpu: the CPU's device and what its operations share.
 *
 * What:    struct cpu, scratch memory, row loops, and the operations of the table in ops.h.
 * Owns:    the device owns its threads and scratch memory, which grows to what the largest shape
 *          needs and then stays.
 * Threads: as ops.h. Inside an operation, worker numbers keep scratch memory apart.
 * Errors:  as ops.h.
 */
#ifndef FFWD_ENGINE_OPS_CPU_CPU_H
#define FFWD_ENGINE_OPS_CPU_CPU_H

#include <stddef.h>
#include <stdint.h>

#include "engine/ops/cpu/kernels.h"
#include "engine/ops/cpu/product_choice.h"
#include "engine/ops/cpu/team.h"
#include "engine/ops/cpu/tiles.h"
#include "engine/ops/ops.h"

/* Pieces of scratch memory that are in use at the same time. */
enum cpu_slot {
    SLOT_LEFT, /* sides of a product's first term, packed or widened, */
    SLOT_RIGHT,
    SLOT_LEFT_2, /* and of its second */
    SLOT_RIGHT_2,
    SLOT_SUMS, /* of blocks between chunks of the shared dimension */
    SLOT_TILE, /* a tile of a result before it is rounded */
    SLOT_ROW,
    SLOT_ROW_2,
    SLOT_ROW_3,
    SLOT_ROW_4,
    SLOT_COUNT
};

struct cpu_scratch {
    void *p[SLOT_COUNT];
    size_t size[SLOT_COUNT];
};

struct cpu {
    struct device base;
    struct team *team;
    const struct kernels *k;
    const struct product_choice *choice;
    struct cpu_scratch *scratch; /* [threads + 1]; the last is shared by the workers of a run */
};

static inline struct cpu *cpu_of(struct device *dev) {
    return (struct cpu *)(void *)dev;
}

enum err cpu_open(int threads, enum cpu_product product, struct device **out,
                  struct err_msg *em) NODISCARD;

/* bytes of a worker's scratch memory, contents undefined, valid until the same slot is asked for
 * again. */
void *cpu_scratch(struct cpu *c, int worker, enum cpu_slot slot, size_t bytes);
/* The same for memory that all workers of a run use; called by the control thread before it. */
void *cpu_shared(struct cpu *c, enum cpu_slot slot, size_t bytes);
float *cpu_scratch_f32(struct cpu *c, int worker, enum cpu_slot slot, int64_t n);
/* What operations of up to these shapes ask of each slot, in bytes, but for what is small: of a
 * worker, and of the memory that they share. */
struct cpu_need {
    int64_t bytes[SLOT_COUNT];
};
struct cpu_need cpu_worker_need(const struct cpu *c, const struct op_shapes *most);
struct cpu_need cpu_shared_need(const struct cpu *c, const struct op_shapes *most);
/* All that together, see ops.h. */
size_t cpu_scratch_bytes(struct device *dev, const struct op_shapes *most);

/* Start of a row. */
static inline void *row_at(struct tensor t, int64_t row) {
    return (char *)t.data + row * t.stride * (int64_t)dtype_size(t.dtype);
}
/* n elements in f32: the memory itself if it is f32, else widened into buf. */
const float *cpu_widen(const struct cpu *c, enum dtype dtype, const void *src, int64_t n,
                       float *buf);
/* Writes n elements; nothing to do where src is dst. */
void cpu_narrow(const struct cpu *c, enum dtype dtype, void *dst, const float *src, int64_t n);
/* The same for dst in a tensor: where the device writes so, past the cache if the tensor is too
 * large to be found there again. cpu_fence, before another thread is told. */
void cpu_write(const struct cpu *c, struct tensor whole, void *dst, const float *src, int64_t n);
void cpu_fence(const struct cpu *c);

/* Calls fn for blocks of rows that cover 0 … rows - 1, and fences. Rows must not depend on each
 * other: the blocks depend on the number of threads. */
void cpu_for_rows(struct cpu *c, int64_t rows, int64_t cols,
                  void (*fn)(void *arg, int64_t first, int64_t count, int worker), void *arg);

/* Even pieces: how many tiles of at most max cover n, and the bounds of one. Sizes are multiples
 * of unit, except where n ends. */
struct tiling {
    int64_t n, size, count;
};
struct tiling tiling_make(int64_t n, int64_t max, int64_t unit);
static inline int64_t tiling_first(const struct tiling *t, int64_t i) {
    return i * t->size;
}
static inline int64_t tiling_count(const struct tiling *t, int64_t i) {
    return t->n - i * t->size < t->size ? t->n - i * t->size : t->size;
}

/* Memory, see ops.h. The block is freed with free(); NULL if there is none. */
void *cpu_block_alloc(size_t bytes);
/* The same, asking for huge pages from so many bytes on. */
void *cpu_block_alloc_large(size_t bytes, size_t large);
enum err cpu_mem_alloc(struct device *dev, size_t bytes, void **out, struct err_msg *em) NODISCARD;
void cpu_mem_free(struct device *dev, void *p);
size_t cpu_memory_total(void);

/* Operations, see ops.h */
enum err cpu_linear_new(struct device *dev, const struct linear_spec *spec, enum dtype dtype,
                        struct linear **out, struct err_msg *em) NODISCARD;
enum err cpu_linear_room(struct device *dev, size_t bytes, struct err_msg *em);
size_t cpu_linear_bytes(struct device *dev, const struct linear_spec *spec, enum dtype dtype);
void cpu_linear_free(struct device *dev, struct linear *lin);
void cpu_linear_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                        const struct adapter_mem *ad, const struct dropout *drop,
                        const struct batch *b, struct tensor x, const struct tensor *residual,
                        struct tensor y, struct tensor s);
void cpu_linear_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                         const struct adapter_mem *ad, const struct dropout *drop,
                         const struct batch *b, struct tensor dy, struct tensor x, struct tensor s,
                         const struct tensor *dx);
void cpu_dora_norms(struct device *dev, const struct linear *lin, const struct lora *lora,
                    const struct adapter_mem *ad, float *n);
void cpu_dora_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                      const struct adapter_mem *ad, const float *n, struct tensor z,
                      const struct tensor *residual, struct tensor y);
void cpu_dora_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                       const struct adapter_mem *ad, const float *n, struct tensor dy,
                       struct tensor z);
void cpu_embed(struct device *dev, struct tensor table, const struct batch *b, float scale,
               struct tensor x);
void cpu_norm_forward(struct device *dev, const struct norm *n, struct tensor x, struct tensor y,
                      float *stats);
void cpu_norm_apply(struct device *dev, const struct norm *n, struct tensor x, const float *stats,
                    struct tensor y);
void cpu_norm_backward(struct device *dev, const struct norm *n, struct tensor dy, struct tensor x,
                       const float *stats, struct tensor dx);
void cpu_rope(struct device *dev, const struct rope *r, const struct batch *b, int32_t n_heads,
              int32_t head_dim, bool inverse, struct tensor x);
void cpu_attention_forward(struct device *dev, const struct attention *a, const struct batch *b,
                           struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                           float *lse);
void cpu_attention_backward(struct device *dev, const struct attention *a, const struct batch *b,
                            struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                            const float *lse, struct tensor dout, struct tensor dq,
                            struct tensor dk, struct tensor dv);
void cpu_act_forward(struct device *dev, const struct act *a, struct tensor in, struct tensor out);
void cpu_act_backward(struct device *dev, const struct act *a, struct tensor dout,
                      struct tensor in);
void cpu_rows_gather(struct device *dev, struct tensor x, const int32_t *rows, struct tensor out);
void cpu_rows_scatter(struct device *dev, struct tensor dout, const int32_t *rows,
                      struct tensor dx);
void cpu_head_loss(struct device *dev, const struct linear *head, struct tensor x,
                   const int32_t *targets, const float *grad_scale, float *nll, uint8_t *correct,
                   const struct tensor *dx);
/* Of the logits' gradient that cpu_head_loss holds at a time. */
size_t cpu_head_bytes(const struct cpu *c, int64_t rows, int64_t vocab, enum dtype head);
/* Most rows of logits that a worker holds at a time, as wide as the head's tiles. */
int64_t cpu_head_rows(bool packs_at_use, int64_t rows);
/* transfer.c */
enum err cpu_fetch_new(struct device *dev, size_t bytes, struct fetch **out, struct err_msg *em);
void cpu_fetch_free(struct device *dev, struct fetch *f);
void cpu_fetch_begin(struct device *dev, struct fetch *f, size_t at, const void *src, size_t bytes);
enum err cpu_fetch_end(struct device *dev, struct fetch *f, const void **out, struct err_msg *em);
enum err cpu_send_new(struct device *dev, size_t bytes, struct send **out, struct err_msg *em);
void cpu_send_free(struct device *dev, struct send *s);
void *cpu_send_open(struct device *dev, struct send *s);
void cpu_send_begin(struct device *dev, struct send *s);
void cpu_send_end(struct device *dev, struct send *s, void *dst);
size_t cpu_send_bytes(struct device *dev, size_t bytes);

enum err cpu_adapter_alloc(struct device *dev, size_t n, enum dtype dtype, struct adapter_mem *out,
                           struct err_msg *em) NODISCARD;
void cpu_adapter_free(struct device *dev, struct adapter_mem *ad);
void cpu_adapter_refresh(struct device *dev, const struct adapter_mem *ad);
enum err cpu_vec_sumsq(struct device *dev, const float *x, size_t n, double *sum,
                       struct err_msg *em) NODISCARD;
void cpu_vec_axpy(struct device *dev, float *dst, const float *a, float alpha, const float *b,
                  size_t n);
enum err cpu_adamw(struct device *dev, const struct adamw *o, const struct adapter_mem *ad,
                   float *m, float *v, double *sumsq, struct err_msg *em);
void cpu_adapter_move(struct device *dev, const struct adapter_mem *ad, const float *base,
                      float tau, const float *direction);

#endif
