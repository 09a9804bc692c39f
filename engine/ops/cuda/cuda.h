/* cuda: the CUDA device and what its operations share.
 *
 * What:    struct cuda, its fault, scratch memory, and the operations of the table in ops.h. Host
 *          code is C (*.c); kernels and what launches them are C++ (*.cu).
 * Owns:    the device owns its streams, its pinned staging memory and its scratch memory.
 * Threads: one control thread. All work goes to one stream, in order; what is sent ahead of it
 *          (cuda_send_begin) to a second one.
 * Errors:  the first fault is kept (fault.c); operations after it do nothing; sync and download
 *          return it.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_CUDA_H
#define FFWD_ENGINE_OPS_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "engine/ops/ops.h"

/* Scratch memory in use at the same time. */
enum cuda_slot {
    SLOT_DROPPED,  /* [T, in] drop(x), then LoRA's part of dx before its mask */
    SLOT_SHRUNK,   /* [T, Σrank] dS */
    SLOT_LOGITS,   /* [chunk, V] f32 */
    SLOT_DELTA,    /* [heads, T] f32: rowsum(dout · out) */
    SLOT_NORMS,    /* DoRA: [rank, rank] f64 and [rank, out] f32 of a part */
    SLOT_PARTIALS, /* f64: sums of blocks */
    SLOT_PRODUCT,  /* workspace of cuBLASLt */
    SLOT_FUSED,    /* attention by cuDNN: its workspace, and what it wants laid out otherwise */
    SLOT_COUNT
};

struct cuda_scratch {
    void *p;
    size_t size;
};

/* Half of the pinned memory through which the host's bytes go to the device. */
struct cuda_staging {
    void *host;
    cudaEvent_t sent; /* the last copy out of it */
};

struct cuda_block {
    void *p;
    size_t bytes;
};

/* Memory that matrices are taken from, one after the other; given back with the last of them. */
struct cuda_room {
    void *p;
    size_t size, used;
    long users;
};

struct cuda_fault {
    enum err code; /* ERR_OK: none */
    char text[ERR_TEXT_MAX];
};

struct products;        /* product.h */
struct graphs;          /* graph.c */
struct attention_plans; /* attention_plans.h */

struct cuda {
    struct device base;
    int index;
    char name[96];
    int sm; /* ten times the compute capability */
    size_t memory_total;
    cudaStream_t stream, sends;
    struct cuda_fault fault;
    const char *last_launch; /* name of the newest kernel, for the fault's text */
    uint64_t launches;
    cudaEvent_t done, fence[2]; /* wait.c */
    bool hung;                  /* it does not answer: nothing is asked of it any more */
    struct cuda_staging staging[2];
    int staging_next;
    struct cuda_scratch scratch[SLOT_COUNT];
    struct cuda_block *blocks; /* what mem_alloc gave out, for the peak */
    size_t n_blocks, room_blocks, held, peak;
    struct cuda_room matrices;
    struct products *products;
    struct graphs *graphs;
    struct attention_plans *attention;
    bool capturing; /* what is enqueued is recorded, not done */
};

static inline struct cuda *cuda_of(struct device *dev) {
    return (struct cuda *)(void *)dev;
}

/* The library's only door; device.c of engine/ops finds it by name. */
enum err ffwd_cuda_open(int index, struct device **out, struct err_msg *em);

/* ---- fault.c: from CUDA's errors to ours ---- */

/* ERR_NO_MEMORY where memory ran out, else ERR_DEVICE. */
enum err cuda_error_code(cudaError_t rc);
/* Keeps the first fault, naming the call. True if rc is success. */
bool cuda_check(struct cuda *c, cudaError_t rc, const char *call);
/* The same for what is no error of the runtime, with a text of its own. */
void cuda_fault_set(struct cuda *c, enum err code, const char *text);
/* The kept fault as a result. Running out of memory is forgotten by that: what did not fit was not
 * run, and the device is as good as before. */
enum err cuda_fault_return(struct cuda *c, struct err_msg *em);
/* Why no device can be used: the driver's version (0: none), how many devices there are, and the
 * result of asking for them. ERR_OK: one can. */
enum err cuda_availability(cudaError_t rc, int driver, int count, int index, struct err_msg *em);

/* ---- wait.c ---- */

enum err cuda_wait_open(struct cuda *c, struct err_msg *em);
void cuda_wait_close(struct cuda *c);
/* Until event has happened, at most LIMIT_DEVICE_SECONDS; call: for the text of a fault. False
 * after a fault. */
bool cuda_wait(struct cuda *c, cudaEvent_t event, const char *call);
/* The same for everything enqueued so far. */
bool cuda_finish(struct cuda *c, const char *call);
/* Notes that a kernel was enqueued; waits where too many are under way. */
void cuda_launched(struct cuda *c, const char *name);

/* clock.c */
double cuda_clock(void); /* seconds */
void cuda_pause(double seconds);

/* ---- memory.c ---- */

/* Bytes that are held or can be had, less what CUDA and cuBLASLt take when kernels first run. */
size_t cuda_memory_usable(const struct cuda *c);
#define CUDA_STAGING_BYTES ((size_t)8 << 20)
enum err cuda_staging_open(struct cuda *c, struct err_msg *em);
void cuda_memory_close(struct cuda *c);
/* At least bytes of scratch memory, contents undefined, valid until the slot is asked for again.
 * NULL after a fault; running out of memory is one. */
void *cuda_scratch(struct cuda *c, enum cuda_slot slot, size_t bytes);

enum err cuda_mem_alloc(struct device *dev, size_t bytes, void **out, struct err_msg *em);
void cuda_mem_free(struct device *dev, void *p);
void cuda_mem_zero(struct device *dev, void *p, size_t bytes);
void cuda_mem_copy(struct device *dev, void *dst, const void *src, size_t bytes);
void cuda_upload(struct device *dev, void *dst, const void *host, size_t bytes);
enum err cuda_download(struct device *dev, void *host, const void *src, size_t bytes,
                       struct err_msg *em);
/* A download of at most CUDA_STAGING_BYTES in two halves, with neither an upload nor another
 * download between them. False after a fault. */
void cuda_download_begin(struct cuda *c, const void *src, size_t bytes);
bool cuda_download_end(struct cuda *c, void *host, size_t bytes);
enum err cuda_fetch_new(struct device *dev, size_t bytes, struct fetch **out, struct err_msg *em);
void cuda_fetch_free(struct device *dev, struct fetch *f);
void cuda_fetch_begin(struct device *dev, struct fetch *f, size_t at, const void *src,
                      size_t bytes);
enum err cuda_fetch_end(struct device *dev, struct fetch *f, const void **out, struct err_msg *em);
enum err cuda_send_new(struct device *dev, size_t bytes, struct send **out, struct err_msg *em);
void cuda_send_free(struct device *dev, struct send *s);
void *cuda_send_open(struct device *dev, struct send *s);
void cuda_send_begin(struct device *dev, struct send *s);
void cuda_send_end(struct device *dev, struct send *s, void *dst);
size_t cuda_send_bytes(struct device *dev, size_t bytes);
enum err cuda_sync(struct device *dev, struct err_msg *em);
const void *cuda_mem_share(struct device *dev, const void *host, size_t bytes);
size_t cuda_mem_peak(const struct device *dev);
enum err cuda_reserve(struct device *dev, const struct op_shapes *most, struct err_msg *em);

/* ---- graph.c ---- */

void cuda_graphs_open(struct cuda *c);
void cuda_graphs_close(struct cuda *c);
/* Forgets all graphs and what has been seen: addresses or algorithms are others from now on. */
void cuda_graphs_clear(struct cuda *c);
/* True, and a fault, where work that is being captured turns out to need what only work that is
 * done can have. */
bool cuda_not_captured(struct cuda *c, const char *what);
void cuda_repeat(struct device *dev, const struct work_key *key, void (*work)(void *arg),
                 void *arg);

/* ---- linear.c ---- */

size_t cuda_scratch_bytes(struct device *dev, const struct op_shapes *most);
enum err cuda_linear_room(struct device *dev, size_t bytes, struct err_msg *em);
size_t cuda_linear_bytes(struct device *dev, const struct linear_spec *spec, enum dtype dtype);
enum err cuda_linear_new(struct device *dev, const struct linear_spec *spec, enum dtype dtype,
                         struct linear **out, struct err_msg *em);
void cuda_linear_free(struct device *dev, struct linear *lin);
void cuda_linear_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                         const struct adapter_mem *ad, const struct dropout *drop,
                         const struct batch *b, struct tensor x, const struct tensor *residual,
                         struct tensor y, struct tensor s);
void cuda_linear_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                          const struct adapter_mem *ad, const struct dropout *drop,
                          const struct batch *b, struct tensor dy, struct tensor x, struct tensor s,
                          const struct tensor *dx);

/* [rows, cols] of the adapter in the type of what it is multiplied with. */
struct tensor cuda_adapter_matrix(const struct adapter_mem *ad, size_t offset, int64_t rows,
                                  int64_t cols, enum dtype with);

/* ---- kernels, one concern a file ---- */

/* convert.cu: dst [rows, cols] = src, in dst's type. */
void cuda_convert(struct cuda *c, struct tensor src, struct tensor dst);

/* dropout.cu: dst = drop(src) */
void cuda_dropout(struct cuda *c, const struct dropout *d, const struct batch *b, struct tensor src,
                  struct tensor dst);

/* dora.cu */
void cuda_dora_norms(struct device *dev, const struct linear *lin, const struct lora *lora,
                     const struct adapter_mem *ad, float *n);
void cuda_dora_forward(struct device *dev, const struct linear *lin, const struct lora *lora,
                       const struct adapter_mem *ad, const float *n, struct tensor z,
                       const struct tensor *residual, struct tensor y);
void cuda_dora_backward(struct device *dev, const struct linear *lin, const struct lora *lora,
                        const struct adapter_mem *ad, const float *n, struct tensor dy,
                        struct tensor z);
/* squares[row] = ‖w_row‖² */
void cuda_row_squares(struct cuda *c, struct tensor w, float *squares);
/* Bytes of SLOT_NORMS for a part. */
size_t cuda_dora_bytes(int64_t rank, int64_t out);

/* rows.cu */
void cuda_embed(struct device *dev, struct tensor table, const struct batch *b, float scale,
                struct tensor x);
void cuda_rows_gather(struct device *dev, struct tensor x, const int32_t *rows, struct tensor out);
void cuda_rows_scatter(struct device *dev, struct tensor dout, const int32_t *rows,
                       struct tensor dx);

/* norm.cu */
void cuda_norm_forward(struct device *dev, const struct norm *n, struct tensor x, struct tensor y,
                       float *stats);
void cuda_norm_apply(struct device *dev, const struct norm *n, struct tensor x, const float *stats,
                     struct tensor y);
void cuda_norm_backward(struct device *dev, const struct norm *n, struct tensor dy, struct tensor x,
                        const float *stats, struct tensor dx);

/* rope.cu */
void cuda_rope(struct device *dev, const struct rope *r, const struct batch *b, int32_t n_heads,
               int32_t head_dim, bool inverse, struct tensor x);

/* activation.cu */
void cuda_act_forward(struct device *dev, const struct act *a, struct tensor in, struct tensor out);
void cuda_act_backward(struct device *dev, const struct act *a, struct tensor dout,
                       struct tensor in);

/* attention_forward.cu, attention_backward.cu */
void cuda_attention_forward(struct device *dev, const struct attention *a, const struct batch *b,
                            struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                            float *lse);
void cuda_attention_backward(struct device *dev, const struct attention *a, const struct batch *b,
                             struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                             const float *lse, struct tensor dout, struct tensor dq,
                             struct tensor dk, struct tensor dv);

/* attention_tensor_forward.cu, attention_tensor_backward.cu: the same on tensor cores; false: not
 * for these types and sizes, nothing was done. */
bool cuda_attention_tensor_forward(struct cuda *c, const struct attention *a, const struct batch *b,
                                   struct tensor q, struct tensor k, struct tensor v,
                                   struct tensor out, float *lse);
bool cuda_attention_tensor_backward(struct cuda *c, const struct attention *a,
                                    const struct batch *b, struct tensor q, struct tensor k,
                                    struct tensor v, const float *lse, const float *delta,
                                    struct tensor dout, struct tensor dq, struct tensor dk,
                                    struct tensor dv);

/* head.cu */
void cuda_head_loss(struct device *dev, const struct linear *head, struct tensor x,
                    const int32_t *targets, const float *grad_scale, float *nll, uint8_t *correct,
                    const struct tensor *dx);
/* Rows of a chunk: logits of so many are in memory at a time. */
int64_t cuda_head_chunk(int64_t rows, int64_t vocab);

/* adapter.cu */
enum err cuda_adapter_alloc(struct device *dev, size_t n, enum dtype dtype, struct adapter_mem *out,
                            struct err_msg *em);
void cuda_adapter_free(struct device *dev, struct adapter_mem *ad);
void cuda_adapter_refresh(struct device *dev, const struct adapter_mem *ad);
enum err cuda_vec_sumsq(struct device *dev, const float *x, size_t n, double *sum,
                        struct err_msg *em);
void cuda_vec_axpy(struct device *dev, float *dst, const float *a, float alpha, const float *b,
                   size_t n);
enum err cuda_adamw(struct device *dev, const struct adamw *o, const struct adapter_mem *ad,
                    float *m, float *v, double *sumsq, struct err_msg *em);
void cuda_adapter_move(struct device *dev, const struct adapter_mem *ad, const float *base,
                       float tau, const float *direction);
/* Bytes of SLOT_PARTIALS that sums of squares need. */
size_t cuda_sumsq_bytes(void);

#ifdef __cplusplus
}
#endif

#endif
