/* resume: writing, finding and reading resume points. */
#include "engine/train/resume.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "engine/train/tensors.h"

#define STATE_FILE "state.json"
#define TENSOR_FILE "tensors.safetensors"
#define MANIFEST_FILE "manifest.json"
#define TEMP_PREFIX "tmp-"

/* ---- the folder ----------------------------------------------------------------------------- */

/* Step of a folder named step-N, or -1. */
static int64_t step_of(const char *name) {
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return -1;
    char *end;
    errno = 0;
    long long n = strtoll(name + 5, &end, 10);
    return errno == 0 && *end == '\0' ? (int64_t)n : -1;
}

static int later_first(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

/* Steps of the points in the folder, latest first; *steps is the caller's. Removes temporary
 * folders on the way. */
static enum err list_steps(const char *dir, int64_t **steps, size_t *n, struct err_msg *em) {
    *steps = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (d == NULL)
        return errno == ENOENT ? ERR_OK : err_set_errno(em, errno, "cannot open folder %s", dir);
    enum err e = ERR_OK;
    for (struct dirent *entry; e == ERR_OK && (entry = readdir(d)) != NULL;) {
        int64_t step = step_of(entry->d_name);
        if (step >= 0) {
            *steps = xreallocarray(*steps, *n + 1, sizeof **steps);
            (*steps)[(*n)++] = step;
        } else if (strncmp(entry->d_name, TEMP_PREFIX, strlen(TEMP_PREFIX)) == 0) {
            char *path = xasprintf("%s/%s", dir, entry->d_name);
            e = file_remove_tree(path, em);
            free(path);
        }
    }
    closedir(d);
    if (*n > 0)
        qsort(*steps, *n, sizeof **steps, later_first);
    return e;
}

static char *step_dir(const char *dir, int64_t step) {
    return xasprintf("%s/step-%lld", dir, (long long)step);
}

static enum err remove_step(const char *dir, int64_t step, struct err_msg *em) {
    char *path = step_dir(dir, step);
    enum err e = file_remove_tree(path, em);
    free(path);
    return e;
}

/* ---- writing -------------------------------------------------------------------------------- */

static enum err write_json(const char *dir, const char *name, const json_t *o, struct err_msg *em) {
    char *path = xasprintf("%s/%s", dir, name);
    char *text = json_dumps(o, JSON_INDENT(1) | JSON_ENSURE_ASCII);
    enum err e = text == NULL ? err_set(em, ERR_BUG, "%s cannot be written as JSON", name)
                              : file_write(path, text, strlen(text), em);
    free(text);
    free(path);
    return e;
}

static enum err add_to_manifest(json_t *files, const char *dir, const char *name,
                                struct err_msg *em) {
    char *path = xasprintf("%s/%s", dir, name);
    char hex[SHA256_HEX_SIZE];
    enum err e = sha256_file(path, hex, em);
    if (e == ERR_OK)
        json_object_set_new(
            files, name, json_pack("{sIss}", "bytes", (json_int_t)file_size(path), "sha256", hex));
    free(path);
    return e;
}

static enum err write_point(const char *temp, int64_t step, const json_t *state, struct device *dev,
                            const struct resume_tensor *tensors, int n, struct err_msg *em) {
    char *tensor_path = xasprintf("%s/%s", temp, TENSOR_FILE);
    json_t *files = json_object();
    enum err e = file_make_dirs(temp, em);
    if (e == ERR_OK)
        e = write_json(temp, STATE_FILE, state, em);
    if (e == ERR_OK)
        e = tensors_write(tensor_path, dev, tensors, n, em);
    if (e == ERR_OK)
        e = add_to_manifest(files, temp, STATE_FILE, em);
    if (e == ERR_OK)
        e = add_to_manifest(files, temp, TENSOR_FILE, em);
    json_t *manifest = json_pack("{sIsO}", "step", (json_int_t)step, "files", files);
    if (e == ERR_OK)
        e = write_json(temp, MANIFEST_FILE, manifest, em);
    json_decref(manifest);
    json_decref(files);
    free(tensor_path);
    return e;
}

static enum err prune(const char *resume_dir, struct err_msg *em) {
    int64_t *steps;
    size_t n;
    enum err e = list_steps(resume_dir, &steps, &n, em);
    for (size_t i = RESUME_KEPT; e == ERR_OK && i < n; i++)
        e = remove_step(resume_dir, steps[i], em);
    free(steps);
    return e;
}

enum err resume_save(const char *resume_dir, int64_t step, const json_t *state, struct device *dev,
                     const struct resume_tensor *tensors, int n_tensors, struct err_msg *em) {
    char *temp = xasprintf("%s/" TEMP_PREFIX "step-%lld", resume_dir, (long long)step);
    char *final = step_dir(resume_dir, step);
    enum err e = file_remove_tree(temp, em);
    if (e == ERR_OK)
        e = write_point(temp, step, state, dev, tensors, n_tensors, em);
    if (e == ERR_OK)
        e = file_remove_tree(final, em);
    if (e == ERR_OK)
        e = file_rename_dir(temp, final, em);
    if (e == ERR_OK) {
        e = prune(resume_dir, em);
    } else if (file_remove_tree(temp, em) != ERR_OK) {
        /* em keeps the first error; the next resume_find tries to remove it again */
    }
    free(temp);
    free(final);
    return e;
}

/* ---- reading -------------------------------------------------------------------------------- */

static json_t *read_json(const char *dir, const char *name) {
    char *path = xasprintf("%s/%s", dir, name);
    char *text = NULL;
    size_t len;
    json_t *o = NULL;
    if (file_read(path, LIMIT_JSON_FILE, &text, &len, NULL) == ERR_OK)
        o = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    free(path);
    return o;
}

/* Both files are there with the bytes the manifest promises. */
static bool is_whole(const char *dir, int64_t step) {
    json_t *manifest = read_json(dir, MANIFEST_FILE);
    const json_t *files = json_object_get(manifest, "files");
    bool whole = json_integer_value(json_object_get(manifest, "step")) == step;
    static const char *const names[] = {STATE_FILE, TENSOR_FILE};
    for (int i = 0; whole && i < 2; i++) {
        const char *want =
            json_string_value(json_object_get(json_object_get(files, names[i]), "sha256"));
        char *path = xasprintf("%s/%s", dir, names[i]);
        char hex[SHA256_HEX_SIZE];
        whole = want != NULL && sha256_file(path, hex, NULL) == ERR_OK && strcmp(hex, want) == 0;
        free(path);
    }
    json_decref(manifest);
    return whole;
}

void resume_point_clear(struct resume_point *p) {
    free(p->dir);
    json_decref(p->state);
    *p = (struct resume_point){.step = -1};
}

enum err resume_find(const char *resume_dir, struct resume_point *out, struct err_msg *em) {
    *out = (struct resume_point){.step = -1};
    int64_t *steps;
    size_t n;
    enum err e = list_steps(resume_dir, &steps, &n, em);
    for (size_t i = 0; e == ERR_OK && out->step < 0 && i < n; i++) {
        char *dir = step_dir(resume_dir, steps[i]);
        json_t *state = is_whole(dir, steps[i]) ? read_json(dir, STATE_FILE) : NULL;
        if (state != NULL) {
            out->step = steps[i];
            out->dir = dir;
            out->state = state;
        } else {
            out->passed_over++;
            free(dir);
        }
    }
    free(steps);
    return e;
}

enum err resume_load(const struct resume_point *p, struct device *dev,
                     const struct resume_tensor *tensors, int n_tensors, struct err_msg *em) {
    char *path = xasprintf("%s/%s", p->dir, TENSOR_FILE);
    enum err e = tensors_read(path, dev, tensors, n_tensors, em);
    free(path);
    return e;
}

enum err resume_drop_after(const char *resume_dir, int64_t step, struct err_msg *em) {
    int64_t *steps;
    size_t n;
    enum err e = list_steps(resume_dir, &steps, &n, em);
    for (size_t i = 0; e == ERR_OK && i < n && steps[i] > step; i++)
        e = remove_step(resume_dir, steps[i], em);
    free(steps);
    return e;
}
