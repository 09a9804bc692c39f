/* tok_pretok_run: text through the stages of a pre-tokenizer. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/text/tok_bytelevel.h"
#include "engine/text/tok_pretok_stage.h"
#include "engine/text/tok_unicode.h"

void pretok_run_init(struct pretok_run *r, const struct tok_pretok *p) {
    *r = (struct pretok_run){.pretok = p};
    r->buffers = xcalloc(p->n_stages + 1, sizeof *r->buffers);
}

void pretok_run_clear(struct pretok_run *r) {
    for (size_t i = 0; r->buffers != NULL && i < r->pretok->n_stages; i++)
        text_clear(&r->buffers[i]);
    free(r->buffers);
    r->buffers = NULL;
}

static enum err split_by_pattern(struct splitter *s, const struct pretok_stage *stage) {
    struct tok_find find;
    size_t begin, end, at = 0;
    bool found;
    tok_find_start(&find, &stage->pattern, s->run->scratch, s->piece.s, s->piece.len);
    for (;;) {
        enum err e = tok_find_next(&find, &found, &begin, &end, s->run->em);
        if (e == ERR_OK && (found ? begin : s->piece.len) > at)
            e = splitter_add(s, at, found ? begin : s->piece.len, stage->invert);
        if (e == ERR_OK && found)
            e = splitter_add(s, begin, end, !stage->invert);
        if (e != ERR_OK || !found)
            return e;
        at = end;
    }
}

static bool delimits(const struct pretok_stage *stage, uint32_t cp) {
    return stage->kind == PRETOK_CHAR ? cp == stage->character : stage->is_delimiter(cp);
}

static enum err split_by_class(struct splitter *s, const struct pretok_stage *stage) {
    const char *begin = s->piece.s, *end = begin + s->piece.len;
    size_t at = 0, len;
    enum err e = ERR_OK;
    for (const char *p = begin; p < end && e == ERR_OK; p += len) {
        uint32_t cp = utf8_get(p, end, &len);
        if (!delimits(stage, cp))
            continue;
        size_t here = (size_t)(p - begin);
        if (here > at)
            e = splitter_add(s, at, here, false);
        if (e == ERR_OK)
            e = splitter_add(s, here, here + len, true);
        at = here + len;
    }
    if (e == ERR_OK && at < s->piece.len)
        e = splitter_add(s, at, s->piece.len, false);
    return e;
}

/* Runs of word characters, and runs of what is neither a word character nor white space. */
static enum err split_words(struct splitter *s) {
    const char *begin = s->piece.s, *end = begin + s->piece.len;
    enum { SPACE, WORD, OTHER } kind = SPACE, now;
    size_t at = 0, len;
    enum err e = ERR_OK;
    for (const char *p = begin; p < end && e == ERR_OK; p += len) {
        uint32_t cp = utf8_get(p, end, &len);
        now = tok_is_word(cp) ? WORD : tok_is_whitespace(cp) ? SPACE : OTHER;
        size_t here = (size_t)(p - begin);
        if (now == kind)
            continue;
        if (kind != SPACE)
            e = splitter_add(s, at, here, false);
        kind = now;
        at = here;
    }
    if (e == ERR_OK && kind != SPACE)
        e = splitter_add(s, at, s->piece.len, false);
    return e;
}

static enum err split_fixed(struct splitter *s, size_t length) {
    const char *begin = s->piece.s, *end = begin + s->piece.len, *p = begin;
    enum err e = ERR_OK;
    while (p < end && e == ERR_OK) {
        size_t at = (size_t)(p - begin), len;
        for (size_t i = 0; i < length && p < end; i++, p += len)
            (void)utf8_get(p, end, &len);
        e = splitter_add(s, at, (size_t)(p - begin), false);
    }
    return e;
}

/* Spaces become the replacement, which is also put in front as the scheme says. */
static struct piece metaspace(const struct pretok_stage *stage, struct piece p, struct text *out) {
    char with[4];
    size_t n = utf8_put(stage->character, with), zero = 0;
    text_reset(out);
    bool starts = p.s[0] == ' ' || (p.len >= n && memcmp(p.s, with, n) == 0);
    bool wanted = stage->scheme == PREPEND_ALWAYS || (stage->scheme == PREPEND_FIRST && p.zero > 0);
    if (wanted && !starts) {
        text_add(out, with, n);
        zero = p.zero > 0 ? n : 0;
    }
    for (size_t at = 0; at < p.len;) {
        const char *space = memchr(p.s + at, ' ', p.len - at);
        size_t stop = space == NULL ? p.len : (size_t)(space - p.s);
        text_add(out, p.s + at, stop - at);
        zero += at < p.zero ? (stop < p.zero ? stop : p.zero) - at : 0;
        if (space != NULL) {
            text_add(out, with, n);
            zero += stop < p.zero ? n : 0;
            stop++;
        }
        at = stop;
    }
    return (struct piece){out->data, out->len, zero};
}

static struct piece prefix_space(struct piece p, struct text *out) {
    if (p.s[0] == ' ')
        return p;
    text_reset(out);
    text_add(out, " ", 1);
    text_add(out, p.s, p.len);
    return (struct piece){out->data, out->len, p.zero > 0 ? p.zero + 1 : 0};
}

static struct piece bytelevel(struct piece p, struct text *out) {
    text_reset(out);
    bytelevel_encode(p.s, p.zero, out);
    size_t zero = out->len;
    bytelevel_encode(p.s + p.zero, p.len - p.zero, out);
    return (struct piece){out->data, out->len, zero};
}

enum err pretok_stage_run(struct pretok_run *r, size_t stage, struct piece p) {
    if (stage == r->pretok->n_stages)
        return r->word(r->context, p.s, p.len, r->em);
    const struct pretok_stage *st = &r->pretok->stages[stage];
    struct text *buffer = &r->buffers[stage];
    struct splitter s = {.run = r, .next = stage + 1, .behavior = st->behavior, .piece = p};
    enum err e;
    switch (st->kind) {
    case PRETOK_PREFIX_SPACE:
        return pretok_stage_run(r, stage + 1, prefix_space(p, buffer));
    case PRETOK_BYTELEVEL:
        return pretok_stage_run(r, stage + 1, bytelevel(p, buffer));
    case PRETOK_METASPACE:
        return pretok_stage_run(r, stage + 1, metaspace(st, p, buffer));
    case PRETOK_SPLIT:
        e = split_by_pattern(&s, st);
        break;
    case PRETOK_WORDS:
        s.behavior = SPLIT_ISOLATED;
        e = split_words(&s);
        break;
    case PRETOK_FIXED:
        s.behavior = SPLIT_ISOLATED;
        e = split_fixed(&s, st->length);
        break;
    default:
        e = split_by_class(&s, st);
    }
    return e == ERR_OK ? splitter_end(&s) : e;
}

enum err pretok_run(struct pretok_run *r, struct piece p) {
    return p.len == 0 ? ERR_OK : pretok_stage_run(r, 0, p);
}
