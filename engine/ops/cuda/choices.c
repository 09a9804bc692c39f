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

static enum err read_lines(struct choices *c, char *text, struct err_msg *em) {
    char *rest, *line = strtok_r(text, "\n", &rest);
    if (!line || strcmp(line, c->identity) != 0)
        return ERR_OK; /* of another device or library: begin anew */
    for (int number = 2; (line = strtok_r(NULL, "\n", &rest)) != NULL; number++)
        if (!read_line(c, line))
            return err_set(em, ERR_INPUT, "%s, line %d: not an algorithm; remove the file", c->path,
                           number);
    c->changed = false;
    return ERR_OK;
}

enum err choices_open(const char *path, const char *identity, struct choices **out,
                      struct err_msg *em) {
    struct err_msg why = ERR_MSG_INIT;
    struct choices *c = xcalloc(1, sizeof *c);
    char *text = NULL;
    *out = NULL;
    c->path = xstrdup(path);
    c->identity = xstrdup(identity);
    enum err e = file_read(path, FILE_MOST, &text, NULL, &why);
    if (e == ERR_OK)
        e = read_lines(c, text, em);
    else if (e == ERR_NOT_FOUND)
        e = ERR_OK;
    else
        err_set(em, e, "%s", why.text);
    free(text);
    if (e == ERR_OK)
        *out = c;
    else
        choices_free(c);
    return e;
}

enum err choices_save(struct choices *c, struct err_msg *em) {
    struct file_writer w;
    if (!c->changed)
        return ERR_OK;
    enum err e = file_writer_open(&w, c->path, em);
    if (e != ERR_OK)
        return e;
    fprintf(w.f, "%s\n", c->identity);
    for (size_t i = 0; i < c->n; i++) {
        for (int k = 0; k < CHOICE_NUMBERS; k++)
            fprintf(w.f, "%s%" PRId64, k ? " " : "", c->items[i].shape[k]);
        fputc(':', w.f);
        for (int k = 0; k < CHOICE_WORDS; k++)
            fprintf(w.f, " %" PRIx64, c->items[i].words[k]);
        fputc('\n', w.f);
    }
    c->changed = false;
    return file_writer_commit(&w, em);
}
