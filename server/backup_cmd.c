/* backup_cmd: `ffwd-server backup --to DIR`.
 *
 * Files and jobs' folders first, then the database, then the files and folders that came meanwhile:
 * so everything the database names is there. Resume points are copied in the first round only, so
 * that none is newer than the database: a job that goes on from one makes the steps after it again,
 * and none is missing from its events. */
#include "server/backup_cmd.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "server/admin_client.h"
#include "server/backup_copy.h"
#include "storage/store.h"

static enum err read_options(int argc, char **argv, const char **data, const char **to,
                             struct err_msg *em) {
    static const struct option options[] = {
        {"data", required_argument, NULL, 'd'}, {"to", required_argument, NULL, 't'}, {0}};
    *data = "ffwd-data";
    *to = NULL;
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            *data = optarg;
        else if (c == 't')
            *to = optarg;
        else
            return err_set(em, ERR_USAGE, "%s: unknown option; see ffwd-server --help",
                           argv[optind - 1]);
    }
    if (*to == NULL || optind < argc)
        return err_set(em, ERR_USAGE, "usage: ffwd-server backup --to DIR [--data DIR]");
    return ERR_OK;
}

/* A new folder, or an empty one: an older backup is never mixed with a new one. */
static enum err take_folder(const char *to, struct err_msg *em) {
    enum err e = file_make_dirs(to, em);
    if (e != ERR_OK)
        return e;
    DIR *d = opendir(to);
    if (d == NULL)
        return err_set_errno(em, errno, "cannot open folder %s", to);
    bool empty = true;
    for (struct dirent *entry; (entry = readdir(d)) != NULL;)
        empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
    closedir(d);
    return empty ? ERR_OK : err_set(em, ERR_USAGE, "%s is not empty", to);
}

static enum err copy_round(struct backup_copy *c, const char *data, const char *to,
                           struct err_msg *em) {
    static const char *const folders[] = {"files", "jobs"};
    enum err e = ERR_OK;
    for (int i = 0; e == ERR_OK && i < 2; i++) {
        char *a = xasprintf("%s/%s", data, folders[i]), *b = xasprintf("%s/%s", to, folders[i]);
        e = backup_copy_tree(c, a, b, em);
        free(a);
        free(b);
    }
    return e;
}

static enum err copy_database(struct backup_copy *c, const char *data, const char *to,
                              struct err_msg *em) {
    json_t *request = json_pack("{s:s}", "command", "backup"), *reply = NULL;
    char *made = xasprintf("%s/" STORE_BACKUP, data), *kept = xasprintf("%s/ffwd.db", to);
    enum err e = admin_ask(data, request, &reply, NULL, em);
    if (e == ERR_OK)
        e = backup_copy_file(c, made, kept, em);
    if (e == ERR_OK && access(kept, F_OK) != 0)
        e = err_set(em, ERR_CONFLICT, "another backup of %s is made just now; try again", data);
    if (e == ERR_OK)
        (void)unlink(made);
    json_decref(request);
    json_decref(reply);
    free(made);
    free(kept);
    return e;
}

/* The choices that make the same job give the same bytes, where there is a GPU. */
static enum err copy_choices(struct backup_copy *c, const char *data, const char *to,
                             struct err_msg *em) {
    char *a = xasprintf("%s/cuda-algorithms", data), *b = xasprintf("%s/cuda-algorithms", to);
    enum err e = backup_copy_file(c, a, b, em);
    free(a);
    free(b);
    return e;
}

enum err backup_cmd(int argc, char **argv, struct err_msg *em) {
    struct backup_copy c = {.but = NULL};
    const char *data, *to;
    enum err e = read_options(argc, argv, &data, &to, em);
    if (e == ERR_OK && !(file_size(data) < 0 && access(data, F_OK) == 0))
        e = err_set(em, ERR_USAGE, "%s is not a folder of a server; give it with --data", data);
    if (e == ERR_OK)
        e = take_folder(to, em);
    if (e == ERR_OK)
        e = copy_round(&c, data, to, em);
    if (e == ERR_OK)
        e = copy_choices(&c, data, to, em);
    if (e == ERR_OK)
        e = copy_database(&c, data, to, em);
    c.but = "resume";
    if (e == ERR_OK)
        e = copy_round(&c, data, to, em);
    if (e == ERR_OK)
        e = file_sync_dir(to, em);
    if (e == ERR_OK)
        fprintf(stderr, "copied %lld files, %lld bytes, to %s\n", (long long)c.files,
                (long long)c.bytes, to);
    return e;
}
