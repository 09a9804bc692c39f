/* choices: see choices.h. Items lie in the order they came; a table of their numbers, never more
 * than half full, finds one by its shape. */
#include "engine/ops/cuda/choices.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct choice {
    int64_t shape[CHOICE_NUMBERS];
    uint64_t words[CHOICE_WORDS];
};

struct choices {
    char *identity;
    struct choice *items;
    size_t n, room;  /* room: a power of two, or 0 */
    uint32_t *index; /* [2 room] number of an item, from 1; 0: none */
};

struct choices *choices_new(const char *identity) {
    struct choices *c = xcalloc(1, sizeof *c);
    c->identity = xstrdup(identity);
    return c;
}

void choices_free(struct choices *c) {
    if (!c)
        return;
    free(c->identity);
    free(c->items);
    free(c->index);
    free(c);
}

/* ---- the table ------------------------------------------------------------------------------ */

static size_t hash(const int64_t shape[CHOICE_NUMBERS]) {
    uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a, by numbers */
    for (int i = 0; i < CHOICE_NUMBERS; i++)
        h = (h ^ (uint64_t)shape[i]) * 0x100000001b3ull;
    return (size_t)(h ^ h >> 32);
}

/* Where the shape's number is, or will be. */
static uint32_t *place(const struct choices *c, const int64_t shape[CHOICE_NUMBERS]) {
    size_t mask = 2 * c->room - 1, at = hash(shape) & mask;
    while (c->index[at] != 0 &&
           memcmp(c->items[c->index[at] - 1].shape, shape, sizeof c->items[0].shape) != 0)
        at = (at + 1) & mask;
    return &c->index[at];
}

static void grow(struct choices *c) {
    c->room = c->room ? 2 * c->room : 64;
    c->items = xreallocarray(c->items, c->room, sizeof *c->items);
    free(c->index);
    c->index = xcalloc(2 * c->room, sizeof *c->index);
    for (size_t i = 0; i < c->n; i++)
        *place(c, c->items[i].shape) = (uint32_t)i + 1;
}

const uint64_t *choices_find(const struct choices *c, const int64_t shape[CHOICE_NUMBERS]) {
    uint32_t number = c->n > 0 ? *place(c, shape) : 0;
    return number > 0 ? c->items[number - 1].words : NULL;
}

void choices_add(struct choices *c, const int64_t shape[CHOICE_NUMBERS],
                 const uint64_t words[CHOICE_WORDS]) {
    if (c->n == c->room)
        grow(c);
    uint32_t *number = place(c, shape);
    if (*number != 0)
        return;
    struct choice *item = &c->items[c->n++];
    memcpy(item->shape, shape, sizeof item->shape);
    memcpy(item->words, words, sizeof item->words);
    *number = (uint32_t)c->n;
}

/* ---- text ----------------------------------------------------------------------------------- */

bool choices_add_line(struct choices *c, const char *line) {
    int64_t shape[CHOICE_NUMBERS];
    uint64_t words[CHOICE_WORDS];
    const char *at = line;
    char *end;
    for (int i = 0; i < CHOICE_NUMBERS; i++, at = end) {
        shape[i] = strtoll(at, &end, 10);
        if (end == at)
            return false;
    }
    if (*at++ != ':')
        return false;
    for (int i = 0; i < CHOICE_WORDS; i++, at = end) {
        words[i] = strtoull(at, &end, 16);
        if (end == at)
            return false;
    }
    if (*at != '\0')
        return false;
    choices_add(c, shape, words);
    return true;
}

size_t choices_line(char line[CHOICE_LINE_MAX], const int64_t shape[CHOICE_NUMBERS],
                    const uint64_t words[CHOICE_WORDS]) {
    int n = 0;
    for (int i = 0; i < CHOICE_NUMBERS; i++)
        n += snprintf(line + n, CHOICE_LINE_MAX - (size_t)n, "%s%" PRId64, i ? " " : "", shape[i]);
    for (int i = 0; i < CHOICE_WORDS; i++)
        n += snprintf(line + n, CHOICE_LINE_MAX - (size_t)n, "%s %" PRIx64, i ? "" : ":", words[i]);
    n += snprintf(line + n, CHOICE_LINE_MAX - (size_t)n, "\n");
    return (size_t)n;
}

char *choices_text(const struct choices *c) {
    size_t n = strlen(c->identity);
    char *text = xmalloc(n + 2 + c->n * CHOICE_LINE_MAX);
    memcpy(text, c->identity, n);
    text[n++] = '\n';
    for (size_t i = 0; i < c->n; i++)
        n += choices_line(text + n, c->items[i].shape, c->items[i].words);
    text[n] = '\0';
    return text;
}

struct choices *choices_from(const char *text, const char *identity) {
    struct choices *c = choices_new(identity);
    char *copy = xstrdup(text), *rest, *line = strtok_r(copy, "\n", &rest);
    bool good = line && strcmp(line, identity) == 0;
    while (good && (line = strtok_r(NULL, "\n", &rest)) != NULL)
        good = choices_add_line(c, line);
    free(copy);
    if (good)
        return c;
    choices_free(c);
    return NULL;
}
