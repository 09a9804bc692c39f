/* tok_pattern: what Split and Replace search for: a string or a regular expression.
 *
 * What:    {"String": …} or {"Regex": …}; finds all matches in order as Oniguruma's find_iter does
 *          (an empty match right behind the last match is skipped).
 * Owns:    struct tok_pattern owns the compiled code; struct tok_scratch the memory of matching.
 * Threads: a pattern is read-only after loading; a scratch belongs to one thread.
 * Errors:  a pattern that backtracks too much on a text is ERR_LIMIT: it never hangs.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_PATTERN_H
#define FFWD_ENGINE_TEXT_TOK_PATTERN_H

#include "engine/text/tok_json.h"
#include "engine/text/tok_text.h"

struct tok_pattern {
    char *needle; /* a string pattern; NULL: a regular expression */
    size_t needle_len;
    void *code; /* pcre2_code */
};

/* Reads object[key]. */
enum err tok_pattern_load(struct tok_pattern *p, const json_t *object, const char *key,
                          const struct tok_path *at, struct err_msg *em) NODISCARD;
enum err tok_pattern_regex(struct tok_pattern *p, const char *regex, size_t n,
                           const struct tok_path *at, struct err_msg *em) NODISCARD;
void tok_pattern_clear(struct tok_pattern *p);

struct tok_scratch {
    void *data;      /* pcre2_match_data */
    void *context;   /* pcre2_match_context */
    void *stack;     /* pcre2_jit_stack */
    double deadline; /* clock_mono(); searching longer is refused */
    unsigned searches;
};
/* text_len: bytes of the text that will be searched, for the limits. */
void tok_scratch_init(struct tok_scratch *s, size_t text_len);
void tok_scratch_clear(struct tok_scratch *s);

/* A search through s[0…len). */
struct tok_find {
    const struct tok_pattern *pattern;
    struct tok_scratch *scratch;
    const char *s;
    size_t len;
    size_t at;       /* where the next search starts */
    size_t last_end; /* end of the last match; -1: none yet */
};
void tok_find_start(struct tok_find *f, const struct tok_pattern *p, struct tok_scratch *scratch,
                    const char *s, size_t len);
/* The next match is s[*begin…*end). *found false: no more. */
enum err tok_find_next(struct tok_find *f, bool *found, size_t *begin, size_t *end,
                       struct err_msg *em) NODISCARD;

#endif
