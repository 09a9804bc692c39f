/* tok_unicode: character classes, case and normal forms for the tokenizer. */
#include "engine/text/tok_unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/mem.h"
#include "engine/text/tok_unicode_data.h"

static bool in_class(const struct tok_class *c, uint32_t cp) {
    const struct tok_range *r = c->range;
    size_t lo = 0, n = c->n;
    while (lo < n) {
        size_t mid = lo + (n - lo) / 2;
        if (cp > r[mid].hi)
            lo = mid + 1;
        else if (cp < r[mid].lo)
            n = mid;
        else
            return true;
    }
    return false;
}

bool tok_is_whitespace(uint32_t cp) {
    if (cp < 0x80)
        return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

bool tok_is_numeric(uint32_t cp) {
    if (cp < 0x80)
        return cp >= '0' && cp <= '9';
    return in_class(&tok_unicode_numeric, cp);
}

bool tok_is_punctuation(uint32_t cp) {
    return in_class(&tok_unicode_punctuation, cp);
}

bool tok_is_control(uint32_t cp) {
    return in_class(&tok_unicode_control, cp);
}

bool tok_is_nonspacing(uint32_t cp) {
    return in_class(&tok_unicode_nonspacing, cp);
}

bool tok_is_mark(uint32_t cp) {
    return in_class(&tok_unicode_mark, cp);
}

bool tok_is_chinese(uint32_t cp) {
    static const struct tok_range blocks[] = {
        {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
        {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F},
    };
    static const struct tok_class chinese = {blocks, sizeof blocks / sizeof blocks[0]};
    return in_class(&chinese, cp);
}

/* Alphabetic characters that are neither letters, marks nor letter numbers: circled letters. */
static bool other_alphabetic(uint32_t cp) {
    return (cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) ||
           (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189);
}

bool tok_is_word(uint32_t cp) {
    if (cp < 0x80)
        return (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') || (cp >= '0' && cp <= '9') ||
               cp == '_';
    for (size_t i = 0; i < tok_unicode_new.n && cp >= tok_unicode_new.range[i].lo; i++)
        if (cp <= tok_unicode_new.range[i].hi) {
            const char *c = tok_unicode_new.range[i].category;
            return c[0] == 'L' || c[0] == 'M' || strcmp(c, "Nd") == 0;
        }
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return cp == 0x200C || cp == 0x200D || other_alphabetic(cp);
    }
}

/* Upper-case letters newer than utf8proc's tables: the lower case is lo's plus `delta`. */
static const struct {
    uint32_t lo, hi;
    int32_t delta;
} new_case[] = {
    {0x1C89, 0x1C89, 1},      {0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
    {0xA7CC, 0xA7CC, 1},      {0xA7CE, 0xA7CE, 1},
    {0xA7D2, 0xA7D2, 1},      {0xA7D4, 0xA7D4, 1},
    {0xA7DA, 0xA7DA, 1},      {0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
    {0x10D50, 0x10D65, 0x20}, {0x16EA0, 0x16EB8, 0x1B},
};

void tok_lowercase(const char *s, size_t n, struct text *out) {
    const char *end = s + n;
    size_t len;
    for (; s < end; s += len) {
        uint32_t cp = utf8_get(s, end, &len);
        if (cp < 0x80) {
            char c = (char)(cp >= 'A' && cp <= 'Z' ? cp + 32 : cp);
            text_add(out, &c, 1);
            continue;
        }
        if (cp == 0x130) { /* the one character whose lower case is two */
            text_add_cp(out, 'i');
            text_add_cp(out, 0x307);
            continue;
        }
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
        for (size_t i = 0; i < sizeof new_case / sizeof new_case[0]; i++)
            if (cp >= new_case[i].lo && cp <= new_case[i].hi)
                lower = (uint32_t)((int32_t)cp + new_case[i].delta);
        text_add_cp(out, lower);
    }
}

/* Decomposed characters of one stretch between inert characters. */
struct segment {
    utf8proc_int32_t *cp;
    size_t len, cap;
};

static void segment_add(struct segment *seg, uint32_t cp, utf8proc_option_t options) {
    utf8proc_int32_t parts[32]; /* the longest decomposition has 18 characters */
    int boundary = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32, options, &boundary);
    if (n < 1 || n > 32) {
        parts[0] = (utf8proc_int32_t)cp;
        n = 1;
    }
    if (seg->cap - seg->len < (size_t)n) {
        seg->cap = (seg->cap + (size_t)n) * 2;
        seg->cp = xreallocarray(seg->cp, seg->cap, sizeof *seg->cp);
    }
    memcpy(seg->cp + seg->len, parts, (size_t)n * sizeof *parts);
    seg->len += (size_t)n;
}

static unsigned combining_class(utf8proc_int32_t cp) {
    return cp < 0x300 ? 0 : (unsigned)utf8proc_get_property(cp)->combining_class;
}

/* Stable counting sort of one run of marks by combining class. */
static void order_run(utf8proc_int32_t *cp, size_t n) {
    size_t count[257] = {0};
    bool sorted = true;
    for (size_t i = 0; i < n; i++) {
        count[combining_class(cp[i]) + 1]++;
        sorted = sorted && (i == 0 || combining_class(cp[i - 1]) <= combining_class(cp[i]));
    }
    if (sorted)
        return;
    for (size_t c = 1; c < 257; c++)
        count[c] += count[c - 1];
    utf8proc_int32_t *copy = xreallocarray(NULL, n, sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[count[combining_class(cp[i])]++] = cp[i];
    memcpy(cp, copy, n * sizeof *cp);
    free(copy);
}

static void segment_flush(struct segment *seg, bool compose, struct text *out) {
    size_t run = 0;
    for (size_t i = 0; i <= seg->len; i++) {
        if (i < seg->len && combining_class(seg->cp[i]) != 0)
            continue;
        if (i > run + 1)
            order_run(seg->cp + run, i - run);
        run = i + 1;
    }
    utf8proc_ssize_t n = (utf8proc_ssize_t)seg->len;
    if (compose && n > 1)
        n = utf8proc_normalize_utf32(seg->cp, n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    for (utf8proc_ssize_t i = 0; i < n; i++)
        text_add_cp(out, (uint32_t)seg->cp[i]);
    seg->len = 0;
}

void tok_normal_form(enum tok_form form, const char *s, size_t n, struct text *out) {
    bool compose = form == TOK_NFC || form == TOK_NFKC;
    bool compat = form == TOK_NFKC || form == TOK_NFKD;
    utf8proc_option_t options = UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    struct segment seg = {0};
    const char *end = s + n;
    while (s < end) {
        /* ASCII is a normal form of its own, but its last letter may take a mark that follows. */
        const char *p = s;
        while (p < end && (unsigned char)*p < 0x80)
            p++;
        size_t ascii = (size_t)(p - s);
        if (ascii > 0 && p < end)
            ascii--;
        if (ascii > 0) {
            segment_flush(&seg, compose, out);
            text_add(out, s, ascii);
            s += ascii;
            continue;
        }
        size_t len;
        uint32_t cp = utf8_get(s, end, &len);
        s += len;
        if (in_class(&tok_unicode_inert, cp)) {
            segment_flush(&seg, compose, out);
            text_add_cp(out, cp);
        } else {
            segment_add(&seg, cp, options);
        }
    }
    segment_flush(&seg, compose, out);
    free(seg.cp);
}
