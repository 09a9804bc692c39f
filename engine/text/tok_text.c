/* tok_text: UTF-8 and the two containers that the tokenizer's stages hand on. */
#include "engine/text/tok_text.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Length of the well-formed sequence at s (1 to 4), or 0. *bad gets the length of the maximal
 * ill-formed part when 0 (Unicode 15, table 3-7). */
static size_t sequence_len(const unsigned char *s, size_t left, size_t *bad) {
    unsigned char lo = 0x80, hi = 0xBF;
    size_t need;
    *bad = 1;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xC2 && s[0] <= 0xDF)
        need = 2;
    else if (s[0] >= 0xE0 && s[0] <= 0xEF)
        need = 3;
    else if (s[0] >= 0xF0 && s[0] <= 0xF4)
        need = 4;
    else
        return 0;
    if (s[0] == 0xE0)
        lo = 0xA0;
    else if (s[0] == 0xED)
        hi = 0x9F;
    else if (s[0] == 0xF0)
        lo = 0x90;
    else if (s[0] == 0xF4)
        hi = 0x8F;
    for (size_t i = 1; i < need; i++) {
        if (i >= left || s[i] < lo || s[i] > hi) {
            *bad = i;
            return 0;
        }
        lo = 0x80, hi = 0xBF;
    }
    return need;
}

size_t utf8_valid_prefix(const char *s, size_t len) {
    size_t at = 0, bad;
    while (at < len) {
        uint64_t word;
        while (at + sizeof word <= len) { /* eight ASCII bytes at a time */
            memcpy(&word, s + at, sizeof word);
            if ((word & 0x8080808080808080u) != 0)
                break;
            at += sizeof word;
        }
        if (at == len)
            break;
        size_t n = sequence_len((const unsigned char *)s + at, len - at, &bad);
        if (n == 0)
            return at;
        at += n;
    }
    return len;
}

uint32_t utf8_get(const char *s, const char *end, size_t *n) {
    const unsigned char *u = (const unsigned char *)s;
    (void)end;
    if (u[0] < 0x80) {
        *n = 1;
        return u[0];
    }
    if (u[0] < 0xE0) {
        *n = 2;
        return (uint32_t)(u[0] & 0x1F) << 6 | (u[1] & 0x3Fu);
    }
    if (u[0] < 0xF0) {
        *n = 3;
        return (uint32_t)(u[0] & 0x0F) << 12 | (uint32_t)(u[1] & 0x3F) << 6 | (u[2] & 0x3Fu);
    }
    *n = 4;
    return (uint32_t)(u[0] & 0x07) << 18 | (uint32_t)(u[1] & 0x3F) << 12 |
           (uint32_t)(u[2] & 0x3F) << 6 | (u[3] & 0x3Fu);
}

uint32_t utf8_get_before(const char *begin, const char *s, size_t *n) {
    const char *p = s - 1;
    while (p > begin && ((unsigned char)*p & 0xC0) == 0x80)
        p--;
    return utf8_get(p, s, n);
}

size_t utf8_put(uint32_t cp, char *out) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

static void reserve(struct text *t, size_t n) {
    if (t->cap - t->len >= n)
        return;
    size_t cap = t->cap == 0 ? 64 : t->cap;
    while (cap - t->len < n)
        cap *= 2;
    t->data = xreallocarray(t->data, cap, 1);
    t->cap = cap;
}

void text_add(struct text *t, const char *bytes, size_t n) {
    if (n == 0)
        return;
    reserve(t, n);
    memcpy(t->data + t->len, bytes, n);
    t->len += n;
}

void text_add_cp(struct text *t, uint32_t cp) {
    reserve(t, 4);
    t->len += utf8_put(cp, t->data + t->len);
}

void text_reset(struct text *t) {
    t->len = 0;
}

void text_clear(struct text *t) {
    free(t->data);
    *t = (struct text){0};
}

void text_add_lossy(struct text *t, const char *bytes, size_t n) {
    size_t at = 0, bad;
    while (at < n) {
        size_t good = utf8_valid_prefix(bytes + at, n - at);
        text_add(t, bytes + at, good);
        at += good;
        if (at == n)
            break;
        (void)sequence_len((const unsigned char *)bytes + at, n - at, &bad);
        text_add_cp(t, 0xFFFD);
        at += bad;
    }
}

void strings_close(struct strings *l) {
    if (l->len == l->cap) {
        l->cap = l->cap == 0 ? 16 : l->cap * 2;
        l->end = xreallocarray(l->end, l->cap, sizeof *l->end);
    }
    l->end[l->len++] = l->bytes.len;
}

void strings_add(struct strings *l, const char *s, size_t n) {
    text_add(&l->bytes, s, n);
    strings_close(l);
}

const char *strings_get(const struct strings *l, size_t i, size_t *n) {
    size_t begin = i == 0 ? 0 : l->end[i - 1];
    *n = l->end[i] - begin;
    return l->bytes.data == NULL ? "" : l->bytes.data + begin;
}

void strings_reset(struct strings *l) {
    l->len = 0;
    text_reset(&l->bytes);
}

void strings_clear(struct strings *l) {
    text_clear(&l->bytes);
    free(l->end);
    *l = (struct strings){0};
}
