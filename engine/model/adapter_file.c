/* adapter: PEFT's two files. Names, shapes and keys: peft/utils/save_and_load.py and
 * tuners/lora/config.py. The configuration is written with the keys that every PEFT since 0.9
 * knows, since older ones refuse unknown keys. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/model/adapter.h"
#include "engine/model/config_json.h"
#include "engine/model/internal.h"
#include "engine/model/safetensors.h"

/* ---- writing -------------------------------------------------------------------------------- */

static json_t *number(float v) {
    return v == (float)(int)v ? json_integer((int)v) : json_real((double)v);
}

static json_t *config_object(const struct adapter *ad, const char *base_name) {
    const struct lora_options *o = &ad->options;
    json_t *targets = json_array();
    for (int i = 0; i < o->n_targets; i++)
        json_array_append_new(targets, json_string(o->targets[i]));
    json_t *j =
        json_pack("{s:{}, s:n, s:s?, s:s, s:b, s:b, s:b, s:n, s:n, s:o, s:f, s:n, s:s, "
                  "s:i, s:{}, s:n, s:o, s:s, s:b, s:b}",
                  "alpha_pattern", "auto_mapping", "base_model_name_or_path", base_name, "bias",
                  "none", "fan_in_fan_out", 0, "inference_mode", 1, "init_lora_weights", 1,
                  "layers_pattern", "layers_to_transform", "lora_alpha", number(o->alpha),
                  "lora_dropout", (double)o->dropout, "modules_to_save", "peft_type", "LORA", "r",
                  (int)o->rank, "rank_pattern", "revision", "target_modules", targets, "task_type",
                  "CAUSAL_LM", "use_dora", (int)o->use_dora, "use_rslora", (int)o->use_rslora);
    return j;
}

static enum err write_config(const struct adapter *ad, const char *dir, const char *base_name,
                             struct err_msg *em) {
    char *path = xasprintf("%s/adapter_config.json", dir);
    json_t *j = config_object(ad, base_name);
    char *text =
        j != NULL ? json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(7)) : NULL;
    enum err e = text != NULL
                     ? file_write(path, text, strlen(text), em)
                     : err_set(em, ERR_INPUT, "%s: the base model's name is not UTF-8", path);
    free(text);
    json_decref(j);
    free(path);
    return e;
}

/* Dimensions in the file. */
static int entry_rank(const struct adapter_entry *e) {
    return e->kind == ENTRY_MAGNITUDE ? 1 : 2;
}

/* Copies a matrix between the flat buffer and the order of the file's rows. */
static void copy_rows(const struct model_config *c, const struct adapter_entry *e, float *flat,
                      float *file, bool to_file) {
    size_t bytes = (size_t)e->cols * sizeof *flat;
    for (int64_t r = 0; r < e->rows; r++) {
        float *ours = flat + r * e->cols;
        float *theirs = file + (e->kind != ENTRY_A ? site_stored_row(c, e->site, r) : r) * e->cols;
        memcpy(to_file ? theirs : ours, to_file ? ours : theirs, bytes);
    }
}

static enum err write_tensors(const struct adapter *ad, const char *dir, float *values,
                              struct err_msg *em) {
    size_t n;
    char *path = xasprintf("%s/adapter_model.safetensors", dir);
    struct adapter_entry *list = adapter_entries(ad, &n);
    struct safetensor *tensors = xcalloc(n, sizeof *tensors);
    float *rows = xmalloc(ad->mem.n * sizeof *rows); /* the flat buffer in the files' row order */
    for (size_t i = 0; i < n; i++) {
        const struct adapter_entry *a = &list[i];
        copy_rows(&ad->model->cfg, a, values + a->offset, rows + a->offset, true);
        tensors[i] = (struct safetensor){
            .name = a->name,
            .dtype = "F32",
            .rank = entry_rank(a),
            .shape = {(uint64_t)a->rows, (uint64_t)a->cols},
            .data = rows + a->offset,
            .bytes = (size_t)(a->rows * a->cols) * sizeof(float),
        };
    }
    enum err e = safetensors_write(path, tensors, n, em);
    free(rows);
    free(tensors);
    free(list);
    free(path);
    return e;
}

enum err adapter_save(struct adapter *ad, const char *dir, const char *base_name,
                      struct err_msg *em) {
    struct device *dev = ad->model->dev;
    float *values = xcalloc(ad->mem.n, sizeof *values);
    enum err e = dev->ops->download(dev, values, ad->mem.w, ad->mem.n * sizeof *values, em);
    if (e == ERR_OK)
        e = write_tensors(ad, dir, values, em);
    if (e == ERR_OK)
        e = write_config(ad, dir, base_name, em);
    free(values);
    return e;
}

/* ---- reading the configuration -------------------------------------------------------------- */

/* Ways of initialising that also change the base model's weights (PiSSA, OLoRA, CorDA, LoftQ). */
static enum err refuse_init(const struct config_json *c, struct err_msg *em) {
    const char *init = json_string_value(config_get(c, "init_lora_weights"));
    if (init == NULL || strcmp(init, "gaussian") == 0 || strcmp(init, "eva") == 0 ||
        strcmp(init, "orthogonal") == 0)
        return ERR_OK;
    return err_set(em, ERR_UNSUPPORTED,
                   "%s: \"init_lora_weights\": \"%.64s\" changes the base model; convert the "
                   "adapter to plain LoRA with PEFT first",
                   c->path, init);
}

/* Keys whose use changes the model in a way that ffwd does not compute. */
static enum err refuse_features(const struct config_json *c, struct err_msg *em) {
    static const char *const keys[] = {
        "modules_to_save",         "rank_pattern",      "alpha_pattern",  "layers_to_transform",
        "layer_replication",       "exclude_modules",   "fan_in_fan_out", "lora_bias",
        "trainable_token_indices", "target_parameters", "use_qalora",     "alora_invocation_tokens",
        "megatron_config",         "arrow_config",      "use_bdlora",     "kasa_config",
        "monteclora_config",       "velora_config"};
    const char *text;
    enum err e = ERR_OK;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && e == ERR_OK; i++)
        e = config_refuse(c, keys[i], "this feature of PEFT is not supported", em);
    if (e == ERR_OK)
        e = config_string(c, "peft_type", NULL, &text, em);
    if (e == ERR_OK && strcmp(text, "LORA") != 0)
        e = err_set(em, ERR_UNSUPPORTED, "%s: \"peft_type\": \"%.64s\" is not supported; LORA is",
                    c->path, text);
    if (e == ERR_OK)
        e = config_string(c, "bias", "none", &text, em);
    if (e == ERR_OK && strcmp(text, "none") != 0)
        e = err_set(em, ERR_UNSUPPORTED, "%s: \"bias\": \"%.64s\" is not supported; none is",
                    c->path, text);
    return e != ERR_OK ? e : refuse_init(c, em);
}

/* A list of names, or one string: "all-linear" or a plain name. Another string is a regular
 * expression over module paths. */
static enum err read_targets(const struct config_json *c, const char ***targets,
                             struct lora_options *o, struct err_msg *em) {
    json_t *v = config_get(c, "target_modules"), *item;
    size_t i;
    if (json_is_string(v)) {
        const char *text = json_string_value(v);
        if (strcmp(text, "all-linear") == 0)
            return ERR_OK;
        if (strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") !=
            json_string_length(v))
            return err_set(em, ERR_UNSUPPORTED,
                           "%s: \"target_modules\" is a regular expression (\"%.100s\"); write it "
                           "as a list of module names",
                           c->path, text);
    } else if (!json_is_array(v) || json_array_size(v) == 0 || json_array_size(v) > LIMIT_TENSORS) {
        return err_set(em, ERR_INPUT, "%s: \"target_modules\" must be a list of module names",
                       c->path);
    }
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    *targets = xcalloc(n, sizeof **targets);
    (*targets)[0] = json_string_value(v);
    json_array_foreach(v, i, item) {
        (*targets)[i] = json_string_value(item);
        if ((*targets)[i] == NULL)
            return err_set(em, ERR_INPUT, "%s: \"target_modules\" must hold strings", c->path);
    }
    o->targets = *targets;
    o->n_targets = (int)n;
    return ERR_OK;
}

static enum err read_options(const struct config_json *c, const char ***targets,
                             struct lora_options *o, struct err_msg *em) {
    double alpha = 0, dropout = 0;
    enum err e = refuse_features(c, em);
    if (e == ERR_OK)
        e = config_int(c, "r", 1, LIMIT_RANK, CONFIG_REQUIRED, &o->rank, em);
    if (e == ERR_OK)
        e = config_number(c, "lora_alpha", 1e-6, 1e9, 8, &alpha, em);
    if (e == ERR_OK)
        e = config_number(c, "lora_dropout", 0, 0.999999, 0, &dropout, em);
    if (e == ERR_OK)
        e = config_bool(c, "use_rslora", false, &o->use_rslora, em);
    if (e == ERR_OK)
        e = config_bool(c, "use_dora", false, &o->use_dora, em);
    o->alpha = (float)alpha;
    o->dropout = (float)dropout;
    return e != ERR_OK ? e : read_targets(c, targets, o, em);
}

/* ---- reading the tensors -------------------------------------------------------------------- */

static enum err load_entry(const struct model_config *c, const struct safetensors *st,
                           const struct adapter_entry *e, float *values, struct err_msg *em) {
    const struct safetensor *t = safetensors_find(st, e->name);
    const char *path = safetensors_path(st);
    if (t == NULL)
        return err_set(em, ERR_INPUT, "%s: the tensor \"%.250s\" is missing", path, e->name);
    if (t->rank != entry_rank(e) || t->shape[0] != (uint64_t)e->rows ||
        (t->rank == 2 && t->shape[1] != (uint64_t)e->cols)) {
        char shape[64];
        (void)snprintf(shape, sizeof shape, entry_rank(e) == 2 ? "%lld, %lld" : "%lld",
                       (long long)e->rows, (long long)e->cols);
        return err_set(em, ERR_INPUT,
                       "%s: the tensor \"%.200s\" does not have the shape [%s] that the base "
                       "model and r ask for",
                       path, e->name, shape);
    }
    enum dtype dtype = DTYPE_F32;
    if (strcmp(t->dtype, "BF16") == 0)
        dtype = DTYPE_BF16;
    else if (strcmp(t->dtype, "F16") == 0)
        dtype = DTYPE_F16;
    else if (strcmp(t->dtype, "F32") != 0)
        return err_set(em, ERR_UNSUPPORTED,
                       "%s: the tensor \"%.200s\" is stored as %s; F32, F16 and BF16 are read",
                       path, e->name, t->dtype);
    void *aligned = xmalloc(t->bytes);
    memcpy(aligned, t->data, t->bytes);
    float *rows = xmalloc((size_t)(e->rows * e->cols) * sizeof *rows);
    convert_elements(aligned, dtype, rows, DTYPE_F32, e->rows * e->cols);
    copy_rows(c, e, values + e->offset, rows, false);
    free(rows);
    free(aligned);
    return ERR_OK;
}

static int by_entry_name(const void *a, const void *b) {
    return strcmp(((const struct adapter_entry *)a)->name, ((const struct adapter_entry *)b)->name);
}

static enum err load_tensors(struct adapter *ad, const struct safetensors *st, struct err_msg *em) {
    size_t n;
    struct adapter_entry *list = adapter_entries(ad, &n);
    float *values = xcalloc(ad->mem.n, sizeof *values);
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && e == ERR_OK; i++)
        e = load_entry(&ad->model->cfg, st, &list[i], values, em);
    qsort(list, n, sizeof *list, by_entry_name);
    for (size_t i = 0; i < safetensors_count(st) && e == ERR_OK; i++) {
        struct adapter_entry key;
        (void)snprintf(key.name, sizeof key.name, "%s", safetensors_at(st, i)->name);
        if (bsearch(&key, list, n, sizeof *list, by_entry_name) == NULL)
            e = err_set(em, ERR_INPUT,
                        "%s: the tensor \"%.250s\" belongs to no projection that target_modules "
                        "names",
                        safetensors_path(st), key.name);
    }
    if (e == ERR_OK) {
        struct device *dev = ad->model->dev;
        dev->ops->upload(dev, ad->mem.w, values, ad->mem.n * sizeof *values);
        dev->ops->adapter_refresh(dev, &ad->mem);
    }
    free(values);
    free(list);
    return e;
}

enum err adapter_open(struct model *m, const char *dir, struct adapter **out, struct err_msg *em) {
    char *config_path = xasprintf("%s/adapter_config.json", dir);
    char *tensor_path = xasprintf("%s/adapter_model.safetensors", dir);
    struct config_json c = {0};
    struct lora_options o = {0};
    struct safetensors *st = NULL;
    const char **targets = NULL;
    *out = NULL;
    enum err e = config_json_open(config_path, &c, em);
    if (e == ERR_OK)
        e = read_options(&c, &targets, &o, em);
    if (e == ERR_OK)
        e = safetensors_open(tensor_path, &st, em);
    if (e == ERR_OK)
        e = adapter_plan(m, &o, out, em);
    if (e == ERR_OK)
        e = load_tensors(*out, st, em);
    if (e != ERR_OK) {
        adapter_free(*out);
        *out = NULL;
    }
    safetensors_close(st);
    free(targets);
    config_json_close(&c);
    free(tensor_path);
    free(config_path);
    return e;
}
