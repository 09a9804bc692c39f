/* file: whole files, and writes that are either complete or absent.
 *
 * What:    read with a bound, memory-map, atomic replace (temp in the same folder, fsync, rename,
 *          fsync of the folder), folder creation and removal.
 * Owns:    nothing after return except what a function says the caller frees.
 * Threads: safe, as far as two writers do not write the same path.
 * Errors:  messages name the path and the system's reason. A failed fsync is an error and is never
 *          retried: the kernel may have dropped the data.
 */
#ifndef FFWD_BASE_FILE_H
#define FFWD_BASE_FILE_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/err.h"

/* Reads all of a regular file of at most max bytes into a new NUL-terminated string; the caller
 * frees *out. *len (may be NULL) gets its length. */
enum err file_read(const char *path, size_t max, char **out, size_t *len,
                   struct err_msg *em) NODISCARD;

/* A read-only mapping of a whole regular file. An empty file maps to data NULL, len 0. */
struct file_map {
    const unsigned char *data;
    size_t len;
};
enum err file_map_open(const char *path, struct file_map *map, struct err_msg *em) NODISCARD;
void file_map_close(struct file_map *map);

/* Replaces path with the bytes, atomically and durably. */
enum err file_write(const char *path, const void *bytes, size_t n, struct err_msg *em) NODISCARD;

/* The same for content produced piece by piece: open, fwrite to f, then commit or abort.
 * Until commit the target is untouched. */
struct file_writer {
    FILE *f;
    char *path;
    char *temp;
};
enum err file_writer_open(struct file_writer *w, const char *path, struct err_msg *em) NODISCARD;
/* Flush, fsync, rename, fsync the folder; checks ferror. Closes w also when it fails. */
enum err file_writer_commit(struct file_writer *w, struct err_msg *em) NODISCARD;
void file_writer_abort(struct file_writer *w);

/* fsync of a folder, so that names created or renamed in it are durable. */
enum err file_sync_dir(const char *dir, struct err_msg *em) NODISCARD;

/* Renames a finished folder into place and syncs the parent. dst must not exist. */
enum err file_rename_dir(const char *src, const char *dst, struct err_msg *em) NODISCARD;

/* mkdir -p with mode 0700 for new folders. */
enum err file_make_dirs(const char *dir, struct err_msg *em) NODISCARD;

/* The entries of a folder, for readdir and closedir; NULL: see errno. A symbolic link is not
 * followed. (opendir's descriptors are unknown to ThreadSanitizer.) */
DIR *file_open_folder(const char *path);
/* Removes a file or a whole folder; does not follow symbolic links. Missing is fine. */
enum err file_remove_tree(const char *path, struct err_msg *em) NODISCARD;

/* Size of a regular file, or -1. */
int64_t file_size(const char *path);

#endif
