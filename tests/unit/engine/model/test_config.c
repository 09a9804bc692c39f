/* config.json: both forms of transformers, defaults, and refusals that name the key. */
#include "engine/model/config.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/model/family.h"
#include "engine/model/internal.h"

#define LLAMA                                                                                      \
    "\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,"                        \
    "\"num_hidden_layers\":3,\"num_attention_heads\":8,\"num_key_value_heads\":4,"                 \
    "\"vocab_size\":100,\"max_position_embeddings\":128"

static enum err read_text(const char *text, struct model_config *out, struct err_msg *em) {
    char dir[] = "/tmp/ffwd-test-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    FILE *f = fopen(path, "w");
    fputs(text, f);
    fclose(f);
    err_clear(em);
    enum err e = model_config_read(dir, out, em);
    unlink(path);
    rmdir(dir);
    return e;
}

/* Keys of LLAMA, then these (the last one of a name counts). */
static enum err read_with(const char *more, struct model_config *out, struct err_msg *em) {
    char text[2048];
    (void)snprintf(text, sizeof text, "{" LLAMA "%s%s}", more[0] != '\0' ? "," : "", more);
    return read_text(text, out, em);
}

static struct model_config read_good(const char *more) {
    struct model_config c;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(read_with(more, &c, &em), ERR_OK, "%s: %s", more, em.text);
    return c;
}

Test(config, fills_what_is_left_out) {
    struct model_config c = read_good("\"num_key_value_heads\":null,\"head_dim\":null");
    cr_assert(c.hidden == 64 && c.intermediate == 96 && c.layers == 3 && c.heads == 8);
    cr_assert(c.kv_heads == 8 && c.head_dim == 8 && c.vocab == 100 && c.max_positions == 128);
    cr_assert(c.act.kind == ACT_SILU && c.act.gated && c.norm == NORM_RMS);
    cr_assert_float_eq(c.norm_eps, 1e-6, 1e-12);
    cr_assert(c.rope.kind == ROPE_DEFAULT && c.rope.theta == 10000);
    cr_assert(!c.tied_head && !c.qkv_bias && !c.o_bias && !c.mlp_bias);
    cr_assert(c.bos_id == -1 && c.eos_id == -1 && layer_window(&c, 0) == 0);
}

Test(config, reads_biases_heads_and_tokens) {
    struct model_config c = read_good("\"attention_bias\":true,\"mlp_bias\":true,\"head_dim\":20,"
                                      "\"tie_word_embeddings\":true,\"rms_norm_eps\":1e-5,"
                                      "\"bos_token_id\":3,\"eos_token_id\":[9,10]");
    cr_assert(c.qkv_bias && c.o_bias && c.mlp_bias && c.tied_head && c.head_dim == 20);
    cr_assert(c.bos_id == 3 && c.eos_id == 9);
    cr_assert_float_eq(c.attention_scale, 1 / sqrt(20), 1e-7);
    cr_assert_eq(site_out(&c, SITE_QKV), 8 * 20 + 2 * 4 * 20);
    cr_assert_eq(site_in(&c, SITE_O), 160);
}

Test(config, token_ids_outside_the_vocabulary_are_none) {
    cr_assert_eq(read_good("\"eos_token_id\":50256").eos_id, -1);
}

Test(config, rope_is_the_same_in_both_forms) {
    static const char *const forms[] = {
        "\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
        "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
        "\"original_max_position_embeddings\":8192},\"torch_dtype\":\"bfloat16\"",
        "\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.0,"
        "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,"
        "\"rope_theta\":500000.0},\"dtype\":\"bfloat16\"",
        "\"rope_theta\":500000,\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,"
        "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":8192}"};
    for (int i = 0; i < 3; i++) {
        struct rope_config r = read_good(forms[i]).rope;
        cr_expect(r.kind == ROPE_LLAMA3 && r.theta == 500000 && r.factor == 8, "form %d", i);
        cr_expect(r.low_freq_factor == 1 && r.high_freq_factor == 4, "form %d", i);
        cr_expect(r.original_positions == 8192, "form %d", i);
    }
    cr_assert_eq(read_good("\"rope_scaling\":null,\"rope_theta\":100").rope.theta, 100);
    cr_assert_eq(read_good("\"rope_parameters\":{\"rope_theta\":7.0}").rope.theta, 7);
    cr_assert_eq(read_good("\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}").rope.kind,
                 ROPE_LINEAR);
}

Test(config, qwen2_has_biases_on_q_k_v_and_a_window_only_when_asked) {
    struct model_config c =
        read_good("\"model_type\":\"qwen2\",\"sliding_window\":32,\"use_sliding_window\":false");
    cr_assert(c.qkv_bias && !c.o_bias && !c.mlp_bias && layer_window(&c, 2) == 0);
    c = read_good("\"model_type\":\"qwen2\",\"sliding_window\":32,\"use_sliding_window\":true,"
                  "\"max_window_layers\":1");
    cr_assert(layer_window(&c, 0) == 0 && layer_window(&c, 1) == 32 && layer_window(&c, 2) == 32);
    c = read_good("\"model_type\":\"qwen2\",\"sliding_window\":32,\"use_sliding_window\":true,"
                  "\"layer_types\":[\"sliding_attention\",\"full_attention\",\"full_attention\"]");
    cr_assert(layer_window(&c, 0) == 32 && layer_window(&c, 1) == 0);
}

Test(config, mistral_has_its_window_unless_it_is_null) {
    struct model_config c = read_good("\"model_type\":\"mistral\"");
    cr_assert(layer_window(&c, 0) == 4096 && layer_window(&c, 2) == 4096);
    c = read_good("\"model_type\":\"mistral\",\"sliding_window\":null");
    cr_assert_eq(layer_window(&c, 0), 0);
}

Test(config, gpt_neox_is_the_same_in_both_forms) {
    static const char *const forms[] = {
        "\"rotary_pct\":0.5,\"rotary_emb_base\":500",
        "\"rope_parameters\":{\"rope_theta\":500.0,\"partial_rotary_factor\":0.5}"};
    for (int i = 0; i < 2; i++) {
        char more[256];
        (void)snprintf(more, sizeof more,
                       "\"model_type\":\"gpt_neox\",\"num_key_value_heads\":8,%s", forms[i]);
        struct model_config c = read_good(more);
        cr_expect(c.rope.theta == 500 && rope_columns(&c) == 4, "form %d", i);
        cr_expect(c.parallel && c.qkv_bias && c.o_bias && c.mlp_bias && c.norm == NORM_LAYER);
        cr_expect(c.act.kind == ACT_GELU && !c.act.gated);
        cr_expect_float_eq(c.norm_eps, 1e-5, 1e-10);
    }
    cr_assert_eq(rope_columns(&(struct model_config){.head_dim = 80, .rope = {.partial = 0.25}}),
                 20);
}

/* Stored [heads, 3, head_dim]; q|k|v is [3, heads, head_dim]. */
Test(config, gpt_neox_rows_are_reordered_onto_all_stored_rows) {
    struct model_config c = {.family = family_find("gpt_neox"), .heads = 3, .head_dim = 2};
    static const int64_t want[18] = {0, 1, 6, 7, 12, 13, 2, 3, 8, 9, 14, 15, 4, 5, 10, 11, 16, 17};
    for (int64_t r = 0; r < 18; r++)
        cr_assert_eq(site_stored_row(&c, SITE_QKV, r), want[r]);
    cr_assert_eq(site_stored_row(&c, SITE_O, 5), 5);
}

struct bad {
    char more[160];
    enum err code;
    char reason[64];
};

ParameterizedTestParameters(config, refuses_by_key) {
    static struct bad bad[] = {
        {"\"model_type\":\"gpt_bigcode\"", ERR_UNSUPPORTED, "\"gpt_bigcode\" is not supported"},
        {"\"model_type\":null", ERR_INPUT, "\"model_type\" is missing"},
        {"\"hidden_size\":null", ERR_INPUT, "\"hidden_size\" is missing"},
        {"\"hidden_size\":\"64\"", ERR_INPUT, "\"hidden_size\" must be a whole number"},
        {"\"hidden_size\":64.5", ERR_INPUT, "\"hidden_size\" must be a whole number"},
        {"\"hidden_size\":0", ERR_INPUT, "\"hidden_size\""},
        {"\"hidden_size\":1000000000000", ERR_INPUT, "\"hidden_size\""},
        {"\"hidden_size\":-64", ERR_INPUT, "\"hidden_size\""},
        {"\"intermediate_size\":2147483648", ERR_INPUT, "\"intermediate_size\""},
        {"\"num_hidden_layers\":100000", ERR_INPUT, "\"num_hidden_layers\""},
        {"\"vocab_size\":99999999", ERR_INPUT, "\"vocab_size\""},
        {"\"num_attention_heads\":7,\"num_key_value_heads\":7", ERR_INPUT, "\"hidden_size\" (64)"},
        {"\"num_key_value_heads\":3", ERR_INPUT, "not a multiple of \"num_key_value_heads\""},
        {"\"num_key_value_heads\":0", ERR_INPUT, "\"num_key_value_heads\""},
        {"\"head_dim\":7", ERR_INPUT, "must be even"},
        {"\"head_dim\":60000", ERR_INPUT, "wider than"},
        {"\"hidden_act\":\"relu6\"", ERR_UNSUPPORTED, "\"relu6\" is not supported"},
        {"\"tie_word_embeddings\":1", ERR_INPUT, "\"tie_word_embeddings\" must be true or false"},
        {"\"rms_norm_eps\":\"x\"", ERR_INPUT, "\"rms_norm_eps\""},
        {"\"eos_token_id\":\"x\"", ERR_INPUT, "\"eos_token_id\""},
        {"\"rope_theta\":0", ERR_INPUT, "\"rope_theta\""},
        {"\"rope_scaling\":3", ERR_INPUT, "\"rope_scaling\" must be an object"},
        {"\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4}", ERR_UNSUPPORTED,
         "\"yarn\" is not supported"},
        {"\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}", ERR_UNSUPPORTED, "\"dynamic\""},
        {"\"rope_scaling\":{\"type\":\"linear\"}", ERR_INPUT, "\"rope_scaling.factor\""},
        {"\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8}", ERR_INPUT,
         "\"rope_parameters.low_freq_factor\" is missing"},
        {"\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1}}", ERR_UNSUPPORTED,
         "each layer type"},
        {"\"partial_rotary_factor\":0.5", ERR_UNSUPPORTED, "partial_rotary_factor"},
        {"\"quantization_config\":{\"quant_method\":\"gptq\"}", ERR_UNSUPPORTED,
         "\"quantization_config\""},
        {"\"model_type\":\"qwen2\",\"use_sliding_window\":true,\"layer_types\":[\"x\"]", ERR_INPUT,
         "\"layer_types\""},
    };
    return cr_make_param_array(struct bad, bad, sizeof bad / sizeof bad[0]);
}

ParameterizedTest(struct bad *bad, config, refuses_by_key) {
    struct model_config c;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(read_with(bad->more, &c, &em), bad->code, "%s: %s", bad->more, em.text);
    cr_expect_not_null(strstr(em.text, bad->reason), "\"%s\" is not in \"%s\"", bad->reason,
                       em.text);
    cr_expect_not_null(strstr(em.text, "config.json"), "%s", em.text);
}

Test(config, refuses_what_is_not_json) {
    struct model_config c;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(read_text("{\"a\":}", &c, &em), ERR_INPUT);
    cr_expect_not_null(strstr(em.text, "byte "), "%s", em.text);
    cr_assert_eq(read_text("[1]", &c, &em), ERR_INPUT);
    cr_assert_eq(read_text("", &c, &em), ERR_INPUT);
    err_clear(&em);
    cr_assert_eq(model_config_read("/tmp/ffwd-no-such-folder", &c, &em), ERR_NOT_FOUND);
}

Test(config, named_shapes_have_their_published_sizes) {
    static const struct {
        const char *name;
        double millions;
    } shapes[] = {{"smollm2-135m", 134.5},
                  {"qwen2.5-0.5b", 493.9},
                  {"llama-3.2-1b", 1235.7},
                  {"llama-3-8b", 7504.9},
                  {"pythia-1.4b", 1311.0}};
    for (int i = 0; i < 5; i++) {
        struct model m = {0};
        struct err_msg em = ERR_MSG_INIT;
        cr_assert_eq(model_config_shape(shapes[i].name, &m.cfg, &em), ERR_OK);
        double n = (double)model_matmul_weights(&m) / 1e6;
        cr_expect_float_eq(n, shapes[i].millions, 0.001 * n, "%s: %g", shapes[i].name, n);
    }
    struct model_config c;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(model_config_shape("gpt-5", &c, &em), ERR_USAGE);
}

/* transformers' LlamaRotaryEmbedding for head_dim 8, theta 10000, llama3 with factor 8, low 1,
 * high 4, original 64: inv_freq. */
Test(config, llama3_frequencies_are_transformers) {
    struct model_config c =
        read_good("\"head_dim\":8,\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8.0,"
                  "\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                  "\"original_max_position_embeddings\":64,\"rope_theta\":10000.0}");
    static const double want[4] = {1.0, 0.0130422562, 0.00124999997, 0.000125000006};
    float cosines[8], sines[8];
    rope_tables(&c, 2, cosines, sines);
    for (int i = 0; i < 4; i++) {
        cr_expect_float_eq(cosines[i], 1, 1e-7);
        cr_expect_float_eq(sines[4 + i], sin(want[i]), 1e-7, "pair %d: %.9g", i, sines[4 + i]);
        cr_expect_float_eq(cosines[4 + i], cos(want[i]), 1e-7, "pair %d", i);
    }
}
