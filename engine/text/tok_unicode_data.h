/* tok_unicode_data: character classes as the reference library sees them.
 *
 * What:    sorted, disjoint ranges of code points.
 * Owns, Threads, Errors: constants only.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_UNICODE_DATA_H
#define FFWD_ENGINE_TEXT_TOK_UNICODE_DATA_H

#include <stddef.h>
#include <stdint.h>

struct tok_range {
    uint32_t lo, hi; /* inclusive */
};
struct tok_new_range {
    uint32_t lo, hi;
    char category[3];
};

struct tok_class {
    const struct tok_range *range;
    size_t n;
};
struct tok_new_class {
    const struct tok_new_range *range;
    size_t n;
};

extern const struct tok_new_class tok_unicode_new;
extern const struct tok_class tok_unicode_numeric, tok_unicode_punctuation, tok_unicode_control,
    tok_unicode_nonspacing, tok_unicode_mark, tok_unicode_inert;

#endif
