/* job_texts: texts of jobs that have ended, as they were last shown. */
#include "api/job_texts.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* A text has one place, by its key; jobs that follow one another do not meet there. */
#define PLACES (1u << 17)
#define LARGEST_SHARE 64 /* of all bytes one text takes a 64th at most */

struct text {
    int64_t key;
    size_t len;
    char bytes[];
};

struct job_texts {
    size_t most, used;
    size_t hand; /* where the next text is removed to make room */
    struct text *places[PLACES];
};

static int64_t key_of(int64_t seq, bool whole) {
    return 2 * seq + whole;
}

static size_t place_of(int64_t key) {
    return (size_t)((uint64_t)key % PLACES);
}

static size_t size_of(const struct text *text) {
    return sizeof *text + text->len;
}

struct job_texts *job_texts_new(size_t most_bytes) {
    struct job_texts *t = xcalloc(1, sizeof *t);
    t->most = most_bytes;
    return t;
}

static void clear_place(struct job_texts *t, size_t place) {
    struct text *text = t->places[place];
    if (text == NULL)
        return;
    t->used -= size_of(text);
    t->places[place] = NULL;
    free(text);
}

void job_texts_free(struct job_texts *t) {
    for (size_t i = 0; t != NULL && i < PLACES; i++)
        free(t->places[i]);
    free(t);
}

const char *job_texts_find(const struct job_texts *t, int64_t seq, bool whole, size_t *len) {
    int64_t key = key_of(seq, whole);
    const struct text *text = t->places[place_of(key)];
    if (text == NULL || text->key != key)
        return NULL;
    *len = text->len;
    return text->bytes;
}

void job_texts_keep(struct job_texts *t, int64_t seq, bool whole, const char *text, size_t len) {
    int64_t key = key_of(seq, whole);
    size_t place = place_of(key), size = sizeof(struct text) + len;
    if (size > t->most / LARGEST_SHARE)
        return;
    clear_place(t, place);
    for (; t->used + size > t->most; t->hand = (t->hand + 1) % PLACES)
        clear_place(t, t->hand);
    struct text *own = xmalloc(size);
    *own = (struct text){.key = key, .len = len};
    memcpy(own->bytes, text, len);
    t->places[place] = own;
    t->used += size;
}

void job_texts_drop(struct job_texts *t, int64_t seq) {
    for (int whole = 0; whole < 2; whole++) {
        int64_t key = key_of(seq, whole);
        const struct text *text = t->places[place_of(key)];
        if (text != NULL && text->key == key)
            clear_place(t, place_of(key));
    }
}
