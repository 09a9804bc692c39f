/* choices: see choices.h. */
#include "engine/ops/cuda/choices.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

#define FILE_MOST ((size_t)16 << 20)

struct choice {
    int64_t shape[CHOICE_NUMBERS];
    uint64_t words[CHOICE_WORDS];
};

struct choices {
    char *path, *identity;
    struct choice *items; /* in the order they came */
    size_t n, room;
    bool changed;
};

void choices_free(struct choices *c) {
    if (!c)
        return;
    free(c->path);
    free(c->identity);
    free(c->items);
    free(c);
}

void choices_add(struct choices *c, const int64_t shape[CHOICE_NUMBERS],
                 const uint64_t words[CHOICE_WORDS]) {
    if (c->n == c->room) {
        c->room = 2 * c->room + 64;
        c->items = xreallocarray(c->items, c->room, sizeof *c->items);
    }
    struct choice *item = &c->items[c->n++];
    memcpy(item->shape, shape, sizeof item->shape);
    memcpy(item->words, words, sizeof item->words);
    c->changed = true;
}

const uint64_t *choices_find(const struct choices *c, const int64_t shape[CHOICE_NUMBERS]) {
    for (size_t i = 0; i < c->n; i++)
        if (memcmp(c->items[i].shape, shape, sizeof c->items[i].shape) == 0)
            return c->items[i].words;
    return NULL;
}

/* ---- the file ------------------------------------------------------------------------------- */

/* One line after the first; false: not of this form. */
static bool read_line(struct choices *c, char *line) {
    int64_t shape[CHOICE_NUMBERS];
    uint64_t words[CHOICE_WORDS];
    char *at = line, *end;
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
    if (*at != '\0' || choices_find(c, shape))
        return false;
    choices_add(c, shape, words);
    return true;
}

/* The number of the first bad line; 0: there is none. *same: the text is of this identity, else
 * nothing of it is taken. Cuts the text up. */
static int read_lines(struct choices *c, char *text, bool *same) {
    char *rest, *line = strtok_r(text, "\n", &rest);
    *same = line && strcmp(line, c->identity) == 0;
    for (int number = 2; *same && (line = strtok_r(NULL, "\n", &rest)) != NULL; number++)
        if (!read_line(c, line))
            return number;
    c->changed = false;
    return 0;
}

static struct choices *choices_new(const char *identity) {
    struct choices *c = xcalloc(1, sizeof *c);
    c->identity = xstrdup(identity);
    return c;
}

struct choices *choices_from(const char *text, const char *identity) {
    struct choices *c = choices_new(identity);
    char *copy = xstrdup(text);
    bool same;
    if (read_lines(c, copy, &same) != 0 || !same) {
        choices_free(c);
        c = NULL;
    }
    free(copy);
    return c;
}

enum err choices_open(const char *path, const char *identity, struct choices **out,
                      struct err_msg *em) {
    struct err_msg why = ERR_MSG_INIT;
    struct choices *c = choices_new(identity);
    char *text = NULL;
    bool same;
    int bad = 0;
    *out = NULL;
    c->path = xstrdup(path);
    enum err e = file_read(path, FILE_MOST, &text, NULL, &why);
    if (e == ERR_OK)
        bad = read_lines(c, text, &same);
    if (bad > 0)
        e = err_set(em, ERR_INPUT, "%s, line %d: not an algorithm; remove the file", path, bad);
    else if (e == ERR_NOT_FOUND)
        e = ERR_OK;
    else if (e != ERR_OK)
        err_set(em, e, "%s", why.text);
    free(text);
    if (e == ERR_OK)
        *out = c;
    else
        choices_free(c);
    return e;
}

char *choices_text(const struct choices *c) {
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return xstrdup("");
    fprintf(f, "%s\n", c->identity);
    for (size_t i = 0; i < c->n; i++) {
        for (int k = 0; k < CHOICE_NUMBERS; k++)
            fprintf(f, "%s%" PRId64, k ? " " : "", c->items[i].shape[k]);
        fputc(':', f);
        for (int k = 0; k < CHOICE_WORDS; k++)
            fprintf(f, " %" PRIx64, c->items[i].words[k]);
        fputc('\n', f);
    }
    fclose(f);
    return text;
}

enum err choices_save(struct choices *c, struct err_msg *em) {
    if (!c->changed || !c->path)
        return ERR_OK;
    char *text = choices_text(c);
    enum err e = file_write(c->path, text, strlen(text), em);
    free(text);
    c->changed = false;
    return e;
}
