/* Opening model folders: what does not fit is refused before anything is loaded. */
#include "engine/model/model.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define CASE "tests/reference/cases/llama-gqa"

/* The case's weights under a configuration with one key replaced. */
static enum err check_changed(const char *key, const char *json, struct err_msg *em) {
    char dir[] = "/tmp/ffwd-test-XXXXXX", path[128], target[4096];
    struct err_msg ignored = ERR_MSG_INIT;
    struct model_config c;
    cr_assert_not_null(mkdtemp(dir));
    json_t *config = json_load_file(CASE "/config.json", 0, NULL);
    json_object_set_new(config, key, json_loads(json, JSON_DECODE_ANY, NULL));
    (void)snprintf(path, sizeof path, "%s/config.json", dir);
    cr_assert_eq(json_dump_file(config, path, 0), 0);
    json_decref(config);
    cr_assert_not_null(realpath(CASE "/model.safetensors", target));
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    cr_assert_eq(symlink(target, path), 0);
    err_clear(em);
    enum err e = model_check(dir, &c, em);
    cr_assert_eq(file_remove_tree(dir, &ignored), ERR_OK);
    return e;
}

Test(model, a_folder_that_does_not_fit_its_configuration_is_refused_by_tensor) {
    static const struct {
        const char *key, *json, *reason;
    } changes[] = {
        {"hidden_size", "64",
         "\"model.embed_tokens.weight\" has the shape [61, 32]; config.json "
         "asks for [61, 64]"},
        {"vocab_size", "62", "asks for [62, 32]"},
        {"intermediate_size", "47", "\"model.layers.0.mlp.gate_proj.weight\" has the shape"},
        {"num_key_value_heads", "4", "\"model.layers.0.self_attn.k_proj.weight\" has the shape"},
        {"num_hidden_layers", "3", "\"model.layers.2.input_layernorm.weight\" is missing"},
        {"num_hidden_layers", "1", "\"model.layers.1."},
        {"attention_bias", "true", "\"model.layers.0.self_attn.q_proj.bias\" is missing"},
        {"tie_word_embeddings", "true", "tie_word_embeddings"},
        {"vocab_size", "2000000", "asks for [2000000, 32]"},
    };
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(check_changed("use_cache", "false", &em), ERR_OK, "%s", em.text);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        cr_expect_eq(check_changed(changes[i].key, changes[i].json, &em), ERR_INPUT, "%s=%s",
                     changes[i].key, changes[i].json);
        cr_expect_not_null(strstr(em.text, changes[i].reason), "\"%s\" is not in \"%s\"",
                           changes[i].reason, em.text);
    }
}

/* DESIGN's convention: 2·N·tokens + causal attention; N by hand from the case's sizes. */
Test(model, flops_are_counted_by_hand) {
    struct device *dev;
    struct model *m;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cpu", 1, &dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(model_open(dev, CASE, DTYPE_F32, &m, &em), ERR_OK, "%s", em.text);
    int64_t layer = 32 * (32 + 16 + 16) + 32 * 32 + 3 * 32 * 48, n = 2 * layer + 61 * 32;
    const int32_t lengths[] = {3, 5};
    cr_assert_eq(model_matmul_weights(m), n);
    cr_assert_float_eq(model_forward_flops(m, lengths, 2),
                       2.0 * (double)n * 8 + 2 * 4.0 * 4 * 8 * (6 + 15), 1e-6);
    model_close(m);
    device_close(dev);
}

Test(model, a_batch_that_does_not_fit_is_refused) {
    struct device *dev;
    struct model *m;
    struct pass *p;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(device_open("cpu", 1, &dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(model_open(dev, CASE, DTYPE_F32, &m, &em), ERR_OK, "%s", em.text);
    const struct pass_limits limits = {4, 1, 4, false, 0};
    cr_assert_eq(pass_new(m, NULL, &limits, &p, &em), ERR_OK, "%s", em.text);
    int32_t ids[] = {1, 2, 3, 4, 5}, pos[] = {0, 1, 2, 3, 4}, start[] = {0, 3}, rows[] = {0, 1},
            targets[] = {2, 3};
    struct host_batch b = {3, 1, 2, ids, pos, start, rows, targets, NULL};
    float nll[2];
    cr_assert_eq(pass_eval(p, &b, nll, NULL, &em), ERR_OK, "%s", em.text);
    cr_assert(isfinite(nll[0]) && isfinite(nll[1]));
    b.n_tokens = start[1] = 5;
    cr_assert_neq(pass_eval(p, &b, nll, NULL, &em), ERR_OK);
    b.n_tokens = start[1] = 3;
    ids[1] = 61;
    err_clear(&em);
    cr_assert_eq(pass_eval(p, &b, nll, NULL, &em), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "id 61"), "%s", em.text);
    ids[1] = 2, targets[0] = -1;
    cr_assert_eq(pass_eval(p, &b, nll, NULL, &em), ERR_INPUT);
    targets[0] = 2, pos[2] = 4;
    cr_assert_eq(pass_eval(p, &b, nll, NULL, &em), ERR_INPUT);
    pass_free(p);
    model_close(m);
    device_close(dev);
}
