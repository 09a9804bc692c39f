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

extern const struct tok_new_range tok_unicode_new[];
extern const size_t tok_unicode_new_len;
extern const struct tok_range tok_unicode_numeric[];
extern const size_t tok_unicode_numeric_len;
extern const struct tok_range tok_unicode_punctuation[];
extern const size_t tok_unicode_punctuation_len;
extern const struct tok_range tok_unicode_control[];
extern const size_t tok_unicode_control_len;
extern const struct tok_range tok_unicode_nonspacing[];
extern const size_t tok_unicode_nonspacing_len;
extern const struct tok_range tok_unicode_mark[];
extern const size_t tok_unicode_mark_len;
extern const struct tok_range tok_unicode_inert[];
extern const size_t tok_unicode_inert_len;

#endif
