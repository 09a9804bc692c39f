/* weights: a model folder's files, or random values, behind one source. */
#include "engine/model/weights.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/model/config_json.h"
#include "engine/model/safetensors.h"

/* A tensor of any shard. */
struct slot {
    const struct safetensor *tensor;
    const struct safetensors *file;
    bool known; /* somebody asked for it */
};

struct weights {
    bool random;
    enum dtype random_dtype;
    uint64_t random_state;
    char *dir;
    struct safetensors **files;
    size_t n_files;
    struct slot *slots; /* in the order of names */
    size_t n_slots;
};

/* ---- opening -------------------------------------------------------------------------------- */

static enum err add_file(struct weights *w, const char *path, struct err_msg *em) {
    if (w->n_files == LIMIT_SHARDS)
        return err_set(em, ERR_INPUT, "%s: more than %d shards", w->dir, LIMIT_SHARDS);
    w->files = xreallocarray(w->files, w->n_files + 1, sizeof *w->files);
    enum err e = safetensors_open(path, &w->files[w->n_files], em);
    if (e == ERR_OK)
        w->n_files++;
    return e;
}

static bool file_name_is_plain(const char *name) {
    return name[0] != '\0' && name[0] != '.' && strchr(name, '/') == NULL &&
           strchr(name, '\\') == NULL;
}

/* Opens the shard unless it is open, and checks that it holds the tensor. */
static enum err add_mapping(struct weights *w, const char *index, const char *tensor,
                            const json_t *shard, struct err_msg *em) {
    const char *name = json_string_value(shard);
    if (name == NULL)
        return err_set(em, ERR_INPUT, "%s: weight_map: \"%.200s\" must name a file", index, tensor);
    if (!file_name_is_plain(name))
        return err_set(em, ERR_INPUT,
                       "%s: weight_map: \"%.200s\": \"%.100s\" is not the name of a file in the "
                       "same folder",
                       index, tensor, name);
    char *path = xasprintf("%s/%s", w->dir, name);
    const struct safetensors *file = NULL;
    enum err e = ERR_OK;
    for (size_t i = w->n_files; i > 0 && file == NULL; i--)
        if (strcmp(safetensors_path(w->files[i - 1]), path) == 0)
            file = w->files[i - 1];
    if (file == NULL) {
        e = add_file(w, path, em);
        if (e == ERR_NOT_FOUND && em != NULL)
            err_prefix(em, "the shard \"%.100s\" of %s is missing", name, index);
        else if (e == ERR_OK)
            file = w->files[w->n_files - 1];
    }
    if (e == ERR_OK && safetensors_find(file, tensor) == NULL)
        e = err_set(em, ERR_INPUT, "%s: the tensor \"%.200s\" is missing, which %s says is there",
                    path, tensor, index);
    free(path);
    return e;
}

static enum err open_index(struct weights *w, const char *path, struct err_msg *em) {
    struct config_json c;
    const char *tensor;
    json_t *shard;
    enum err e = config_json_open(path, &c, em);
    if (e != ERR_OK)
        return e;
    json_t *map = config_get(&c, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        e = err_set(em, ERR_INPUT, "%s: \"weight_map\" must be an object that names the tensors",
                    path);
    else if (json_object_size(map) > LIMIT_TENSORS)
        e = err_set(em, ERR_INPUT, "%s: more than %d tensors", path, LIMIT_TENSORS);
    else
        json_object_foreach(map, tensor, shard) {
            e = add_mapping(w, path, tensor, shard, em);
            if (e != ERR_OK)
                break;
        }
    config_json_close(&c);
    return e;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct slot *)a)->tensor->name, ((const struct slot *)b)->tensor->name);
}

static enum err collect(struct weights *w, struct err_msg *em) {
    for (size_t f = 0; f < w->n_files; f++)
        w->n_slots += safetensors_count(w->files[f]);
    w->slots = xcalloc(w->n_slots + 1, sizeof *w->slots);
    size_t n = 0;
    for (size_t f = 0; f < w->n_files; f++)
        for (size_t i = 0; i < safetensors_count(w->files[f]); i++)
            w->slots[n++] = (struct slot){safetensors_at(w->files[f], i), w->files[f], false};
    qsort(w->slots, n, sizeof *w->slots, by_name);
    for (size_t i = 1; i < n; i++)
        if (by_name(&w->slots[i - 1], &w->slots[i]) == 0)
            return err_set(em, ERR_INPUT, "%s: the tensor \"%.200s\" is also in %s",
                           safetensors_path(w->slots[i].file), w->slots[i].tensor->name,
                           safetensors_path(w->slots[i - 1].file));
    return ERR_OK;
}

enum err weights_open(const char *dir, struct weights **out, struct err_msg *em) {
    struct weights *w = xcalloc(1, sizeof *w);
    char *single = xasprintf("%s/model.safetensors", dir);
    char *index = xasprintf("%s/model.safetensors.index.json", dir);
    enum err e;
    w->dir = xstrdup(dir);
    if (file_size(single) >= 0)
        e = add_file(w, single, em);
    else if (file_size(index) >= 0)
        e = open_index(w, index, em);
    else
        e = err_set(em, ERR_NOT_FOUND,
                    "%s: there is no model.safetensors and no model.safetensors.index.json; other "
                    "weight formats are not read",
                    dir);
    if (e == ERR_OK)
        e = collect(w, em);
    if (e != ERR_OK) {
        weights_close(w);
        w = NULL;
    }
    free(single);
    free(index);
    *out = w;
    return e;
}

struct weights *weights_random(enum dtype dtype) {
    struct weights *w = xcalloc(1, sizeof *w);
    w->random = true;
    w->random_dtype = dtype;
    w->random_state = 1;
    return w;
}

void weights_close(struct weights *w) {
    if (w == NULL)
        return;
    for (size_t i = 0; i < w->n_files; i++)
        safetensors_close(w->files[i]);
    free(w->files);
    free(w->slots);
    free(w->dir);
    free(w);
}

/* ---- taking --------------------------------------------------------------------------------- */

static bool find_dtype(const char *name, enum dtype *out) {
    if (strcmp(name, "F32") == 0)
        *out = DTYPE_F32;
    else if (strcmp(name, "BF16") == 0)
        *out = DTYPE_BF16;
    else if (strcmp(name, "F16") == 0)
        *out = DTYPE_F16;
    else
        return false;
    return true;
}

static void shape_text(const struct safetensor *t, char *out, size_t cap) {
    size_t len = 0;
    out[0] = '\0';
    for (int i = 0; i < t->rank && len < cap; i++)
        len += (size_t)snprintf(out + len, cap - len, "%s%llu", i > 0 ? ", " : "",
                                (unsigned long long)t->shape[i]);
}

static enum err check_shape(const struct slot *s, int64_t rows, int64_t cols, struct err_msg *em) {
    const struct safetensor *t = s->tensor;
    bool fits =
        cols == 0 ? t->rank == 1 && t->shape[0] == (uint64_t)rows
                  : t->rank == 2 && t->shape[0] == (uint64_t)rows && t->shape[1] == (uint64_t)cols;
    char have[192], want[64];
    if (fits)
        return ERR_OK;
    shape_text(t, have, sizeof have);
    if (cols == 0)
        (void)snprintf(want, sizeof want, "%lld", (long long)rows);
    else
        (void)snprintf(want, sizeof want, "%lld, %lld", (long long)rows, (long long)cols);
    return err_set(em, ERR_INPUT,
                   "%s: the tensor \"%.150s\" has the shape [%s]; config.json asks for [%s]",
                   safetensors_path(s->file), t->name, have, want);
}

/* xorshift64*, four 16-bit values a draw: far cheaper than the products it feeds. */
static void fill_random(struct weights *w, struct host_tensor *t, int64_t n) {
    uint64_t x = w->random_state;
    float *f = t->owned;
    uint16_t *h = t->owned;
    for (int64_t i = 0; i < n; i += 4) {
        x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
        uint64_t bits = x * 0x2545F4914F6CDD1Dull;
        for (int64_t k = i; k < i + 4 && k < n; k++, bits >>= 16) {
            float v = (float)(int16_t)bits * (0.04f / 32768);
            if (t->dtype == DTYPE_F32)
                f[k] = v;
            else
                convert_elements(&v, DTYPE_F32, &h[k], t->dtype, 1);
        }
    }
    w->random_state = x;
}

static bool ends_with(const char *name, const char *ending) {
    size_t len = strlen(name), n = strlen(ending);
    return len >= n && strcmp(name + len - n, ending) == 0;
}

/* Norms are 1, so that activations keep their size. */
static enum err take_random(struct weights *w, const char *name, struct host_tensor *out) {
    int64_t n = out->rows * out->cols;
    bool ones = out->cols == 1 && ends_with(name, ".weight");
    out->dtype = ones ? DTYPE_F32 : w->random_dtype;
    out->owned = xmalloc((size_t)n * dtype_size(out->dtype));
    out->data = out->owned;
    if (ones)
        for (int64_t i = 0; i < n; i++)
            ((float *)out->owned)[i] = 1;
    else
        fill_random(w, out, n);
    return ERR_OK;
}

static struct slot *find_slot(const struct weights *w, const char *name) {
    const struct safetensor tensor = {.name = name};
    const struct slot key = {.tensor = &tensor};
    return bsearch(&key, w->slots, w->n_slots, sizeof *w->slots, by_name);
}

enum err weights_check(struct weights *w, const char *name, int64_t rows, int64_t cols,
                       struct err_msg *em) {
    enum dtype dtype;
    if (w->random)
        return ERR_OK;
    struct slot *s = find_slot(w, name);
    if (s == NULL)
        return err_set(em, ERR_INPUT, "%s: the tensor \"%.200s\" is missing", w->dir, name);
    enum err e = check_shape(s, rows, cols, em);
    if (e != ERR_OK)
        return e;
    if (!find_dtype(s->tensor->dtype, &dtype))
        return err_set(em, ERR_UNSUPPORTED,
                       "%s: the tensor \"%.200s\" is stored as %s; F32, F16 and BF16 are read",
                       safetensors_path(s->file), name, s->tensor->dtype);
    s->known = true;
    return ERR_OK;
}

enum err weights_take(struct weights *w, const char *name, int64_t rows, int64_t cols,
                      struct host_tensor *out, struct err_msg *em) {
    *out = (struct host_tensor){.rows = rows, .cols = cols != 0 ? cols : 1};
    if (w->random)
        return take_random(w, name, out);
    enum err e = weights_check(w, name, rows, cols, em);
    if (e != ERR_OK)
        return e;
    const struct safetensor *t = find_slot(w, name)->tensor;
    (void)find_dtype(t->dtype, &out->dtype);
    out->data = t->data;
    /* a header need not be padded, so data may start at any byte */
    if ((uintptr_t)out->data % dtype_size(out->dtype) != 0) {
        out->owned = xmalloc(t->bytes);
        memcpy(out->owned, out->data, t->bytes);
        out->data = out->owned;
    }
    return ERR_OK;
}

/* Pages of the mapping that were read are dropped from memory: the working copy is made. */
static void drop_pages(const struct host_tensor *t) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)t->data;
    uintptr_t end = begin + (size_t)(t->rows * t->cols) * dtype_size(t->dtype);
    begin = (begin + page - 1) / page * page;
    end = end / page * page;
    if (end > begin)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void host_tensor_release(struct host_tensor *t) {
    if (t->owned == NULL && t->data != NULL)
        drop_pages(t);
    free(t->owned);
    *t = (struct host_tensor){0};
}

/* ---- what is left over ---------------------------------------------------------------------- */

static bool ends_as(const char *name, const char *const *endings) {
    for (; endings != NULL && *endings != NULL; endings++)
        if (ends_with(name, *endings))
            return true;
    return false;
}

static bool same_bytes(const struct weights *w, const struct safetensor *t, const char *name) {
    const struct slot *s = find_slot(w, name);
    return s != NULL && s->tensor->bytes == t->bytes &&
           memcmp(s->tensor->data, t->data, t->bytes) == 0;
}

enum err weights_finish(struct weights *w, const char *const *ignored, const char *embed,
                        const char *head, struct err_msg *em) {
    for (size_t i = 0; i < w->n_slots; i++) {
        const struct slot *s = &w->slots[i];
        const char *name = s->tensor->name;
        if (s->known || ends_as(name, ignored))
            continue;
        bool is_head = strcmp(name, head) == 0;
        if (is_head && same_bytes(w, s->tensor, embed))
            continue;
        return err_set(em, ERR_INPUT,
                       is_head ? "%s: the tensor \"%.200s\" differs from the embedding, but "
                                 "config.json says that they are tied (tie_word_embeddings)"
                               : "%s: the tensor \"%.200s\" is not part of the model that "
                                 "config.json describes",
                       safetensors_path(s->file), name);
    }
    return ERR_OK;
}
