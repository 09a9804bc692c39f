/* Model folders: one file, shards with an index, and everything that can be wrong with them. */
#include "engine/model/weights.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/model/safetensors.h"

static char dir[] = "/tmp/ffwd-test-XXXXXX";
static const float values[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

static void make_dir(void) {
    cr_assert_not_null(mkdtemp(dir));
}

static void drop_dir(void) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(file_remove_tree(dir, &em), ERR_OK);
}

TestSuite(weights, .init = make_dir, .fini = drop_dir);

static struct safetensor tensor(const char *name, uint64_t rows, uint64_t cols) {
    struct safetensor t = {.name = name,
                           .dtype = "F32",
                           .rank = cols != 0 ? 2 : 1,
                           .shape = {rows, cols},
                           .data = values};
    t.bytes = (size_t)(rows * (cols != 0 ? cols : 1)) * sizeof(float);
    return t;
}

static void write_tensors(const char *name, const struct safetensor *t, size_t n) {
    struct err_msg em = ERR_MSG_INIT;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert_eq(safetensors_write(path, t, n, &em), ERR_OK, "%s", em.text);
}

static void write_index(const char *text) {
    struct err_msg em = ERR_MSG_INIT;
    char path[128];
    (void)snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    cr_assert_eq(file_write(path, text, strlen(text), &em), ERR_OK, "%s", em.text);
}

static struct weights *open_good(void) {
    struct err_msg em = ERR_MSG_INIT;
    struct weights *w;
    cr_assert_eq(weights_open(dir, &w, &em), ERR_OK, "%s", em.text);
    return w;
}

static void expect_refused(enum err code, const char *reason) {
    struct err_msg em = ERR_MSG_INIT;
    struct weights *w;
    cr_assert_eq(weights_open(dir, &w, &em), code, "%s", em.text);
    cr_assert_null(w);
    cr_expect_not_null(strstr(em.text, reason), "\"%s\" is not in \"%s\"", reason, em.text);
}

Test(weights, takes_tensors_of_one_file) {
    const struct safetensor t[] = {tensor("a", 2, 3), tensor("b", 4, 0)};
    struct err_msg em = ERR_MSG_INIT;
    struct host_tensor h;
    write_tensors("model.safetensors", t, 2);
    struct weights *w = open_good();
    cr_assert_eq(weights_take(w, "a", 2, 3, &h, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(memcmp(h.data, values, 24), 0);
    host_tensor_release(&h);
    cr_assert_eq(weights_take(w, "a", 3, 2, &h, &em), ERR_INPUT);
    cr_expect_not_null(strstr(em.text, "\"a\" has the shape [2, 3]; config.json asks for [3, 2]"),
                       "%s", em.text);
    err_clear(&em);
    cr_assert_eq(weights_take(w, "b", 2, 2, &h, &em), ERR_INPUT);
    err_clear(&em);
    cr_assert_eq(weights_take(w, "c", 2, 2, &h, &em), ERR_INPUT);
    cr_expect_not_null(strstr(em.text, "\"c\" is missing"), "%s", em.text);
    weights_close(w);
}

Test(weights, names_a_tensor_that_is_not_of_the_model) {
    const struct safetensor t[] = {tensor("a", 2, 3), tensor("x.rotary_emb.inv_freq", 4, 0),
                                   tensor("y", 1, 0)};
    static const char *const ignored[] = {".rotary_emb.inv_freq", NULL};
    struct err_msg em = ERR_MSG_INIT;
    struct host_tensor h;
    for (size_t n = 2; n <= 3; n++) {
        write_tensors("model.safetensors", t, n);
        struct weights *w = open_good();
        cr_assert_eq(weights_take(w, "a", 2, 3, &h, &em), ERR_OK);
        host_tensor_release(&h);
        cr_assert_eq(weights_finish(w, ignored, "a", "head", &em), n == 2 ? ERR_OK : ERR_INPUT);
        weights_close(w);
    }
    cr_expect_not_null(strstr(em.text, "\"y\" is not part of the model"), "%s", em.text);
}

Test(weights, a_tied_head_may_be_stored_again_but_not_differ) {
    struct safetensor t[] = {tensor("embed", 2, 3), tensor("head", 2, 3)};
    struct err_msg em = ERR_MSG_INIT;
    struct host_tensor h;
    for (int differ = 0; differ < 2; differ++) {
        t[1].data = values + differ;
        write_tensors("model.safetensors", t, 2);
        struct weights *w = open_good();
        cr_assert_eq(weights_take(w, "embed", 2, 3, &h, &em), ERR_OK);
        host_tensor_release(&h);
        cr_assert_eq(weights_finish(w, NULL, "embed", "head", &em), differ ? ERR_INPUT : ERR_OK);
        weights_close(w);
    }
    cr_expect_not_null(strstr(em.text, "tie_word_embeddings"), "%s", em.text);
}

Test(weights, joins_shards_by_their_index) {
    const struct safetensor t[] = {tensor("a", 2, 3), tensor("b", 4, 0)};
    struct err_msg em = ERR_MSG_INIT;
    struct host_tensor h;
    write_tensors("one.safetensors", &t[0], 1);
    write_tensors("two.safetensors", &t[1], 1);
    write_index("{\"metadata\":{\"total_size\":40},"
                "\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
    struct weights *w = open_good();
    cr_assert_eq(weights_take(w, "b", 4, 0, &h, &em), ERR_OK, "%s", em.text);
    host_tensor_release(&h);
    cr_assert_eq(weights_take(w, "a", 2, 3, &h, &em), ERR_OK, "%s", em.text);
    host_tensor_release(&h);
    weights_close(w);
}

Test(weights, names_what_is_wrong_with_shards) {
    const struct safetensor a = tensor("a", 2, 3);
    expect_refused(ERR_NOT_FOUND, "there is no model.safetensors");
    write_tensors("one.safetensors", &a, 1);
    write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"gone.safetensors\"}}");
    expect_refused(ERR_NOT_FOUND, "the shard \"gone.safetensors\"");
    write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"one.safetensors\"}}");
    expect_refused(ERR_INPUT, "the tensor \"b\" is missing");
    write_tensors("two.safetensors", &a, 1);
    write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}");
    expect_refused(ERR_INPUT, "\"b\" is missing");
    write_index("{\"weight_map\":{\"a\":\"one.safetensors\",\"b\":1}}");
    expect_refused(ERR_INPUT, "\"b\" must name a file");
    write_index("{\"weight_map\":{}}");
    expect_refused(ERR_INPUT, "weight_map");
    write_index("{}");
    expect_refused(ERR_INPUT, "weight_map");
    write_index("{\"weight_map\":");
    expect_refused(ERR_INPUT, "byte ");
}

Test(weights, a_tensor_in_two_shards_is_refused) {
    const struct safetensor t[] = {tensor("a", 2, 3), tensor("b", 4, 0)};
    write_tensors("one.safetensors", t, 2);
    write_tensors("two.safetensors", &t[0], 1);
    write_index("{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}}");
    expect_refused(ERR_INPUT, "\"a\" is also in");
}

Test(weights, shard_names_stay_in_the_folder) {
    static const char *const names[] = {
        "../one.safetensors", "/etc/passwd", "sub/one.safetensors", "a\\\\b", "..", ".", ""};
    const struct safetensor a = tensor("a", 2, 3);
    write_tensors("one.safetensors", &a, 1);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "{\"weight_map\":{\"a\":\"%s\"}}", names[i]);
        write_index(text);
        expect_refused(ERR_INPUT, "not the name of a file in the same folder");
    }
}

Test(weights, integer_weights_are_refused) {
    struct safetensor t = tensor("a", 4, 0);
    struct err_msg em = ERR_MSG_INIT;
    struct host_tensor h;
    t.dtype = "I32";
    write_tensors("model.safetensors", &t, 1);
    struct weights *w = open_good();
    cr_assert_eq(weights_take(w, "a", 4, 0, &h, &em), ERR_UNSUPPORTED);
    cr_expect_not_null(strstr(em.text, "stored as I32"), "%s", em.text);
    weights_close(w);
}

/* A header need not be padded: data then starts at an odd byte. */
Test(weights, unaligned_data_is_read) {
    const char *header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}  ";
    char path[128];
    struct err_msg em = ERR_MSG_INIT;
    struct host_tensor h;
    (void)snprintf(path, sizeof path, "%s/model.safetensors", dir);
    FILE *f = fopen(path, "wb");
    for (int i = 0; i < 8; i++)
        fputc(i == 0 ? (int)strlen(header) : 0, f);
    fputs(header, f);
    fwrite(values, sizeof *values, 3, f);
    fclose(f);
    cr_assert_neq(strlen(header) % 4, 0u);
    struct weights *w = open_good();
    cr_assert_eq(weights_take(w, "a", 3, 0, &h, &em), ERR_OK, "%s", em.text);
    cr_assert_eq((uintptr_t)h.data % sizeof(float), 0u);
    cr_assert_eq(memcmp(h.data, values, 12), 0);
    host_tensor_release(&h);
    weights_close(w);
}

Test(weights, random_ones_are_the_same_every_time) {
    struct host_tensor a, b;
    struct err_msg em = ERR_MSG_INIT;
    struct weights *w = weights_random(DTYPE_BF16), *v = weights_random(DTYPE_BF16);
    cr_assert_eq(weights_take(w, "x", 7, 9, &a, &em), ERR_OK);
    cr_assert_eq(weights_take(v, "x", 7, 9, &b, &em), ERR_OK);
    cr_assert_eq(memcmp(a.data, b.data, 7 * 9 * 2), 0);
    host_tensor_release(&a);
    host_tensor_release(&b);
    weights_close(w);
    weights_close(v);
}

/* IEEE 754: known pairs, ties to even, subnormals, infinities and NaN. */
Test(weights, number_formats_convert_exactly) {
    static const uint16_t f16[] = {0x3C00, 0xC000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0x7C00, 0x8000};
    static const float want[] = {1, -2, 0x1p-24f, 0x1.ff8p-15f, 0x1p-14f, 65504, INFINITY, -0.0f};
    float got[8];
    convert_elements(f16, DTYPE_F16, got, DTYPE_F32, 8);
    cr_assert_eq(memcmp(got, want, sizeof want), 0);
    const uint16_t nan16 = 0x7E00;
    convert_elements(&nan16, DTYPE_F16, got, DTYPE_F32, 1);
    cr_assert(isnan(got[0]));
    static const float f32[] = {1, 0x1.01p0f, 0x1.03p0f, 0x1.010002p0f, -INFINITY, 0x1.fffffep127f};
    static const uint16_t rounded[] = {0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xFF80, 0x7F80};
    uint16_t bf16[6];
    convert_elements(f32, DTYPE_F32, bf16, DTYPE_BF16, 6);
    cr_assert_eq(memcmp(bf16, rounded, sizeof rounded), 0);
    const float nan32 = NAN;
    convert_elements(&nan32, DTYPE_F32, bf16, DTYPE_BF16, 1);
    cr_assert((bf16[0] & 0x7F80) == 0x7F80 && (bf16[0] & 0x7F) != 0);
}
