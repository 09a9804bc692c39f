/* tok_onig_property: Oniguruma's names of character properties as items of a PCRE2 class. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/tok_onig.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "engine/text/tok_unicode_data.h"

static void add(struct text *t, const char *s) {
    text_add(t, s, strlen(s));
}

static void add_range(struct text *t, uint32_t lo, uint32_t hi) {
    char s[40];
    (void)snprintf(s, sizeof s, "\\x{%X}-\\x{%X}", (unsigned)lo, (unsigned)hi);
    add(t, s);
}

/* \p{Alphabetic}, and marks that Unicode 15 and 16 made alphabetic. */
#define ALPHABETIC                                                                                 \
    "\\p{Alphabetic}"                                                                              \
    "\\x{363}-\\x{36F}\\x{897}\\x{C04}\\x{CF3}\\x{F82}-\\x{F83}\\x{1DD3}-\\x{1DE6}"                \
    "\\x{10D69}\\x{10EFC}\\x{11080}-\\x{11081}\\x{11241}\\x{113B8}-\\x{113C0}"                     \
    "\\x{113C2}\\x{113C5}\\x{113C7}-\\x{113CA}\\x{113CC}-\\x{113CD}"                               \
    "\\x{11F00}-\\x{11F01}\\x{11F03}\\x{11F34}-\\x{11F3A}\\x{11F3E}-\\x{11F40}"                    \
    "\\x{1611E}-\\x{1612E}\\x{1E08F}"

/* Long names of general categories, and POSIX names as Oniguruma defines them for Unicode.
 * categories: one space between two. */
static const struct {
    const char *name, *categories, *items;
} names[] = {
    {"letter", "L", ""},
    {"uppercaseletter", "Lu", ""},
    {"lowercaseletter", "Ll", ""},
    {"titlecaseletter", "Lt", ""},
    {"modifierletter", "Lm", ""},
    {"otherletter", "Lo", ""},
    {"mark", "M", ""},
    {"nonspacingmark", "Mn", ""},
    {"spacingmark", "Mc", ""},
    {"enclosingmark", "Me", ""},
    {"number", "N", ""},
    {"decimalnumber", "Nd", ""},
    {"letternumber", "Nl", ""},
    {"othernumber", "No", ""},
    {"punctuation", "P", ""},
    {"symbol", "S", ""},
    {"mathsymbol", "Sm", ""},
    {"currencysymbol", "Sc", ""},
    {"modifiersymbol", "Sk", ""},
    {"othersymbol", "So", ""},
    {"separator", "Z", ""},
    {"spaceseparator", "Zs", ""},
    {"other", "C", ""},
    {"control", "Cc", ""},
    {"format", "Cf", ""},
    {"unassigned", "Cn", ""},
    {"privateuse", "Co", ""},
    {"any", "", "\\x{0}-\\x{10FFFF}"},
    {"ascii", "", "\\x{0}-\\x{7F}"},
    {"alpha", "L", ALPHABETIC},
    {"alphabetic", "L", ALPHABETIC},
    {"alnum", "L Nd", ALPHABETIC},
    {"digit", "Nd", ""},
    {"space", "Z", "\\x{9}-\\x{D}\\x{85}"},
    {"whitespace", "Z", "\\x{9}-\\x{D}\\x{85}"},
    {"blank", "Zs", "\\x{9}"},
    {"cntrl", "Cc", ""},
    {"punct", "P", ""}, /* with the symbols as [:punct:] */
    {"graph", "L M N P S Cf Co", ""},
    {"print", "L M N P S Cf Co Zs", ""},
    {"upper", "Lu", "\\p{Uppercase}"},
    {"uppercase", "Lu", "\\p{Uppercase}"},
    {"lower", "Ll", "\\p{Lowercase}"},
    {"lowercase", "Ll", "\\p{Lowercase}"},
    {"xdigit", "", "0-9a-fA-F"},
    {"word", "L M Nd Pc", "\\p{Alphabetic}"}, /* see word_digits */
};

/* Characters that Unicode 15 and 16 gave to much used scripts. */
static const struct {
    const char *script;
    uint32_t lo, hi;
} new_in_script[] = {
    {"Han", 0x2B739, 0x2B739},      {"Han", 0x2EBF0, 0x2EE5D},      {"Han", 0x31350, 0x323AF},
    {"Hiragana", 0x1B132, 0x1B132}, {"Katakana", 0x1B155, 0x1B155}, {"Cyrillic", 0x1C89, 0x1C8A},
    {"Cyrillic", 0x1E030, 0x1E06D}, {"Cyrillic", 0x1E08F, 0x1E08F}, {"Latin", 0xA7CB, 0xA7CD},
    {"Latin", 0xA7DA, 0xA7DC},      {"Latin", 0x1DF25, 0x1DF2A},
};

static bool compiles(const char *pattern) {
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &code, &at, NULL);
    pcre2_code_free(re);
    return re != NULL;
}

/* Whether a new range's category belongs to the one asked for; the table does not split M, P, S. */
static bool belongs(const char *have, const char *want) {
    if (strncmp(have, want, strlen(want)) == 0)
        return true;
    return (strcmp(have, "M") == 0 && strcmp(want, "Mc") == 0) ||
           (strcmp(have, "P") == 0 && strcmp(want, "Po") == 0) ||
           (strcmp(have, "S") == 0 && strcmp(want, "So") == 0);
}

/* What \w and \p{Word} hold besides, unless they stand in a class. */
static const char word_digits[] = "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

static void add_category(struct text *items, const char *category) {
    add(items, "\\p{");
    add(items, category);
    add(items, "}");
    for (size_t i = 0; i < tok_unicode_new.n; i++) {
        const struct tok_new_range *r = &tok_unicode_new.range[i];
        if (belongs(r->category, category))
            add_range(items, r->lo, r->hi);
    }
}

static void add_categories(struct text *items, const char *categories) {
    while (*categories != '\0') {
        size_t n = strcspn(categories, " ");
        char one[3] = {categories[0], n > 1 ? categories[1] : '\0', '\0'};
        add_category(items, one);
        categories += n + (categories[n] == ' ');
    }
}

static bool add_script(struct text *items, const char *name) {
    char item[80];
    (void)snprintf(item, sizeof item, "\\p{sc:%s}", name);
    bool script = compiles(item);
    if (!script)
        (void)snprintf(item, sizeof item, "\\p{%s}", name);
    if (!script && !compiles(item))
        return false;
    add(items, item);
    for (size_t i = 0; i < sizeof new_in_script / sizeof new_in_script[0]; i++)
        if (strcmp(new_in_script[i].script, name) == 0)
            add_range(items, new_in_script[i].lo, new_in_script[i].hi);
    return true;
}

bool onig_property(const char *name, size_t n, enum onig_place place, struct text *items) {
    char full[48], key[48]; /* as written; lower case without separators */
    size_t len = 0;
    if (n == 0 || n >= sizeof full)
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        if (c == ' ' || c == '_' || c == '-')
            continue;
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')))
            return false;
        key[len++] = (char)(c | 0x20);
    }
    key[len] = '\0';
    memcpy(full, name, n);
    full[n] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, key) != 0)
            continue;
        add_categories(items, names[i].categories);
        add(items, names[i].items);
        if (strcmp(key, "word") == 0 && place == ONIG_ALONE)
            add(items, word_digits);
        if (strcmp(key, "punct") == 0 && place == ONIG_BRACKET)
            add_category(items, "S");
        return true;
    }
    if (len >= 1 && len <= 2) {
        char category[3] = {(char)(key[0] & ~0x20), len == 2 ? key[1] : '\0', '\0'}, item[12];
        (void)snprintf(item, sizeof item, "\\p{%s}", category);
        if (!compiles(item))
            return false;
        add_category(items, category);
        return true;
    }
    return add_script(items, full);
}
