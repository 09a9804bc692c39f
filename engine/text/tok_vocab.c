/* tok_vocab: the model's vocabulary, both ways. */
#include "engine/text/tok_vocab.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

uint64_t vocab_hash_seed(void) {
    uint64_t seed;
    randombytes_buf(&seed, sizeof seed);
    return seed;
}

static uint64_t mix(uint64_t h) {
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93u;
    return h ^ h >> 32;
}

uint64_t vocab_hash(uint64_t seed, const char *s, size_t n) {
    uint64_t h = seed ^ n * 0x9E3779B97F4A7C15u, word;
    while (n >= sizeof word) {
        memcpy(&word, s, sizeof word);
        h = mix(h ^ word);
        s += sizeof word;
        n -= sizeof word;
    }
    word = 0;
    memcpy(&word, s, n);
    return mix(h ^ word);
}

const char *vocab_string(const struct vocab *v, int64_t id, size_t *n) {
    if (id < 0 || (uint64_t)id >= v->n_ids || !v->have[id])
        return NULL;
    *n = v->start[id + 1] - v->start[id];
    return v->bytes + v->start[id];
}

int32_t vocab_find(const struct vocab *v, const char *s, size_t n) {
    if (v->n_slots == 0)
        return -1;
    size_t mask = v->n_slots - 1;
    for (size_t i = (size_t)vocab_hash(v->seed, s, n) & mask; v->slot[i] >= 0; i = (i + 1) & mask) {
        int32_t id = v->slot[i];
        if (v->start[id + 1] - v->start[id] == n && memcmp(v->bytes + v->start[id], s, n) == 0)
            return id;
    }
    return -1;
}

static void insert(struct vocab *v, int32_t id) {
    size_t mask = v->n_slots - 1, n = v->start[id + 1] - v->start[id];
    size_t i = (size_t)vocab_hash(v->seed, v->bytes + v->start[id], n) & mask;
    while (v->slot[i] >= 0)
        i = (i + 1) & mask;
    v->slot[i] = id;
}

/* Checks the ids; sets n_ids and n_tokens, and *bytes to the length of all strings. */
static enum err measure(struct vocab *v, const json_t *tokens, size_t *bytes,
                        const struct tok_path *at, struct err_msg *em) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)tokens, key, value) {
        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            json_integer_value(value) >= LIMIT_VOCAB)
            return tok_json_error(at, ERR_INPUT, em, "id of `%.60s` must be an integer below %d",
                                  key, LIMIT_VOCAB);
        size_t id = (size_t)json_integer_value(value);
        v->n_ids = id + 1 > v->n_ids ? id + 1 : v->n_ids;
        *bytes += strlen(key);
        v->n_tokens++;
    }
    return ERR_OK;
}

enum err vocab_load(struct vocab *v, const json_t *tokens, const struct tok_path *at,
                    struct err_msg *em) {
    *v = (struct vocab){0};
    if (!json_is_object(tokens))
        return tok_json_error(at, ERR_INPUT, em, "must be an object of token to id");
    size_t bytes = 0;
    enum err e = measure(v, tokens, &bytes, at, em);
    if (e != ERR_OK)
        return e;
    v->bytes = xmalloc(bytes + 1);
    v->start = xcalloc(v->n_ids + 2, sizeof *v->start);
    v->have = xcalloc(v->n_ids + 1, 1);
    const char **name = xcalloc(v->n_ids + 1, sizeof *name);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)tokens, key, value) {
        size_t id = (size_t)json_integer_value(value);
        if (name[id] != NULL) {
            e = tok_json_error(at, ERR_INPUT, em, "`%.60s` and `%.60s` have the same id %zu",
                               name[id], key, id);
            goto out;
        }
        name[id] = key;
    }
    v->n_slots = 16;
    while (v->n_slots < v->n_tokens * 2)
        v->n_slots *= 2;
    v->slot = xmalloc(v->n_slots * sizeof *v->slot);
    memset(v->slot, 0xFF, v->n_slots * sizeof *v->slot);
    v->seed = vocab_hash_seed();
    size_t used = 0;
    for (size_t id = 0; id < v->n_ids; id++) {
        v->start[id] = (uint32_t)used;
        if (name[id] != NULL) {
            size_t n = strlen(name[id]);
            memcpy(v->bytes + used, name[id], n);
            used += n;
            v->have[id] = 1;
        }
        v->start[id + 1] = (uint32_t)used;
        if (name[id] != NULL)
            insert(v, (int32_t)id);
    }
out:
    free(name);
    return e;
}

void vocab_clear(struct vocab *v) {
    free(v->bytes);
    free(v->start);
    free(v->have);
    free(v->slot);
    *v = (struct vocab){0};
}
