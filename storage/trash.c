/* trash: what is removed leaves its place at once and its blocks later. */
#include "storage/trash.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "storage/store.h"

#define SMALL (1 << 20) /* bytes of a file that are freed in no time */

char *trash_folder(const char *data_dir) {
    return xasprintf("%s/trash", data_dir);
}

enum err trash_open(const char *data_dir, struct err_msg *em) {
    char *folder = trash_folder(data_dir);
    enum err e = file_make_dirs(folder, em);
    free(folder);
    return e;
}

static bool is_quick(const struct stat *st) {
    return !S_ISDIR(st->st_mode) && (st->st_size <= SMALL || st->st_nlink > 1);
}

enum err trash_put(const char *data_dir, const char *path, struct err_msg *em) {
    struct stat st;
    char id[STORE_ID_SIZE];
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? ERR_OK : err_set_errno(em, errno, "cannot look at %s", path);
    if (is_quick(&st))
        return file_remove_tree(path, em);
    store_new_id("gone-", id);
    char *folder = trash_folder(data_dir), *to = xasprintf("%s/%s", folder, id);
    bool moved = rename(path, to) == 0;
    free(to);
    free(folder);
    return moved ? ERR_OK : file_remove_tree(path, em);
}

enum err trash_empty(const char *data_dir, const atomic_bool *stop, struct err_msg *em) {
    char *folder = trash_folder(data_dir);
    enum err e = ERR_OK;
    DIR *d = file_open_folder(folder);
    if (d == NULL && errno != ENOENT)
        e = err_set_errno(em, errno, "cannot open folder %s", folder);
    for (struct dirent *entry;
         e == ERR_OK && d != NULL && !atomic_load(stop) && (entry = readdir(d)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path = xasprintf("%s/%s", folder, entry->d_name);
        e = file_remove_tree(path, em);
        free(path);
    }
    if (d != NULL)
        closedir(d);
    free(folder);
    return e;
}
