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

struct answer *answer_new(char *text_take, size_t len) {
    struct answer *a = xmalloc(sizeof *a);
    *a = (struct answer){.holders = 1, .text = text_take, .len = len};
    return a;
}

struct answer *answer_hold(struct answer *a) {
    a->holders++;
    return a;
}

void answer_let_go(struct answer *a) {
    if (a == NULL || --a->holders > 0)
        return;
    free(a->text);
    free(a);
}

struct answer *answers_find(const struct answers *a, const char *project, const char *uri,
                            int64_t version) {
    const struct answer_slot *at = &a->slots[slot_of(project, uri)];
    if (at->key == NULL || at->version != version || !is_key(at->key, project, uri) ||
        at->second != clock_unix())
        return NULL;
    return at->answer;
}

void answers_keep(struct answers *a, const char *project, const char *uri, int64_t version,
                  struct answer *answer) {
    struct answer_slot *at = &a->slots[slot_of(project, uri)];
    if (answer->len > ANSWERS_BYTES)
        return;
    size_t uri_len = strlen(uri), project_size = strlen(project) + 1;
    free(at->key);
    answer_let_go(at->answer);
    *at = (struct answer_slot){.key = xmalloc(uri_len + 1 + project_size),
                               .answer = answer_hold(answer),
                               .version = version,
                               .second = clock_unix()};
    memcpy(at->key, uri, uri_len);
    at->key[uri_len] = ' ';
    memcpy(at->key + uri_len + 1, project, project_size);
}

void answers_clear(struct answers *a) {
    for (size_t i = 0; i < ANSWERS_SLOTS; i++) {
        free(a->slots[i].key);
        answer_let_go(a->slots[i].answer);
    }
    *a = (struct answers){0};
}
