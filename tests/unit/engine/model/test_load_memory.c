/* What loading a model takes: no second copy of it, nothing left of the file. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/model/model.h"
#include "engine/model/model_size.h"
#include "engine/model/safetensors.h"

/* 103 million weights: the table and the head are 16 million each. */
enum { HIDDEN = 1024, MLP = 2816, LAYERS = 5, VOCAB = 16000, KV = 512 };
#define TENSORS (3 + LAYERS * 9)
#define MARGIN ((size_t)24 << 20) /* threads' scratch memory, the allocator's, the sampling's */

static struct err_msg em;

/* In a program built with AddressSanitizer, whose own memory counts too. */
extern void __asan_init(void) __attribute__((weak));

/* ---- the resident memory of this process ---------------------------------------------------- */

static size_t status_bytes(const char *key) {
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    cr_assert_not_null(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            (void)sscanf(line + strlen(key), ": %llu", &kib);
    (void)fclose(f);
    return (size_t)kib * 1024;
}

struct watch {
    pthread_t thread;
    atomic_bool stop;
    size_t anonymous, file; /* peaks */
};

static void *watch_main(void *arg) {
    struct watch *w = arg;
    while (!atomic_load(&w->stop)) {
        size_t anonymous = status_bytes("RssAnon"), file = status_bytes("RssFile");
        w->anonymous = anonymous > w->anonymous ? anonymous : w->anonymous;
        w->file = file > w->file ? file : w->file;
        usleep(500);
    }
    return NULL;
}

/* ---- a model folder ------------------------------------------------------------------------- */

struct folder {
    char dir[32];
    struct safetensor tensors[TENSORS];
    char names[TENSORS][64];
    size_t n;
    void *data; /* what every tensor holds */
};

static void add(struct folder *f, const char *dtype, const char *name, int layer, uint64_t rows,
                uint64_t cols) {
    struct safetensor *t = &f->tensors[f->n];
    if (layer < 0)
        (void)snprintf(f->names[f->n], sizeof f->names[0], "%s.weight", name);
    else
        (void)snprintf(f->names[f->n], sizeof f->names[0], "model.layers.%d.%s.weight", layer,
                       name);
    *t = (struct safetensor){.name = f->names[f->n++], .dtype = dtype, .rank = cols > 0 ? 2 : 1};
    t->shape[0] = rows;
    t->shape[1] = cols;
    t->data = f->data;
    t->bytes = rows * (cols > 0 ? cols : 1) * safetensors_dtype_bits(dtype) / 8;
}

static void write_config(const struct folder *f, bool tied) {
    char path[64];
    (void)snprintf(path, sizeof path, "%s/config.json", f->dir);
    FILE *out = fopen(path, "we");
    cr_assert_not_null(out);
    (void)fprintf(out,
                  "{\"model_type\": \"llama\", \"architectures\": [\"LlamaForCausalLM\"], "
                  "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
                  "\"num_attention_heads\": 16, \"num_key_value_heads\": 8, \"vocab_size\": %d, "
                  "\"max_position_embeddings\": 2048, \"rms_norm_eps\": 1e-5, "
                  "\"rope_theta\": 10000.0, \"hidden_act\": \"silu\", "
                  "\"tie_word_embeddings\": %s}",
                  HIDDEN, MLP, LAYERS, VOCAB, tied ? "true" : "false");
    cr_assert_eq(fclose(out), 0);
}

static void write_folder(struct folder *f, const char *dtype, bool tied) {
    static const struct {
        const char *name;
        uint64_t rows, cols;
    } layer[] = {{"input_layernorm", HIDDEN, 0},       {"post_attention_layernorm", HIDDEN, 0},
                 {"self_attn.q_proj", HIDDEN, HIDDEN}, {"self_attn.k_proj", KV, HIDDEN},
                 {"self_attn.v_proj", KV, HIDDEN},     {"self_attn.o_proj", HIDDEN, HIDDEN},
                 {"mlp.gate_proj", MLP, HIDDEN},       {"mlp.up_proj", MLP, HIDDEN},
                 {"mlp.down_proj", HIDDEN, MLP}};
    char path[64];
    *f = (struct folder){.dir = "/tmp/ffwd-test-XXXXXX"};
    cr_assert_not_null(mkdtemp(f->dir));
    f->data = calloc((size_t)VOCAB * HIDDEN, sizeof(float));
    add(f, dtype, "model.embed_tokens", -1, VOCAB, HIDDEN);
    if (!tied)
        add(f, dtype, "lm_head", -1, VOCAB, HIDDEN);
    add(f, dtype, "model.norm", -1, HIDDEN, 0);
    for (int l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < sizeof layer / sizeof layer[0]; i++)
            add(f, dtype, layer[i].name, l, layer[i].rows, layer[i].cols);
    (void)snprintf(path, sizeof path, "%s/model.safetensors", f->dir);
    cr_assert_eq(safetensors_write(path, f->tensors, f->n, &em), ERR_OK, "%s", em.text);
    write_config(f, tied);
    free(f->data);
}

/* ---- loading -------------------------------------------------------------------------------- */

static void load(const char *stored, enum dtype dtype, bool tied) {
    struct folder f;
    struct device *dev;
    struct model *m;
    struct model_size size;
    struct watch w = {0};
    const struct lora_options lora = {.rank = 1, .alpha = 1};
    const struct pass_limits limits = {1, 1, 1, true, 0}, none = {0};
    if (__asan_init) {
        (void)printf("SKIP: AddressSanitizer's own memory is resident too\n");
        return;
    }
    write_folder(&f, stored, tied);
    cr_assert_eq(device_open("cpu", 2, &dev, &em), ERR_OK, "%s", em.text);
    size_t anonymous = status_bytes("RssAnon"), file = status_bytes("RssFile");
    cr_assert_eq(pthread_create(&w.thread, NULL, watch_main, &w), 0);
    cr_assert_eq(model_open(dev, f.dir, dtype, &m, &em), ERR_OK, "%s", em.text);
    atomic_store(&w.stop, true);
    pthread_join(w.thread, NULL);
    cr_assert_eq(model_size(dev, model_config(m), dtype, &lora, &limits, &none, &size, &em),
                 ERR_OK);
    size_t element = dtype_size(dtype), table = (size_t)VOCAB * HIDDEN * element;
    size_t joined = (size_t)2 * MLP * HIDDEN * element; /* gate|up, before they are packed */
    size_t keeps = size.weight_bytes - model_mapped_bytes(m);
    bool converted = dtype_size(dtype) != safetensors_dtype_bits(stored) / 8;
    size_t held = status_bytes("RssAnon") - anonymous;
    cr_expect_lt(w.anonymous - anonymous, keeps + (converted ? table : joined) + MARGIN,
                 "%s: a peak of %zu MB for weights of %zu", stored, (w.anonymous - anonymous) >> 20,
                 keeps >> 20);
    cr_expect(held > keeps - MARGIN && held < keeps + MARGIN, "%s: %zu MB are held, not %zu",
              stored, held >> 20, keeps >> 20);
    cr_expect(converted ? model_mapped_bytes(m) == 0 : model_mapped_bytes(m) >= table);
    size_t largest = (size_t)VOCAB * HIDDEN * (safetensors_dtype_bits(stored) / 8);
    cr_expect_lt(w.file - file, largest + MARGIN, "%s: %zu MB of the file at once", stored,
                 (w.file - file) >> 20);
    cr_expect_lt(status_bytes("RssFile"), file + MARGIN, "the file's pages are still there");
    model_close(m);
    device_close(dev);
    cr_expect_eq(file_remove_tree(f.dir, &em), ERR_OK);
}

Test(load_memory, bf16_weights) {
    load("BF16", DTYPE_BF16, false);
}

Test(load_memory, f32_weights) {
    load("F32", DTYPE_F32, false);
}

Test(load_memory, f32_weights_as_bf16) {
    load("F32", DTYPE_BF16, false);
}

/* A head that can use the table as it lies is no second copy of it. */
Test(load_memory, tied_weights) {
    load("BF16", DTYPE_BF16, true);
}

Test(load_memory, tied_f32_weights_as_bf16) {
    load("F32", DTYPE_BF16, true);
}
