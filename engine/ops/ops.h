/* ops: what a device can do. The model's forward and backward are written once against this.
 *
 * What:    a device (struct device) and its table of coarse operations (struct ops). CPU and CUDA
 *          each implement the whole table in their own folder; there are no optional entries.
 * Owns:    memory got from mem_alloc belongs to the caller until mem_free; linear and head handles
 *          belong to the caller until their _free.
 * Threads: one control thread calls a device; the device uses its own threads or streams inside.
 *          Results may be pending until sync or download.
 * Errors:  operations on planned shapes do not fail on the CPU; on an accelerator a fault is kept
 *          and returned by the next sync or download as ERR_DEVICE naming the call. Functions that
 *          allocate return ERR_NO_MEMORY with the bytes asked for.
 *
 * Notation: T tokens of a packed batch, H hidden width, I intermediate width, V vocabulary,
 * R LoRA rank. All matrices are row-major; W is [out, in] as in the weight files; y = x Wᵀ.
 * Sums over tokens or columns have a fixed order that depends on the shape only, never on the
 * number of threads.
 */
#ifndef FFWD_ENGINE_OPS_OPS_H
#define FFWD_ENGINE_OPS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16 };
size_t dtype_size(enum dtype dtype); /* bytes of an element */
const char *dtype_name(enum dtype dtype);

/* A view of a row-major matrix in device memory. */
struct tensor {
    void *data;
    enum dtype dtype;
    int64_t rows, cols;
    int64_t stride; /* elements between the starts of two rows, >= cols */
};
/* A stride >= cols for which rows start on cache lines, and an odd number of them apart: products
 * that walk down a column are twice as fast then as with a stride that is a power of two. */
int64_t tensor_stride(enum dtype dtype, int64_t cols);
/* Columns [first, first + cols) of t. */
struct tensor tensor_columns(struct tensor t, int64_t first, int64_t cols);
/* Rows [first, first + rows) of t. */
struct tensor tensor_rows(struct tensor t, int64_t first, int64_t rows);

/* Dropout's seed and step where they lie in device memory; see struct batch. */
struct dropout_draw {
    uint64_t seed;
    uint32_t step;
};

/* A packed batch in device memory: examples one after the other, attention inside each only. */
struct batch {
    int32_t n_tokens, n_seqs, n_targets;
    int32_t max_len;          /* longest example */
    const int32_t *ids;       /* [T] */
    const int32_t *pos;       /* [T] position within its example, from 0 */
    const int32_t *seq_start; /* [n_seqs + 1] */
    const uint64_t *keys;     /* [T] (example number in the step << 32) | position: dropout's row */
    const int32_t
        *target_rows; /* [n_targets] row whose output predicts a trained token, each once */
    const int32_t *target_ids; /* [n_targets] that token; below 0: none (see head_loss) */
    /* What struct dropout says of seed and step, for devices that do recorded work again
     * (ops.repeat): there its numbers would stay those of the first time. NULL: not given. */
    const struct dropout_draw *draw;
};

enum norm_kind { NORM_RMS, NORM_LAYER };
struct norm {
    enum norm_kind kind;
    float eps;
    const float *weight; /* [H] device, f32 */
    const float *bias;   /* [H] device, f32, or NULL */
};

enum act_kind { ACT_SILU, ACT_GELU, ACT_GELU_TANH };
struct act {
    enum act_kind kind;
    bool gated; /* true: input is gate|up [T, 2I], output act(gate) * up */
};

struct attention {
    int32_t n_heads, n_kv_heads, head_dim;
    float scale;    /* of q·k, > 0 */
    int32_t window; /* keys seen, itself included; 0: all */
};

/* cos/sin tables, f32 [positions, dim / 2]; rotates the first dim columns of each head in halves
 * (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin), as transformers' rotate_half. */
struct rope {
    const float *cos, *sin; /* device */
    int32_t positions, dim;
};

/* Dropout by a counter-based generator (philox.h): keep iff uniform(seed, step, site, row key,
 * column) >= p; kept values are divided by 1 - p. p = 0: off. */
struct dropout {
    float p;
    uint64_t seed;
    uint32_t step, site;
};

/* Up to LINEAR_PARTS frozen matrices that share their input, as one product: q|k|v, gate|up. */
#define LINEAR_PARTS 3
struct linear_part {
    const void *weight; /* host memory, [out, in] in weight_dtype; see linear_spec.stays */
    enum dtype weight_dtype;
    const float *bias; /* host, [out] f32, or NULL */
    int64_t out;
};
struct linear_spec {
    int64_t in;
    int n_parts;
    struct linear_part part[LINEAR_PARTS];
    bool forward_only; /* no input gradient will be asked for */
    bool stays;        /* the weights' memory outlives the linear and may be used where it is */
};
struct linear; /* opaque; owned by the caller, freed by linear_free */

/* The LoRA matrices of one linear: part i adds scale · (drop(x) A_iᵀ) B_iᵀ to its columns.
 * A_i [rank, in] and B_i [out_i, rank] are f32 in the adapter's flat buffer at these offsets (in
 * elements); rank 0: the part has none. All parts of a linear share one dropout mask. A_i that lie
 * one after the other (a[i + 1] = a[i] + rank[i] · in) are computed as one product. */
struct lora {
    int32_t rank[LINEAR_PARTS];
    size_t a[LINEAR_PARTS], b[LINEAR_PARTS];
    float scale;
    bool dora;              /* parts with LoRA have magnitudes m_i [out_i] at m[i] */
    size_t m[LINEAR_PARTS]; /* used by the dora operations only */
};

/* How LoRA's matrices lie beside one linear: the columns of s, and the A_i that are one matrix. */
struct lora_group {
    int64_t first; /* column in s */
    int64_t rank;  /* Σrank of the parts in it */
    size_t offset; /* of A [rank, in], in elements of the adapter's buffers */
};
struct lora_plan {
    int64_t rank; /* Σrank: columns of s; 0 without LoRA */
    int64_t first[LINEAR_PARTS];
    int n_groups;
    struct lora_group group[LINEAR_PARTS];
};
/* in: columns of A; lora may be NULL. */
struct lora_plan lora_plan_make(const struct lora *lora, int n_parts, int64_t in);

/* The adapter's flat buffers, f32 [n], device memory. work is the device's own copy of the weights
 * in the form its products want; adapter_refresh brings it up to date after w changed. */
struct adapter_mem {
    size_t n;
    float *w, *g;
    void *work;
};

struct adamw {
    float lr, beta1, beta2, eps, weight_decay;
    int64_t step;   /* from 1, for bias correction */
    float max_norm; /* > 0: a gradient that is longer is scaled down to it */
};

/* Largest shapes that operations will be called with. */
struct op_shapes {
    enum dtype dtype;
    bool backward; /* a backward pass will come */
    int64_t tokens, targets;
    int64_t seqs;            /* examples of a batch */
    int64_t longest;         /* tokens of one */
    int64_t hidden;          /* inputs of the head */
    int64_t inputs, outputs; /* most of a linear of the blocks; its other side is hidden */
    int64_t width;           /* widest input of a linear with LoRA and dropout; 0: no dropout */
    int64_t rank;            /* largest Σrank of a linear */
    int64_t heads, head_dim;
    int64_t keys;   /* columns of the keys of all heads */
    int64_t dora;   /* most outputs of a part with magnitudes; 0: no DoRA */
    int64_t vocab;  /* rows of the head */
    size_t adapter; /* elements of its flat buffer */
};

/* Host memory that a device copies to; opaque; owned by the caller, freed by fetch_free. */
struct fetch;

/* Host memory that a device copies from; opaque; owned by the caller, freed by send_free. */
struct send;

/* What tells a piece of work from every other one on the same device. */
#define WORK_KEY_NUMBERS 10
struct work_key {
    int64_t number[WORK_KEY_NUMBERS];
};

struct device_info {
    char name[128];      /* for people */
    char kind[16];       /* "cpu" or "cuda:N" */
    bool native_bf16;    /* bf16 products in hardware */
    int threads;         /* CPU threads in use; 0 on an accelerator */
    size_t memory_total; /* bytes the device has */
    /* Of them, what this process holds or can get; on a CPU all: a plan that followed what other
     * processes hold would cut steps otherwise from one time to the next. */
    size_t memory_usable;
};

struct device;

struct ops {
    bool repeats; /* repeat keeps work, so shapes that come again are worth a little padding */
    void (*close)(struct device *dev);
    void (*info)(const struct device *dev, struct device_info *out);

    /* memory; contents are undefined after mem_alloc; alignment at least 64 bytes */
    enum err (*mem_alloc)(struct device *dev, size_t bytes, void **out, struct err_msg *em);
    void (*mem_free)(struct device *dev, void *p);
    void (*mem_zero)(struct device *dev, void *p, size_t bytes);
    void (*mem_copy)(struct device *dev, void *dst, const void *src, size_t bytes);
    /* Host memory as device memory, in place and for reading only, as long as the caller keeps it;
     * NULL where the device cannot read it. The memory of a device that can is host memory too. */
    const void *(*mem_share)(struct device *dev, const void *host, size_t bytes);
    /* host may be reused or freed on return */
    void (*upload)(struct device *dev, void *dst, const void *host, size_t bytes);
    enum err (*download)(struct device *dev, void *host, const void *src, size_t bytes,
                         struct err_msg *em);
    /* A download in two halves, so that more can be enqueued in between: begun here, to `at` bytes
     * behind the start of f's host memory; there once fetch_end has returned, until the next
     * begins. *out: that memory. */
    enum err (*fetch_new)(struct device *dev, size_t bytes, struct fetch **out, struct err_msg *em);
    void (*fetch_free)(struct device *dev, struct fetch *f);
    void (*fetch_begin)(struct device *dev, struct fetch *f, size_t at, const void *src,
                        size_t bytes);
    enum err (*fetch_end)(struct device *dev, struct fetch *f, const void **out,
                          struct err_msg *em);
    /* The way up in two halves, for what is written while the device works: send_open gives host
     * memory to write to, once what was there before has left it; send_begin lets all of it set
     * out; what is enqueued after send_end finds it at dst. May be begun again without an end. */
    enum err (*send_new)(struct device *dev, size_t bytes, struct send **out, struct err_msg *em);
    void (*send_free)(struct device *dev, struct send *s);
    void *(*send_open)(struct device *dev, struct send *s); /* the same memory each time */
    void (*send_begin)(struct device *dev, struct send *s);
    void (*send_end)(struct device *dev, struct send *s, void *dst);
    /* Bytes of the device that send_new takes. */
    size_t (*send_bytes)(struct device *dev, size_t bytes);
    enum err (*sync)(struct device *dev, struct err_msg *em);
    size_t (*mem_peak)(const struct device *dev); /* bytes; CPU: resident peak of the process */
    /* Takes the scratch memory that operations of up to these shapes need, so that none of them
     * allocates. Without it, or for larger shapes, the first use allocates. */
    enum err (*reserve)(struct device *dev, const struct op_shapes *most, struct err_msg *em);
    /* Bytes of that memory. */
    size_t (*scratch_bytes)(struct device *dev, const struct op_shapes *most);

    /* What the device chose among several ways of computing the same, as text; the caller frees.
     * NULL: it has one way only. */
    char *(*choices_text)(struct device *dev);
    /* Chooses from now on as this text of an earlier process says, where it says something. False:
     * it was written on another device, driver or library, and the device chooses anew. NULL: it
     * chooses as if nothing had come before. */
    bool (*choices_use)(struct device *dev, const char *text);

    /* Does work(arg), which asks this device for operations whose arguments follow from key alone
     * until memory is freed; what else changes from one time to the next lies in device memory. A
     * device may keep what it was asked for and do it again: work is called never, once or twice,
     * so it has no other effect, and neither waits nor takes or gives back memory. */
    void (*repeat)(struct device *dev, const struct work_key *key, void (*work)(void *arg),
                   void *arg);

    /* Converts the frozen weights to dtype and packs them as the products want. */
    enum err (*linear_new)(struct device *dev, const struct linear_spec *spec, enum dtype dtype,
                           struct linear **out, struct err_msg *em);
    void (*linear_free)(struct device *dev, struct linear *lin);
    /* Takes memory for matrices of so many bytes in one piece, for linear_new to take its own from;
     * what does not fit there, or comes without, is taken one by one. Given back with the last of
     * them; while there are some nothing is taken. */
    enum err (*linear_room)(struct device *dev, size_t bytes, struct err_msg *em);
    /* Bytes that linear_new takes and keeps for a matrix of this form; of weights and biases it is
     * only looked at which biases there are. */
    size_t (*linear_bytes)(struct device *dev, const struct linear_spec *spec, enum dtype dtype);

    /* y [T, Σout] = residual + x Wᵀ + bias + LoRA.  residual NULL: 0; it may not overlap y.
     * lora NULL: base alone. s [T, Σrank] receives drop(x) Aᵀ, needed by the backward pass.
     * b supplies the dropout row keys (may be NULL when drop->p is 0). */
    void (*linear_forward)(struct device *dev, const struct linear *lin, const struct lora *lora,
                           const struct adapter_mem *ad, const struct dropout *drop,
                           const struct batch *b, struct tensor x, const struct tensor *residual,
                           struct tensor y, struct tensor s);
    /* dx [T, in] = dy W + LoRA's part (dx NULL: not wanted); dA, dB are added to ad->g.
     * x and s as in the forward pass; the frozen weights' gradient is never formed. */
    void (*linear_backward)(struct device *dev, const struct linear *lin, const struct lora *lora,
                            const struct adapter_mem *ad, const struct dropout *drop,
                            const struct batch *b, struct tensor dy, struct tensor x,
                            struct tensor s, const struct tensor *dx);

    /* DoRA (Liu et al. 2024, eq. 5): an output of a part with LoRA is m / n · (W + scale · B A) x +
     * bias, where n [Σout] f32 holds the norms of the rows of W + scale · B A; the outputs of other
     * parts stay as they are.
     * n of the parts with LoRA from the adapter as it is now; 1 elsewhere. */
    void (*dora_norms)(struct device *dev, const struct linear *lin, const struct lora *lora,
                       const struct adapter_mem *ad, float *n);
    /* y = residual + m / n · (z - bias) + bias, where z [T, Σout] is what linear_forward made
     * without residual. residual NULL: 0. y may be z. */
    void (*dora_forward)(struct device *dev, const struct linear *lin, const struct lora *lora,
                         const struct adapter_mem *ad, const float *n, struct tensor z,
                         const struct tensor *residual, struct tensor y);
    /* z is overwritten by its gradient m / n · dy; Σ dy · (z - bias) / n over the tokens is added
     * to the magnitudes' gradient in ad->g. n is a constant here (section 4.3 of the paper). */
    void (*dora_backward)(struct device *dev, const struct linear *lin, const struct lora *lora,
                          const struct adapter_mem *ad, const float *n, struct tensor dy,
                          struct tensor z);

    /* x [T, H] = table[ids] * scale; table [V, H] */
    void (*embed)(struct device *dev, struct tensor table, const struct batch *b, float scale,
                  struct tensor x);
    /* y = norm(x); stats [T, 2] f32: mean (0 for RMS) and 1/std. y may be x. */
    void (*norm_forward)(struct device *dev, const struct norm *n, struct tensor x, struct tensor y,
                         float *stats);
    /* y again from x and stats (recomputation in the backward pass). */
    void (*norm_apply)(struct device *dev, const struct norm *n, struct tensor x,
                       const float *stats, struct tensor y);
    /* dx += d norm(x) / dx · dy */
    void (*norm_backward)(struct device *dev, const struct norm *n, struct tensor dy,
                          struct tensor x, const float *stats, struct tensor dx);
    /* In place on x [T, n_heads · head_dim]; inverse: the transposed rotation (backward). */
    void (*rope)(struct device *dev, const struct rope *r, const struct batch *b, int32_t n_heads,
                 int32_t head_dim, bool inverse, struct tensor x);
    /* out [T, n_heads·d] = causal attention within each example; lse [n_heads, T] f32. */
    void (*attention_forward)(struct device *dev, const struct attention *a, const struct batch *b,
                              struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                              float *lse);
    /* dq, dk, dv overwritten. out, lse from the forward pass. */
    void (*attention_backward)(struct device *dev, const struct attention *a, const struct batch *b,
                               struct tensor q, struct tensor k, struct tensor v, struct tensor out,
                               const float *lse, struct tensor dout, struct tensor dq,
                               struct tensor dk, struct tensor dv);
    void (*act_forward)(struct device *dev, const struct act *a, struct tensor in,
                        struct tensor out);
    /* in is overwritten by its gradient. */
    void (*act_backward)(struct device *dev, const struct act *a, struct tensor dout,
                         struct tensor in);

    /* out[i] = x[rows[i]]; and the way back: dx = 0 except dx[rows[i]] = dout[i]. */
    void (*rows_gather)(struct device *dev, struct tensor x, const int32_t *rows,
                        struct tensor out);
    void (*rows_scatter)(struct device *dev, struct tensor dout, const int32_t *rows,
                         struct tensor dx);
    /* Cross entropy of x [n, H] through the frozen head, in chunks: logits of the whole batch never
     * exist. nll [n] f32; correct [n] u8: arg max == target (lowest index wins ties). A row
     * whose target is below 0 has none: its nll, correct and gradient are 0. The gradient of one
     * whose loss is not finite is NaN.
     * dx != NULL: dx [n, H] = *grad_scale · d Σnll / dx; grad_scale lies in device memory, NULL
     * where dx is. x and dx may be the same memory. */
    void (*head_loss)(struct device *dev, const struct linear *head, struct tensor x,
                      const int32_t *targets, const float *grad_scale, float *nll, uint8_t *correct,
                      const struct tensor *dx);

    /* adapter arithmetic, f32 [n]. dtype: of the matrices that it goes with; a device may do
     * without the copy where they are f32. w and g are zeroed. */
    enum err (*adapter_alloc)(struct device *dev, size_t n, enum dtype dtype,
                              struct adapter_mem *out, struct err_msg *em);
    void (*adapter_free)(struct device *dev, struct adapter_mem *ad);
    void (*adapter_refresh)(struct device *dev, const struct adapter_mem *ad);
    /* *sum = Σ x², in f64, fixed order */
    enum err (*vec_sumsq)(struct device *dev, const float *x, size_t n, double *sum,
                          struct err_msg *em);
    /* dst = a + alpha · b; dst may be a or b */
    void (*vec_axpy)(struct device *dev, float *dst, const float *a, float alpha, const float *b,
                     size_t n);
    /* Clipping as torch.nn.utils.clip_grad_norm_: g counts as min(1, max_norm / (‖g‖ + 1e-6)) · g.
     * Then Loshchilov & Hutter 2019, as torch.optim.AdamW: w -= lr·wd·w, then the bias-corrected
     * step; m, v [n]. The work copy follows. *sumsq = ‖g‖², in f64, fixed order: where that is not
     * finite, nothing is changed. Returns once it is known; the rest may be pending. */
    enum err (*adamw)(struct device *dev, const struct adamw *o, const struct adapter_mem *ad,
                      float *m, float *v, double *sumsq, struct err_msg *em);
    /* w = base + tau · direction, or base, bit for bit, where tau is 0; both [n]. The work copy
     * follows. */
    void (*adapter_move)(struct device *dev, const struct adapter_mem *ad, const float *base,
                         float tau, const float *direction);
};

/* First member of every device's own struct. */
struct device {
    const struct ops *ops;
};

/* spec: "auto", "cpu", "cuda" or "cuda:N". threads: CPU threads, 0: as many as there are cores.
 * Without a usable driver "cuda" is ERR_DEVICE saying why; "auto" then takes the CPU. */
enum err device_open(const char *spec, int threads, struct device **out,
                     struct err_msg *em) NODISCARD;
void device_close(struct device *dev);

#endif
