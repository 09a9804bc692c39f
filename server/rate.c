/* rate: token buckets, by key, project or address. */
#include "server/rate.h"

#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define SETS 2048
#define WAYS 8

struct bucket {
    uint64_t id; /* 0: free */
    double tokens, at, per_minute;
};

struct rate {
    unsigned char key[crypto_shorthash_KEYBYTES]; /* so that nobody can choose a set */
    struct bucket sets[SETS][WAYS];
};

struct rate *rate_new(void) {
    struct rate *r = xcalloc(1, sizeof *r);
    crypto_shorthash_keygen(r->key);
    return r;
}

void rate_free(struct rate *r) {
    free(r);
}

static uint64_t id_of(const struct rate *r, const char *kind, const char *name) {
    unsigned char hash[crypto_shorthash_BYTES];
    uint64_t id;
    char *text = xasprintf("%s:%s", kind, name);
    (void)crypto_shorthash(hash, (const unsigned char *)text, strlen(text), r->key);
    free(text);
    memcpy(&id, hash, sizeof id);
    return id != 0 ? id : 1;
}

static double level(const struct bucket *b, double now) {
    double tokens = b->tokens + (now - b->at) * b->per_minute / 60;
    return tokens < b->per_minute ? tokens : b->per_minute;
}

static struct bucket *find(struct rate *r, uint64_t id, double per_minute, double now) {
    struct bucket *set = r->sets[id % SETS];
    struct bucket *free_one = NULL, *fullest = NULL;
    double most = -1;
    for (int i = 0; i < WAYS; i++) {
        if (set[i].id == id)
            return &set[i];
        if (set[i].id == 0) {
            free_one = &set[i];
            continue;
        }
        double share = level(&set[i], now) / set[i].per_minute;
        if (share > most) {
            most = share;
            fullest = &set[i];
        }
    }
    struct bucket *b = free_one != NULL ? free_one : fullest;
    *b = (struct bucket){.id = id, .tokens = per_minute, .at = now, .per_minute = per_minute};
    return b;
}

struct rate_result rate_take(struct rate *r, const char *kind, const char *name, int64_t per_minute,
                             double now) {
    double whole = (double)per_minute;
    struct bucket *b = find(r, id_of(r, kind, name), whole, now);
    b->tokens = level(b, now);
    b->at = now;
    struct rate_result out = {.limit = per_minute, .refused = b->tokens < 1};
    if (out.refused)
        out.retry_seconds = (1 - b->tokens) * 60 / whole;
    else
        b->tokens -= 1;
    out.remaining = (int64_t)floor(b->tokens);
    out.reset_seconds = (whole - b->tokens) * 60 / whole;
    return out;
}

void rate_write_duration(double seconds, char out[32]) {
    long long ms = (long long)ceil(seconds * 1000);
    if (ms < 1000)
        (void)snprintf(out, 32, "%lldms", ms);
    else if (ms < 60000)
        (void)snprintf(out, 32, "%llds", (ms + 999) / 1000);
    else
        (void)snprintf(out, 32, "%lldm%llds", ms / 60000, ms % 60000 / 1000);
}
