/* model_roots: finding and listing base models. */
#include "api/model_roots.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"

#define CACHE_PREFIX "models--"
#define MAX_MODELS 10000

int64_t model_roots_created(const char *dir) {
    struct stat st;
    char *path = xasprintf("%s/config.json", dir);
    bool found = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    free(path);
    return found ? (int64_t)st.st_mtim.tv_sec : 0;
}

static bool has_config(const char *dir) {
    struct stat st;
    char *path = xasprintf("%s/config.json", dir);
    bool found = stat(path, &st) == 0 && S_ISREG(st.st_mode);
    free(path);
    return found;
}

/* One part of a name: not empty, not hidden, so not ".." either. */
static bool part_is_valid(const char *part, size_t n) {
    if (n == 0 || part[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)part[i] < 0x20 || part[i] == '\\' || part[i] == 0x7f)
            return false;
    return true;
}

static bool name_is_valid(const char *name) {
    const char *slash = strchr(name, '/');
    if (strlen(name) > LIMIT_FILENAME)
        return false;
    if (slash == NULL)
        return part_is_valid(name, strlen(name));
    return part_is_valid(name, (size_t)(slash - name)) && strchr(slash + 1, '/') == NULL &&
           part_is_valid(slash + 1, strlen(slash + 1));
}

/* ---- the Hugging Face cache ----------------------------------------------------------------- */

/* The revision named by refs/main; new string, or NULL. */
static char *main_revision(const char *repo) {
    char *path = xasprintf("%s/refs/main", repo), *text = NULL;
    if (file_read(path, 256, &text, NULL, NULL) != ERR_OK)
        text = NULL;
    free(path);
    if (text == NULL)
        return NULL;
    text[strcspn(text, " \t\r\n")] = '\0';
    if (part_is_valid(text, strlen(text)) && strchr(text, '/') == NULL)
        return text;
    free(text);
    return NULL;
}

/* Without refs/main: the snapshot whose config.json is newest. */
static char *newest_snapshot(const char *repo) {
    char *folder = xasprintf("%s/snapshots", repo), *best = NULL;
    DIR *d = opendir(folder);
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        char *dir = xasprintf("%s/%s", folder, entry->d_name);
        bool better = has_config(dir) &&
                      (best == NULL || model_roots_created(dir) > model_roots_created(best));
        free(better ? best : dir);
        best = better ? dir : best;
    }
    if (d != NULL)
        closedir(d);
    free(folder);
    return best;
}

/* Folder of the model in a cache entry, or NULL. */
static char *cache_dir(const char *repo) {
    char *revision = main_revision(repo);
    char *dir = revision == NULL ? NULL : xasprintf("%s/snapshots/%s", repo, revision);
    free(revision);
    if (dir != NULL && has_config(dir))
        return dir;
    free(dir);
    return newest_snapshot(repo);
}

/* ---- by name -------------------------------------------------------------------------------- */

static char *find_in(const char *root, const char *name) {
    char *dir = xasprintf("%s/%s", root, name);
    if (has_config(dir))
        return dir;
    free(dir);
    const char *slash = strchr(name, '/');
    char *repo = slash == NULL ? xasprintf("%s/" CACHE_PREFIX "%s", root, name)
                               : xasprintf("%s/" CACHE_PREFIX "%.*s--%s", root, (int)(slash - name),
                                           name, slash + 1);
    dir = cache_dir(repo);
    free(repo);
    return dir;
}

char *model_roots_find(const char *const *roots, const char *name) {
    char *dir = NULL;
    if (!name_is_valid(name))
        return NULL;
    for (int i = 0; roots != NULL && roots[i] != NULL && dir == NULL; i++)
        dir = find_in(roots[i], name);
    return dir;
}

/* ---- all ------------------------------------------------------------------------------------ */

struct listing {
    struct model_entry *entries;
    int n;
};

static void add(struct listing *l, char *name_take, char *dir_take) {
    bool room = l->n < MAX_MODELS && name_is_valid(name_take);
    for (int i = 0; room && i < l->n; i++)
        room = strcmp(l->entries[i].name, name_take) != 0;
    if (!room) {
        free(name_take);
        free(dir_take);
        return;
    }
    l->entries = xreallocarray(l->entries, (size_t)l->n + 1, sizeof *l->entries);
    l->entries[l->n++] = (struct model_entry){
        .name = name_take, .dir = dir_take, .created = model_roots_created(dir_take)};
}

static void add_cached(struct listing *l, const char *dir, const char *entry) {
    char *snapshot = cache_dir(dir);
    if (snapshot == NULL)
        return;
    char *name = xstrdup(entry + strlen(CACHE_PREFIX)), *dashes = strstr(name, "--");
    if (dashes != NULL) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    add(l, name, snapshot);
}

/* org NULL: the root itself, whose folders may be models, organisations or cache entries. */
static void scan(struct listing *l, const char *folder, const char *org) {
    DIR *d = opendir(folder);
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        const char *name = entry->d_name;
        if (!part_is_valid(name, strlen(name)))
            continue;
        char *dir = xasprintf("%s/%s", folder, name);
        if (has_config(dir))
            add(l, org == NULL ? xstrdup(name) : xasprintf("%s/%s", org, name), xstrdup(dir));
        else if (org == NULL && strncmp(name, CACHE_PREFIX, strlen(CACHE_PREFIX)) == 0)
            add_cached(l, dir, name);
        else if (org == NULL)
            scan(l, dir, name);
        free(dir);
    }
    if (d != NULL)
        closedir(d);
}

static int by_name(const void *a, const void *b) {
    const struct model_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

void model_roots_list(const char *const *roots, struct model_entry **out, int *n) {
    struct listing l = {0};
    for (int i = 0; roots != NULL && roots[i] != NULL; i++)
        scan(&l, roots[i], NULL);
    if (l.n > 0)
        qsort(l.entries, (size_t)l.n, sizeof *l.entries, by_name);
    *out = l.entries;
    *n = l.n;
}

void model_roots_free(struct model_entry *entries, int n) {
    for (int i = 0; i < n; i++) {
        free(entries[i].name);
        free(entries[i].dir);
    }
    free(entries);
}
