/* config: named shapes, for benchmarks on random weights. Sizes as in the published config.json
 * files of HuggingFaceTB/SmolLM2-135M, Qwen/Qwen2.5-0.5B, meta-llama/Llama-3.2-1B,
 * meta-llama/Meta-Llama-3-8B and EleutherAI/pythia-1.4b. */
#include <math.h>
#include <string.h>

#include "engine/model/config.h"
#include "engine/model/family.h"

static const struct shape {
    const char *name;
    const char *model_type;
    int32_t hidden, intermediate, layers, heads, kv_heads, vocab;
    bool tied, qkv_bias, all_bias, parallel;
    float eps;
    struct rope_config rope;
    int32_t positions;
} shapes[] = {
    {"smollm2-135m",
     "llama",
     576,
     1536,
     30,
     9,
     3,
     49152,
     true,
     false,
     false,
     false,
     1e-5f,
     {.theta = 100000, .factor = 1, .partial = 1},
     8192},
    {"qwen2.5-0.5b",
     "qwen2",
     896,
     4864,
     24,
     14,
     2,
     151936,
     true,
     true,
     false,
     false,
     1e-6f,
     {.theta = 1000000, .factor = 1, .partial = 1},
     32768},
    {"llama-3.2-1b",
     "llama",
     2048,
     8192,
     16,
     32,
     8,
     128256,
     true,
     false,
     false,
     false,
     1e-5f,
     {ROPE_LLAMA3, 500000, 32, 1, 4, 8192, 1},
     131072},
    {"llama-3-8b",
     "llama",
     4096,
     14336,
     32,
     32,
     8,
     128256,
     false,
     false,
     false,
     false,
     1e-5f,
     {.theta = 500000, .factor = 1, .partial = 1},
     8192},
    {"pythia-1.4b",
     "gpt_neox",
     2048,
     8192,
     24,
     16,
     16,
     50304,
     false,
     true,
     true,
     true,
     1e-5f,
     {.theta = 10000, .factor = 1, .partial = 0.25},
     2048},
};

enum err model_config_shape(const char *shape, struct model_config *out, struct err_msg *em) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        if (strcmp(s->name, shape) != 0)
            continue;
        const struct family *family = family_find(s->model_type);
        *out = (struct model_config){
            .family = family,
            .hidden = s->hidden,
            .intermediate = s->intermediate,
            .layers = s->layers,
            .heads = s->heads,
            .kv_heads = s->kv_heads,
            .head_dim = s->hidden / s->heads,
            .vocab = s->vocab,
            .max_positions = s->positions,
            .norm = family->norm_kind,
            .norm_eps = s->eps,
            .act = {family->gated ? ACT_SILU : ACT_GELU, family->gated},
            .rope = s->rope,
            .qkv_bias = s->qkv_bias,
            .o_bias = s->all_bias,
            .mlp_bias = s->all_bias,
            .parallel = s->parallel,
            .tied_head = s->tied,
            .embed_scale = 1,
            .attention_scale = (float)(1 / sqrt((double)s->hidden / s->heads)),
            .bos_id = -1,
            .eos_id = -1,
        };
        return ERR_OK;
    }
    return err_set(em, ERR_USAGE,
                   "no shape \"%.64s\"; known: smollm2-135m, qwen2.5-0.5b, "
                   "llama-3.2-1b, llama-3-8b, pythia-1.4b",
                   shape);
}
