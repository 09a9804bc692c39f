/* Adapters: targets, initial values, and PEFT folders that must be refused. */
#include "engine/model/adapter.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/model/internal.h"
#include "engine/model/safetensors.h"

#define MODEL "tests/reference/cases/llama-gqa"

static struct device *dev;
static struct model *model;

static void open_model(void) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cpu", 1, &dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(model_open(dev, MODEL, DTYPE_F32, &model, &em), ERR_OK, "%s", em.text);
}

static void close_model(void) {
    model_close(model);
    device_close(dev);
}

TestSuite(adapter, .init = open_model, .fini = close_model);

static float *weights_of(struct adapter *ad) {
    struct err_msg em = ERR_MSG_INIT;
    float *w = xcalloc(adapter_size(ad), sizeof *w);
    cr_assert_eq(dev->ops->download(dev, w, adapter_mem(ad)->w, adapter_size(ad) * sizeof *w, &em),
                 ERR_OK);
    return w;
}

static struct adapter *make(const struct lora_options *o, uint64_t seed) {
    struct err_msg em = ERR_MSG_INIT;
    struct adapter *ad;
    cr_assert_eq(adapter_new(model, o, seed, &ad, &em), ERR_OK, "%s", em.text);
    return ad;
}

Test(adapter, a_wide_one_has_twice_the_values) {
    const struct lora_options o = {.rank = 3, .alpha = 6},
                              wide = {.rank = 3, .alpha = 6, .wide = true};
    struct adapter *a = make(&o, 1), *b = make(&wide, 1);
    float *w = weights_of(a), *v = weights_of(b), largest = 0;
    for (size_t i = 0; i < adapter_size(a); i++) {
        cr_assert_float_eq(v[i], 2 * w[i], 0);
        largest = fmaxf(largest, w[i]);
    }
    cr_assert_gt(largest, 0);
    free(w);
    free(v);
    adapter_free(a);
    adapter_free(b);
}

Test(adapter, a_new_dora_adapter_has_the_norms_of_the_frozen_rows) {
    const struct lora_options o = {.rank = 3, .alpha = 6, .use_dora = true};
    struct err_msg em = ERR_MSG_INIT;
    struct safetensors *st;
    struct adapter *ad = make(&o, 1);
    float *w = weights_of(ad);
    size_t n, vectors = 0;
    struct adapter_entry *list = adapter_entries(ad, &n);
    cr_assert_eq(safetensors_open(MODEL "/model.safetensors", &st, &em), ERR_OK, "%s", em.text);
    for (size_t i = 0; i < n; i++) {
        char name[512];
        const char *module = list[i].name + strlen("base_model.model.");
        if (list[i].kind != ENTRY_MAGNITUDE)
            continue;
        vectors++;
        (void)snprintf(name, sizeof name, "%.*sweight",
                       (int)(strlen(module) - strlen("lora_magnitude_vector")), module);
        const struct safetensor *t = safetensors_find(st, name);
        cr_assert_not_null(t, "%s", name);
        cr_assert_eq(t->shape[0], (uint64_t)list[i].rows);
        for (size_t row = 0; row < t->shape[0]; row++) {
            double sum = 0;
            for (size_t col = 0; col < t->shape[1]; col++) {
                float v;
                memcpy(&v, (const char *)t->data + (row * t->shape[1] + col) * sizeof v, sizeof v);
                sum += (double)v * v;
            }
            cr_expect_float_eq(w[list[i].offset + row], sqrt(sum), 1e-5 * sqrt(sum));
        }
    }
    cr_assert_eq(vectors, 2u * 7);
    safetensors_close(st);
    free(list);
    free(w);
    adapter_free(ad);
}

Test(adapter, all_linear_is_every_projection_of_the_blocks) {
    const struct lora_options o = {.rank = 3, .alpha = 6};
    struct adapter *ad = make(&o, 1);
    const struct lora_options *got = adapter_options(ad);
    static const char *const want[] = {"down_proj", "gate_proj", "k_proj", "o_proj",
                                       "q_proj",    "up_proj",   "v_proj"};
    size_t n;
    struct adapter_entry *list = adapter_entries(ad, &n);
    cr_assert_eq(n, 2u * 7 * 2);
    cr_assert_eq(got->n_targets, 7);
    for (int i = 0; i < 7; i++)
        cr_expect_str_eq(got->targets[i], want[i]);
    free(list);
    adapter_free(ad);
}

Test(adapter, a_target_is_the_end_of_a_module_path) {
    const char *const one[] = {"layers.1.self_attn.v_proj"};
    const struct lora_options o = {.rank = 2, .alpha = 2, .targets = one, .n_targets = 1};
    struct adapter *ad = make(&o, 1);
    size_t n;
    struct adapter_entry *list = adapter_entries(ad, &n);
    cr_assert_eq(n, 2u);
    cr_expect_str_eq(list[0].name,
                     "base_model.model.model.layers.1.self_attn.v_proj.lora_A.weight");
    cr_expect_eq(ad->first_layer, 1);
    free(list);
    adapter_free(ad);
}

Test(adapter, unknown_targets_and_ranges_are_refused_by_field) {
    const char *const bad[] = {"q_proj", "lm_head"}, *const part[] = {"proj"};
    const struct lora_options o[] = {
        {.rank = 2, .alpha = 2, .targets = bad, .n_targets = 2},
        {.rank = 2, .alpha = 2, .targets = part, .n_targets = 1},
        {.rank = 2, .alpha = 2, .targets = bad, .n_targets = 0},
        {.rank = 0, .alpha = 2},
        {.rank = LIMIT_RANK + 1, .alpha = 2},
        {.rank = 2, .alpha = 0},
        {.rank = 2, .alpha = INFINITY},
        {.rank = 2, .alpha = 2, .dropout = 1},
        {.rank = 2, .alpha = 2, .dropout = NAN},
    };
    for (size_t i = 0; i < sizeof o / sizeof o[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        struct adapter *ad;
        cr_expect_eq(adapter_new(model, &o[i], 1, &ad, &em), ERR_INPUT, "%zu", i);
        cr_expect_null(ad);
        cr_expect_eq(strncmp(em.param, "lora.", 5), 0, "%zu: %s", i, em.param);
    }
}

/* PEFT: kaiming_uniform(a = √5) for A, zeros for B. */
Test(adapter, starts_uniform_in_a_and_zero_in_b) {
    const struct lora_options o = {.rank = 8, .alpha = 16};
    struct adapter *ad = make(&o, 42);
    float *w = weights_of(ad);
    size_t n;
    struct adapter_entry *list = adapter_entries(ad, &n);
    for (size_t i = 0; i < n; i++) {
        double bound = 1 / sqrt((double)list[i].cols), sum = 0, square = 0;
        int64_t count = list[i].rows * list[i].cols;
        for (int64_t k = 0; k < count; k++) {
            double v = w[list[i].offset + (size_t)k];
            cr_assert(list[i].kind == ENTRY_B ? v == 0 : fabs(v) <= bound * (1 + 1e-6));
            sum += v, square += v * v;
        }
        if (list[i].kind == ENTRY_B)
            continue;
        double deviation = bound / sqrt(3);
        cr_expect_lt(fabs(sum / (double)count), 5 * deviation / sqrt((double)count));
        cr_expect_float_eq(sqrt(square / (double)count), deviation, 0.15 * deviation);
    }
    free(list);
    free(w);
    adapter_free(ad);
}

/* A projection starts the same whichever others carry LoRA; another seed gives other values. */
Test(adapter, initial_values_depend_on_seed_and_projection_only) {
    const char *const one[] = {"v_proj"};
    const struct lora_options all = {.rank = 2, .alpha = 2},
                              some = {.rank = 2, .alpha = 2, .targets = one, .n_targets = 1};
    struct adapter *a = make(&all, 5), *b = make(&some, 5), *c = make(&some, 6);
    float *wa = weights_of(a), *wb = weights_of(b), *wc = weights_of(c);
    size_t bytes = 2 * 32 * sizeof(float);
    const struct lora *la = &a->layers[1].site[SITE_QKV], *lb = &b->layers[1].site[SITE_QKV];
    cr_assert_eq(memcmp(wa + la->a[2], wb + lb->a[2], bytes), 0);
    cr_assert_neq(memcmp(wb + lb->a[2], wc + lb->a[2], bytes), 0);
    free(wa), free(wb), free(wc);
    adapter_free(a), adapter_free(b), adapter_free(c);
}

Test(adapter, scale_is_alpha_over_rank_or_its_root) {
    struct lora_options o = {.rank = 16, .alpha = 32};
    cr_assert_float_eq(adapter_scale(&o), 2, 1e-6);
    o.use_rslora = true;
    cr_assert_float_eq(adapter_scale(&o), 8, 1e-6);
}

/* ---- folders -------------------------------------------------------------------------------- */

/* Copies the case's adapter with one key of its configuration replaced by this JSON. */
static enum err open_changed(const char *key, const char *json, struct err_msg *em) {
    char dir[] = "/tmp/ffwd-test-XXXXXX", path[128];
    struct err_msg ignored = ERR_MSG_INIT;
    struct adapter *ad;
    char *bytes;
    size_t len;
    cr_assert_not_null(mkdtemp(dir));
    json_t *config = json_load_file(MODEL "/adapter/adapter_config.json", 0, NULL);
    json_object_set_new(config, key, json_loads(json, JSON_DECODE_ANY, NULL));
    (void)snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    cr_assert_eq(json_dump_file(config, path, 0), 0);
    json_decref(config);
    cr_assert_eq(
        file_read(MODEL "/adapter/adapter_model.safetensors", 1 << 20, &bytes, &len, &ignored),
        ERR_OK);
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    cr_assert_eq(file_write(path, bytes, len, &ignored), ERR_OK);
    free(bytes);
    err_clear(em);
    enum err e = adapter_open(model, dir, &ad, em);
    cr_assert((e == ERR_OK) == (ad != NULL));
    adapter_free(ad);
    cr_assert_eq(file_remove_tree(dir, &ignored), ERR_OK);
    return e;
}

struct change {
    char key[32], json[96];
    enum err code;
    char reason[64];
};

ParameterizedTestParameters(adapter, opens_plain_lora_and_names_what_it_is_not) {
    static struct change changes[] = {
        {"r", "4", ERR_OK, ""},
        {"target_modules", "\"all-linear\"", ERR_OK, ""},
        {"init_lora_weights", "\"gaussian\"", ERR_OK, ""},
        {"some_future_key", "{\"a\":1}", ERR_OK, ""},
        {"rank_pattern", "{}", ERR_OK, ""},
        {"r", "8", ERR_INPUT, "does not have the shape [8, "},
        {"r", "null", ERR_INPUT, "\"r\" is missing"},
        {"r", "100000", ERR_INPUT, "\"r\" must be"},
        {"lora_alpha", "\"x\"", ERR_INPUT, "\"lora_alpha\""},
        {"target_modules", "[\"q_proj\"]", ERR_INPUT, "belongs to no projection"},
        {"target_modules", "[\"q_proj\",\"gone\"]", ERR_INPUT, "\"gone\" names no projection"},
        {"target_modules", "[1]", ERR_INPUT, "must hold strings"},
        {"target_modules", "[]", ERR_INPUT, "list of module names"},
        {"target_modules", "\".*\\\\.(q|v)_proj\"", ERR_UNSUPPORTED, "regular expression"},
        {"use_dora", "true", ERR_INPUT, "lora_magnitude_vector\" is missing"},
        {"modules_to_save", "[\"lm_head\"]", ERR_UNSUPPORTED, "\"modules_to_save\""},
        {"rank_pattern", "{\"q_proj\":2}", ERR_UNSUPPORTED, "\"rank_pattern\""},
        {"alpha_pattern", "{\"q_proj\":2}", ERR_UNSUPPORTED, "\"alpha_pattern\""},
        {"layers_to_transform", "[0]", ERR_UNSUPPORTED, "\"layers_to_transform\""},
        {"lora_bias", "true", ERR_UNSUPPORTED, "\"lora_bias\""},
        {"bias", "\"all\"", ERR_UNSUPPORTED, "\"bias\""},
        {"peft_type", "\"IA3\"", ERR_UNSUPPORTED, "\"IA3\""},
        {"init_lora_weights", "\"pissa\"", ERR_UNSUPPORTED, "changes the base model"},
    };
    return cr_make_param_array(struct change, changes, sizeof changes / sizeof changes[0]);
}

ParameterizedTest(struct change *c, adapter, opens_plain_lora_and_names_what_it_is_not) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(open_changed(c->key, c->json, &em), c->code, "%s=%s: %s", c->key, c->json,
                 em.text);
    cr_expect_not_null(strstr(em.text, c->reason), "\"%s\" is not in \"%s\"", c->reason, em.text);
}

/* The same values stored in half the bytes give the same adapter, rounded. */
Test(adapter, reads_bf16_tensors) {
    char dir[] = "/tmp/ffwd-test-XXXXXX", path[128];
    struct err_msg em = ERR_MSG_INIT;
    struct adapter *ad, *half;
    size_t n;
    cr_assert_not_null(mkdtemp(dir));
    cr_assert_eq(adapter_open(model, MODEL "/adapter", &ad, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(adapter_save(ad, dir, "x", &em), ERR_OK, "%s", em.text);
    struct adapter_entry *list = adapter_entries(ad, &n);
    float *w = weights_of(ad);
    uint16_t *bf16 = xcalloc(adapter_size(ad), sizeof *bf16);
    struct safetensor *t = xcalloc(n, sizeof *t);
    convert_elements(w, DTYPE_F32, bf16, DTYPE_BF16, (int64_t)adapter_size(ad));
    for (size_t i = 0; i < n; i++)
        t[i] = (struct safetensor){.name = list[i].name,
                                   .dtype = "BF16",
                                   .rank = 2,
                                   .shape = {(uint64_t)list[i].rows, (uint64_t)list[i].cols},
                                   .data = bf16 + list[i].offset,
                                   .bytes = (size_t)(list[i].rows * list[i].cols) * 2};
    (void)snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    cr_assert_eq(safetensors_write(path, t, n, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(adapter_open(model, dir, &half, &em), ERR_OK, "%s", em.text);
    float *v = weights_of(half);
    for (size_t i = 0; i < adapter_size(ad); i++)
        cr_assert_leq(fabsf(v[i] - w[i]), fabsf(w[i]) * 0x1p-8f);
    free(list), free(w), free(v), free(bf16), free(t);
    adapter_free(ad);
    adapter_free(half);
    cr_assert_eq(file_remove_tree(dir, &em), ERR_OK);
}
