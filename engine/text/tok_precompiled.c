/* tok_precompiled: SentencePiece's precompiled character map. */
#include "engine/text/tok_precompiled.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"

/* Longer graphemes are only looked up character by character. */
#define GRAPHEME_BYTES 6

enum err precompiled_load(struct precompiled *p, const char *base64, size_t len,
                          const struct tok_path *at, struct err_msg *em) {
    *p = (struct precompiled){0};
    size_t n = 0, cap = len / 4 * 3 + 3;
    p->blob = xmalloc(cap);
    const char *end;
    if (sodium_base642bin(p->blob, cap, base64, len, NULL, &n, &end,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        end != base64 + len)
        return tok_json_error(at, ERR_INPUT, em, "`precompiled_charsmap` is not base64");
    if (n < 4)
        return tok_json_error(at, ERR_INPUT, em, "`precompiled_charsmap` is cut short");
    size_t trie = (size_t)p->blob[0] | (size_t)p->blob[1] << 8 | (size_t)p->blob[2] << 16 |
                  (size_t)p->blob[3] << 24;
    if (trie > n - 4 || trie % 4 != 0)
        return tok_json_error(at, ERR_INPUT, em, "`precompiled_charsmap` is cut short");
    p->units = p->blob + 4;
    p->n_units = trie / 4;
    p->strings = (const char *)p->blob + 4 + trie;
    p->strings_len = n - 4 - trie;
    if (utf8_valid_prefix(p->strings, p->strings_len) != p->strings_len)
        return tok_json_error(at, ERR_INPUT, em, "`precompiled_charsmap` holds bad UTF-8");
    return ERR_OK;
}

void precompiled_clear(struct precompiled *p) {
    free(p->blob);
    *p = (struct precompiled){0};
}

/* Unit i of the trie; 0 outside it, which has no label, no leaf and no offset. */
static uint32_t unit(const struct precompiled *p, size_t i) {
    if (i >= p->n_units)
        return 0;
    const unsigned char *u = p->units + 4 * i;
    return (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 | (uint32_t)u[3] << 24;
}

static size_t unit_offset(uint32_t u) {
    return (size_t)(u >> 10) << ((u & 1u << 9) >> 6);
}

/* The replacement of the shortest prefix of s that has one (sic: as SentencePiece). */
static const char *find(const struct precompiled *p, const char *s, size_t n, size_t *len) {
    size_t node = unit_offset(unit(p, 0));
    for (size_t i = 0; i < n && s[i] != '\0'; i++) {
        unsigned char c = (unsigned char)s[i];
        node ^= c;
        uint32_t u = unit(p, node);
        if ((u & (1u << 31 | 0xFF)) != c)
            return NULL;
        node ^= unit_offset(u);
        if ((u >> 8 & 1) == 0)
            continue;
        size_t at = unit(p, node) & ((1u << 31) - 1);
        if (at >= p->strings_len)
            return NULL;
        const char *end = memchr(p->strings + at, '\0', p->strings_len - at);
        *len = end == NULL ? p->strings_len - at : (size_t)(end - (p->strings + at));
        return p->strings + at;
    }
    return NULL;
}

static void apply_grapheme(const struct precompiled *p, const char *s, size_t n, struct text *out) {
    size_t len, step;
    const char *with = n < GRAPHEME_BYTES ? find(p, s, n, &len) : NULL;
    if (with != NULL) {
        text_add(out, with, len);
        return;
    }
    for (const char *end = s + n; s < end; s += step) {
        (void)utf8_get(s, end, &step);
        with = find(p, s, step, &len);
        text_add(out, with != NULL ? with : s, with != NULL ? len : step);
    }
}

void precompiled_apply(const struct precompiled *p, const char *s, size_t n, struct text *out) {
    const char *end = s + n, *start = s;
    utf8proc_int32_t state = 0;
    uint32_t before = 0;
    size_t len;
    for (const char *at = s; at < end; at += len) {
        uint32_t cp = utf8_get(at, end, &len);
        if (at > start && utf8proc_grapheme_break_stateful((utf8proc_int32_t)before,
                                                           (utf8proc_int32_t)cp, &state)) {
            apply_grapheme(p, start, (size_t)(at - start), out);
            start = at;
        }
        before = cp;
    }
    apply_grapheme(p, start, (size_t)(end - start), out);
}
