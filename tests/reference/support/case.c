/* case: reading a folder of tests/reference/cases. */
#include "tests/reference/support/case.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

const char *const ref_cases[] = {
    "llama-gqa",       "llama-tied-bias", "llama-rope3",    "llama-rope-linear",
    "llama-head-dim",  "qwen2",           "mistral-window", "neox",
    "neox-sequential", "llama-bf16",      "llama-dora",     "neox-dora"};
const int ref_n_cases = sizeof ref_cases / sizeof ref_cases[0];

static int32_t *int_array(const json_t *a, int32_t *n) {
    *n = (int32_t)json_array_size(a);
    int32_t *out = xcalloc((size_t)*n + 1, sizeof *out);
    for (int32_t i = 0; i < *n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(a, (size_t)i));
    return out;
}

static void read_rows(struct ref_case *c, const char *path) {
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f, "%s", path);
    json_t *row;
    while (c->n_rows < REF_ROWS_MAX && (row = json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL))) {
        struct ref_row *r = &c->rows[c->n_rows++];
        int32_t n_labels;
        r->ids = int_array(json_object_get(row, "input_ids"), &r->n);
        r->labels = int_array(json_object_get(row, "labels"), &n_labels);
        cr_assert_eq(r->n, n_labels);
        json_decref(row);
    }
    fclose(f);
    cr_assert_gt(c->n_rows, 0);
}

void ref_case_open(struct ref_case *c, const char *name, enum dtype dtype, int threads) {
    struct err_msg em = ERR_MSG_INIT;
    char path[512];
    *c = (struct ref_case){0};
    (void)snprintf(c->dir, sizeof c->dir, "tests/reference/cases/%s", name);
    cr_assert_eq(ref_device_open(threads, &c->dev, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(model_open(c->dev, c->dir, dtype, &c->model, &em), ERR_OK, "%s", em.text);
    (void)snprintf(path, sizeof path, "%s/expected.json", c->dir);
    c->expected = json_load_file(path, 0, NULL);
    cr_assert_not_null(c->expected, "%s", path);
    (void)snprintf(path, sizeof path, "%s/rows.jsonl", c->dir);
    read_rows(c, path);
}

void ref_case_adapter(struct ref_case *c) {
    struct err_msg em = ERR_MSG_INIT;
    char path[512];
    (void)snprintf(path, sizeof path, "%s/adapter", c->dir);
    cr_assert_eq(adapter_open(c->model, path, &c->adapter, &em), ERR_OK, "%s", em.text);
}

void ref_case_close(struct ref_case *c) {
    for (int i = 0; i < c->n_rows; i++) {
        free(c->rows[i].ids);
        free(c->rows[i].labels);
    }
    json_decref(c->expected);
    adapter_free(c->adapter);
    model_close(c->model);
    device_close(c->dev);
}

void ref_batch_make(struct ref_batch *b, const struct ref_case *c, const int *which, int n) {
    int32_t tokens = 0, targets = 0;
    for (int i = 0; i < n; i++)
        tokens += c->rows[which[i]].n;
    b->ids = xcalloc((size_t)tokens, sizeof(int32_t));
    b->pos = xcalloc((size_t)tokens, sizeof(int32_t));
    b->keys = xcalloc((size_t)tokens, sizeof(uint64_t));
    b->seq_start = xcalloc((size_t)n + 1, sizeof(int32_t));
    b->target_rows = xcalloc((size_t)tokens, sizeof(int32_t));
    b->target_ids = xcalloc((size_t)tokens, sizeof(int32_t));
    tokens = 0;
    for (int i = 0; i < n; i++) {
        const struct ref_row *r = &c->rows[which[i]];
        for (int32_t k = 0; k < r->n; k++, tokens++) {
            b->ids[tokens] = r->ids[k];
            b->pos[tokens] = k;
            b->keys[tokens] = (uint64_t)i << 32 | (uint64_t)k;
            if (k > 0 && r->labels[k] != -100) {
                b->target_rows[targets] = tokens - 1;
                b->target_ids[targets++] = r->labels[k];
            }
        }
        b->seq_start[i + 1] = tokens;
    }
    b->host = (struct host_batch){
        tokens, n, targets, b->ids, b->pos, b->seq_start, b->target_rows, b->target_ids, b->keys};
}

void ref_batch_clear(struct ref_batch *b) {
    free(b->ids);
    free(b->pos);
    free(b->keys);
    free(b->seq_start);
    free(b->target_rows);
    free(b->target_ids);
}

struct pass *ref_pass(struct ref_case *c, bool training) {
    struct err_msg em = ERR_MSG_INIT;
    struct pass *p;
    int32_t tokens = 0;
    for (int i = 0; i < c->n_rows; i++)
        tokens += c->rows[i].n;
    const struct pass_limits limits = {tokens, c->n_rows, tokens, training, 0};
    cr_assert_eq(pass_new(c->model, c->adapter, &limits, &p, &em), ERR_OK, "%s", em.text);
    return p;
}
