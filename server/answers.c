/* answers: what was just answered from the store, while that holds. */
#include "server/answers.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

/* FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint32_t hash(uint32_t h, const char *text) {
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

static size_t slot_of(const char *project, const char *uri) {
    return hash(hash(2166136261u, uri), project) % ANSWERS_SLOTS;
}

/* A key is "URI PROJECT": no URI has a space in it. */
static int is_key(const char *key, const char *project, const char *uri) {
    size_t n = strlen(uri);
    return strncmp(key, uri, n) == 0 && key[n] == ' ' && strcmp(key + n + 1, project) == 0;
}

const struct answer *answers_find(const struct answers *a, const char *project, const char *uri,
                                  int64_t version) {
    const struct answer *at = &a->slots[slot_of(project, uri)];
    if (at->key == NULL || at->version != version || !is_key(at->key, project, uri) ||
        at->second != clock_unix())
        return NULL;
    return at;
}

void answers_keep(struct answers *a, const char *project, const char *uri, int64_t version,
                  const char *text, size_t len) {
    struct answer *at = &a->slots[slot_of(project, uri)];
    if (len > ANSWERS_BYTES)
        return;
    size_t uri_len = strlen(uri), project_size = strlen(project) + 1;
    free(at->key);
    free(at->text);
    *at = (struct answer){.key = xmalloc(uri_len + 1 + project_size),
                          .text = xmalloc(len),
                          .len = len,
                          .version = version,
                          .second = clock_unix()};
    memcpy(at->key, uri, uri_len);
    at->key[uri_len] = ' ';
    memcpy(at->key + uri_len + 1, project, project_size);
    memcpy(at->text, text, len);
}

void answers_clear(struct answers *a) {
    for (size_t i = 0; i < ANSWERS_SLOTS; i++) {
        free(a->slots[i].key);
        free(a->slots[i].text);
    }
    *a = (struct answers){0};
}
