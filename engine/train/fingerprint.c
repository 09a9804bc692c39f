/* fingerprint: hashing folders, comparing configurations. */
#include "engine/train/fingerprint.h"

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define WHOLE_BYTES ((size_t)256 << 20)
#define HEAD_BYTES ((size_t)8 << 20)
#define PIECE_BYTES ((size_t)1 << 20)
#define PIECES 64

static bool has_suffix(const char *name, const char *suffix) {
    size_t n = strlen(name), k = strlen(suffix);
    return n >= k && strcmp(name + n - k, suffix) == 0;
}

static bool is_part_of_model(const char *name) {
    return name[0] != '.' && (has_suffix(name, ".json") || has_suffix(name, ".jinja") ||
                              has_suffix(name, ".safetensors"));
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err list_files(const char *dir, char ***names, size_t *n, struct err_msg *em) {
    *names = NULL;
    *n = 0;
    DIR *d = opendir(dir);
    if (d == NULL)
        return err_set_errno(em, errno, "cannot open folder %s", dir);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        if (!is_part_of_model(entry->d_name))
            continue;
        *names = xreallocarray(*names, *n + 1, sizeof **names);
        (*names)[(*n)++] = xstrdup(entry->d_name);
    }
    closedir(d);
    if (*n > 0)
        qsort(*names, *n, sizeof **names, by_name);
    return ERR_OK;
}

static void hash_content(struct sha256 *h, const struct file_map *map) {
    if (map->len <= WHOLE_BYTES) {
        sha256_add(h, map->data, map->len);
        return;
    }
    sha256_add(h, map->data, HEAD_BYTES);
    for (size_t i = 1; i <= PIECES; i++)
        sha256_add(h, map->data + (map->len - PIECE_BYTES) / PIECES * i, PIECE_BYTES);
}

static enum err hash_file(struct sha256 *h, const char *dir, const char *name, struct err_msg *em) {
    char *path = xasprintf("%s/%s", dir, name);
    struct file_map map;
    enum err e = file_map_open(path, &map, em);
    if (e == ERR_OK) {
        char label[64];
        int n = snprintf(label, sizeof label, "\n%zu\n", map.len);
        sha256_add(h, name, strlen(name));
        sha256_add(h, label, (size_t)n);
        hash_content(h, &map);
        file_map_close(&map);
    }
    free(path);
    return e;
}

enum err fingerprint_folder(const char *dir, char out[SHA256_HEX_SIZE], struct err_msg *em) {
    char **names;
    size_t n;
    struct sha256 h;
    sha256_init(&h);
    enum err e = list_files(dir, &names, &n, em);
    for (size_t i = 0; e == ERR_OK && i < n; i++)
        e = hash_file(&h, dir, names[i], em);
    sha256_hex(&h, out);
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    return e;
}

static enum err differ(const char *path, const json_t *then, const json_t *now,
                       struct err_msg *em) {
    char *a = then != NULL ? json_dumps(then, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    char *b = now != NULL ? json_dumps(now, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    enum err e = err_set_param(em, ERR_CONFLICT, path, "%s was %.120s and is %.120s", path,
                               a != NULL ? a : "absent", b != NULL ? b : "absent");
    free(a);
    free(b);
    return e;
}

static enum err compare_at(const char *path, const json_t *then, const json_t *now,
                           struct err_msg *em) {
    if (!json_is_object(then) || !json_is_object(now))
        return then == NULL || now == NULL || !json_equal(then, now) ? differ(path, then, now, em)
                                                                     : ERR_OK;
    const char *key;
    json_t *value;
    for (int side = 0; side < 2; side++)
        json_object_foreach((json_t *)(uintptr_t)(side == 0 ? then : now), key, value) {
            if (side == 1 && json_object_get(then, key) != NULL)
                continue; /* compared already */
            char *inner = path[0] == '\0' ? xstrdup(key) : xasprintf("%s.%s", path, key);
            enum err e =
                compare_at(inner, json_object_get(then, key), json_object_get(now, key), em);
            free(inner);
            if (e != ERR_OK)
                return e;
        }
    return ERR_OK;
}

enum err fingerprint_compare(const json_t *then, const json_t *now, struct err_msg *em) {
    return compare_at("", then, now, em);
}
