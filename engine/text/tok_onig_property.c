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

/* Long names of general categories, and POSIX names as Oniguruma defines them for Unicode. */
static const struct {
    const char *name, *category, *items;
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
    {"alpha", "L", "\\p{Alphabetic}"},
    {"alphabetic", "L", "\\p{Alphabetic}"},
    {"alnum", "L", "\\p{Alphabetic}\\p{Nd}"},
    {"digit", "Nd", ""},
    {"space", "Z", "\\x{9}-\\x{D}\\x{85}"},
    {"whitespace", "Z", "\\x{9}-\\x{D}\\x{85}"},
    {"blank", "Zs", "\\x{9}"},
    {"cntrl", "Cc", ""},
    {"punct", "P", "\\p{S}"},
    {"upper", "Lu", "\\p{Uppercase}"},
    {"uppercase", "Lu", "\\p{Uppercase}"},
    {"lower", "Ll", "\\p{Lowercase}"},
    {"lowercase", "Ll", "\\p{Lowercase}"},
    {"xdigit", "", "0-9a-fA-F"},
    {"word", "L", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"},
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

static void add_category(struct text *items, const char *category) {
    if (category[0] == '\0')
        return;
    add(items, "\\p{");
    add(items, category);
    add(items, "}");
    for (size_t i = 0; i < tok_unicode_new.n; i++) {
        const struct tok_new_range *r = &tok_unicode_new.range[i];
        if (belongs(r->category, category))
            add_range(items, r->lo, r->hi);
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

bool onig_property(const char *name, size_t n, struct text *items) {
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
        add_category(items, names[i].category);
        if (strcmp(key, "word") == 0 || strcmp(key, "alnum") == 0)
            add_category(items, "Nd");
        if (strcmp(key, "word") == 0)
            add_category(items, "M");
        add(items, names[i].items);
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
