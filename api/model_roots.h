/* model_roots: the base models in the folders given with --models.
 *
 * What:    a model is a folder with config.json: ROOT/name, ROOT/org/name, or the layout of the
 *          Hugging Face cache, ROOT/models--org--name/snapshots/REV. Symbolic links are followed.
 *          Nothing is written there. The first root that has a name wins.
 * Owns:    nothing; results are the caller's.
 * Threads: safe.
 * Errors:  a folder that cannot be read has no models.
 */
#ifndef FFWD_API_MODEL_ROOTS_H
#define FFWD_API_MODEL_ROOTS_H

#include <stdbool.h>
#include <stdint.h>

/* Folder of a model by name ("name" or "org/name"); new string, or NULL. */
char *model_roots_find(const char *const *roots, const char *name);

struct model_entry {
    char *name, *dir;
    int64_t created; /* Unix seconds: change of config.json */
};
/* All models, sorted by name, each name once. New array; the caller frees it with
 * model_roots_free. */
void model_roots_list(const char *const *roots, struct model_entry **out, int *n);
void model_roots_free(struct model_entry *entries, int n);

/* Time of a model folder's config.json; 0 if there is none. */
int64_t model_roots_created(const char *dir);

#endif
