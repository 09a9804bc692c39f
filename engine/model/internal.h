/* internal: what the files of engine/model share and nobody else sees.
 *
 * What:    the structs behind the opaque types of model.h and adapter.h.
 * Owns:    see model.h and adapter.h.
 * Threads: one control thread.
 * Errors:  as model.h.
 */
#ifndef FFWD_ENGINE_MODEL_INTERNAL_H
#define FFWD_ENGINE_MODEL_INTERNAL_H

#include "engine/model/adapter.h"
#include "engine/model/family.h"
#include "engine/model/model.h"
#include "engine/model/weights.h"

struct layer {
    struct norm norm1, norm2;
    struct linear *lin[SITES];
};

struct model {
    struct device *dev;
    struct model_config cfg;
    enum dtype dtype;
    void *slab;              /* norms */
    void *table;             /* a copy of the embedding table; NULL: used where it is mapped */
    size_t mapped_bytes;     /* of weights that are */
    struct weights *weights; /* whose mapping they lie in; NULL: none do */
    struct tensor embed;     /* [vocab, hidden], dtype */
    struct layer *layers;
    struct norm norm;
    struct linear *head; /* [vocab, hidden] */
};

/* LoRA of a block; a site with no part has has[site] = false. */
struct lora_layer {
    bool has[SITES];
    struct lora site[SITES];
};

struct adapter {
    struct model *model;
    struct lora_options options; /* targets: the resolved, sorted list below */
    char **targets;
    struct lora_layer *layers;
    struct adapter_mem mem;
    int first_layer; /* lowest that carries LoRA */
};

/* alpha / rank, or alpha / √rank. */
float adapter_scale(const struct lora_options *o);
/* Σrank of a site: columns of its s. 0 where ad is NULL or the site has no LoRA. */
int64_t adapter_site_rank(const struct adapter *ad, int layer, enum site site);

/* A matrix of the adapter in PEFT's files. */
struct adapter_entry {
    char name[MODULE_PATH_MAX + 64]; /* base_model.model.….lora_A.weight */
    int64_t rows, cols;              /* of a magnitude vector: [out, 1], stored as [out] */
    size_t offset;                   /* in the flat buffer */
    uint32_t index; /* of the projection in the whole model, whether it carries LoRA or not */
    enum site site;
    enum { ENTRY_A, ENTRY_B, ENTRY_MAGNITUDE, ENTRY_KINDS } kind;
};
/* All matrices, in the order of the flat buffer; the caller frees. */
struct adapter_entry *adapter_entries(const struct adapter *ad, size_t *n);
/* Plans the flat buffer of *n values for o's targets, without memory for it. o is copied. */
enum err adapter_layout(struct model *m, const struct lora_options *o, struct adapter **out,
                        size_t *n, struct err_msg *em) NODISCARD;
/* The same, and allocates it, zeroed. */
enum err adapter_plan(struct model *m, const struct lora_options *o, struct adapter **out,
                      struct err_msg *em) NODISCARD;

/* Bytes of the frozen weights on dev, the table included; dev may be NULL. */
size_t model_weight_bytes(struct device *dev, const struct model_config *c, enum dtype dtype);
/* Of them, those of the products' matrices. */
size_t model_matrix_bytes(struct device *dev, const struct model_config *c, enum dtype dtype);
/* Whether the device's memory is the host's: a tied head can then be the table itself. */
bool model_in_host_memory(struct device *dev);

struct pass_size {
    size_t bytes;        /* that pass_new takes */
    size_t scratch;      /* that the device's operations take besides */
    int32_t eval_tokens; /* of pass_new_inside */
};
/* Counts a pass, and one for evaluation inside it: as many as fit of eval->tokens, 0: none. */
enum err pass_count(struct model *m, struct adapter *ad, const struct pass_limits *limits,
                    const struct pass_limits *eval, struct pass_size *out,
                    struct err_msg *em) NODISCARD;

/* cos and sin of positions 0…n-1, [n, rope_columns / 2] each, into host memory. */
void rope_tables(const struct model_config *c, int32_t n, float *cos_out, float *sin_out);

/* Saved activations of a block, in device memory. In evaluation all blocks share one set, in
 * training those that are computed again. */
struct saved {
    void *x, *qkv, *att, *x_mid, *gate_up;
    void *s[SITES];
    float *norms[SITES]; /* DoRA's, of the rows of the adapted weights */
    float *stats1, *stats2, *lse;
};

/* What struct batch points to, one after the other in one block. */
struct batch_arrays {
    uint64_t *keys;
    struct dropout_draw *draw;
    float *grad_scale;
    int32_t *ids, *pos, *seq_start, *target_rows, *target_ids;
};

#define LOSS_BYTES (sizeof(float) + 1) /* a target's nll and correct */

struct pass {
    struct model *m;
    struct adapter *ad;
    struct pass_limits limits;
    const struct pass *owner; /* of the memory it lies in and of its rope; NULL: its own */
    void *memory;             /* one allocation for everything below; NULL: owner's */
    size_t bytes;
    struct saved *saved; /* [layers] */
    void *x_out;         /* input of the final norm */
    void *x_norm, *h;    /* scratch: normalised input, output of the activation */
    void *dx, *dx_norm, *dh, *d_att, *d_qkv; /* backward */
    void *z;                                 /* DoRA: a product's output before its magnitudes */
    void *top, *top_norm;                    /* [targets, hidden] rows that predict a target */
    float *top_stats;
    void *losses; /* nll [targets], then correct [targets], of the batch as it is padded */
    struct rope rope;
    struct batch batch; /* device copies of the host batch */
    struct batch_arrays on_device, on_host;
    struct send *send;  /* memory of on_host: one block, as it lies on the device */
    size_t batch_bytes; /* of each of the two */
    int32_t n_targets;  /* of the batch before it was padded */
    struct dropout drop;
    struct {
        struct fetch *losses;
        int32_t n_targets, padded;
    } started[PASS_STARTED]; /* the batches under way are n_started of them, from first_started */
    int first_started, n_started;
};

/* Checks a batch and lets it set out for the device, for p->batch and p->drop. */
enum err pass_load(struct pass *p, const struct host_batch *b, float grad_scale,
                   const struct dropout *drop, struct err_msg *em) NODISCARD;
/* What comes next finds it there. */
void pass_loaded(struct pass *p);
/* Whether the backward pass computes the layer's activations again. */
bool pass_recomputes(const struct pass *p, int l);
/* What the pass asks of the device's operations at most. */
struct op_shapes pass_shapes(const struct pass *p);
/* View of rows × cols at data, in the model's dtype. */
struct tensor pass_view(const struct pass *p, void *data, int64_t rows, int64_t cols);
/* Reads saved[l].x; writes x_out [T, hidden] and, where training, what backward needs. */
void block_forward(struct pass *p, int l, struct tensor x_out);
/* p->dx: gradient of the block's output, then of its input. Stops below the lowest site that
 * carries LoRA when l is the adapter's first layer. */
void block_backward(struct pass *p, int l);

#endif
