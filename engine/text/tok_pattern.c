/* tok_pattern: what Split and Replace search for: a string or a regular expression. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/tok_pattern.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/text/tok_onig.h"

/* Backtracking steps per start position beyond those that are linear in the text. */
#define MATCH_STEPS 1000000u
#define HEAP_KIB                                                                                   \
    262144u /* of the interpreter, used where the compiled code's stack is too small               \
             */
#define JIT_STACK_MIN (64u << 10)
#define JIT_STACK_MAX (32u << 20)
/* Start positions tried between two looks at the clock. */
#define WINDOW 512
#define SECONDS_MIN 10.0
#define SECONDS_PER_BYTE 5e-6

enum err tok_pattern_regex(struct tok_pattern *p, const char *regex, size_t n,
                           const struct tok_path *at, struct err_msg *em) {
    struct text translated = {0};
    struct err_msg why = ERR_MSG_INIT;
    *p = (struct tok_pattern){0};
    enum err e = onig_to_pcre(regex, n, &translated, &why);
    if (e != ERR_OK) {
        e = tok_json_error(at, e, em, "%s", why.text);
        goto out;
    }
    int code;
    PCRE2_SIZE offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context != NULL)
        (void)pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)(translated.data == NULL ? "" : translated.data), translated.len,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_USE_OFFSET_LIMIT, &code,
                      &offset, context);
    pcre2_compile_context_free(context);
    if (re == NULL) {
        PCRE2_UCHAR reason[160] = "";
        (void)pcre2_get_error_message(code, reason, sizeof reason);
        e = tok_json_error(at, ERR_UNSUPPORTED, em, "regular expression `%.100s`: %s", regex,
                           (const char *)reason);
        goto out;
    }
    (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE); /* without it the interpreter is used */
    p->code = re;
out:
    text_clear(&translated);
    return e;
}

enum err tok_pattern_load(struct tok_pattern *p, const json_t *object, const char *key,
                          const struct tok_path *at, struct err_msg *em) {
    *p = (struct tok_pattern){0};
    const struct tok_path here = {at, key, 0};
    const json_t *pattern = json_object_get(object, key);
    const json_t *string = json_object_get(pattern, "String");
    const json_t *regex = json_object_get(pattern, "Regex");
    if (json_object_size(pattern) != 1 || !(json_is_string(string) || json_is_string(regex)))
        return tok_json_error(&here, ERR_INPUT, em, "must be {\"String\": …} or {\"Regex\": …}");
    if (string == NULL)
        return tok_pattern_regex(p, json_string_value(regex), json_string_length(regex), &here, em);
    if (json_string_length(string) == 0) /* matches between all characters */
        return tok_pattern_regex(p, "", 0, &here, em);
    p->needle_len = json_string_length(string);
    p->needle = xmalloc(p->needle_len);
    memcpy(p->needle, json_string_value(string), p->needle_len);
    return ERR_OK;
}

void tok_pattern_clear(struct tok_pattern *p) {
    free(p->needle);
    pcre2_code_free(p->code);
    *p = (struct tok_pattern){0};
}

void tok_scratch_init(struct tok_scratch *s, size_t text_len) {
    *s = (struct tok_scratch){0};
    s->deadline = clock_mono() + SECONDS_MIN + SECONDS_PER_BYTE * (double)text_len;
}

void tok_scratch_clear(struct tok_scratch *s) {
    pcre2_match_data_free(s->data);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    *s = (struct tok_scratch){0};
}

static enum err scratch_prepare(struct tok_scratch *s, size_t len, struct err_msg *em) {
    if (s->data == NULL) {
        s->data = pcre2_match_data_create(1, NULL);
        s->context = pcre2_match_context_create(NULL);
        if (s->data == NULL || s->context == NULL)
            return err_set(em, ERR_NO_MEMORY, "no memory to match regular expressions");
        (void)pcre2_set_heap_limit(s->context, HEAP_KIB);
    }
    size_t steps = MATCH_STEPS + (len < 100000000u ? 4 * len : 400000000u);
    (void)pcre2_set_match_limit(s->context, (uint32_t)steps);
    (void)pcre2_set_depth_limit(s->context, (uint32_t)steps);
    return ERR_OK;
}

void tok_find_start(struct tok_find *f, const struct tok_pattern *p, struct tok_scratch *scratch,
                    const char *s, size_t len) {
    *f = (struct tok_find){p, scratch, s, len, 0, (size_t)-1};
}

static enum err match_error(int rc, struct err_msg *em) {
    if (rc == PCRE2_ERROR_NOMEMORY)
        return err_set(em, ERR_NO_MEMORY, "no memory to match a regular expression");
    return err_set(em, ERR_LIMIT,
                   "a regular expression of the tokenizer backtracks too much on this text "
                   "(PCRE2 error %d)",
                   rc);
}

/* One attempt. Few patterns need more stack than the machine's for the compiled code; where even
 * the big one does not do, the interpreter takes over, which uses the heap. */
static int match(const struct tok_find *f, size_t at) {
    struct tok_scratch *s = f->scratch;
    PCRE2_SPTR text = (PCRE2_SPTR)f->s;
    const void *code = f->pattern->code;
    int rc = pcre2_match(code, text, f->len, at, PCRE2_NO_UTF_CHECK, s->data, s->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && s->stack == NULL) {
        s->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
        rc = pcre2_match(code, text, f->len, at, PCRE2_NO_UTF_CHECK, s->data, s->context);
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, text, f->len, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->data,
                         s->context);
    return rc;
}

/* One match from f->at on, window by window. */
static enum err search(struct tok_find *f, bool *found, size_t *begin, size_t *end,
                       struct err_msg *em) {
    struct tok_scratch *s = f->scratch;
    enum err e = scratch_prepare(s, f->len, em);
    if (e != ERR_OK)
        return e;
    *found = false;
    if ((++s->searches & 255) == 0 && clock_mono() > s->deadline)
        return match_error(PCRE2_ERROR_MATCHLIMIT, em);
    for (size_t at = f->at;;) {
        size_t limit = f->len - at > WINDOW ? at + WINDOW : f->len;
        (void)pcre2_set_offset_limit(s->context, limit);
        int rc = match(f, at);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            return match_error(rc, em);
        if (rc >= 0) {
            const PCRE2_SIZE *v = pcre2_get_ovector_pointer(s->data);
            if (v[0] > v[1] || v[0] < f->at)
                return err_set(em, ERR_UNSUPPORTED, "a regular expression moves its start by \\K");
            *found = true;
            *begin = v[0];
            *end = v[1];
            return ERR_OK;
        }
        if (limit == f->len)
            return ERR_OK;
        at = limit;
        while (at < f->len && ((unsigned char)f->s[at] & 0xC0) == 0x80)
            at++;
        if (clock_mono() > s->deadline)
            return match_error(PCRE2_ERROR_MATCHLIMIT, em);
    }
}

enum err tok_find_next(struct tok_find *f, bool *found, size_t *begin, size_t *end,
                       struct err_msg *em) {
    *found = false;
    if (f->pattern->needle != NULL) {
        const char *hit =
            memmem(f->s + f->at, f->len - f->at, f->pattern->needle, f->pattern->needle_len);
        if (hit != NULL) {
            *found = true;
            *begin = (size_t)(hit - f->s);
            *end = f->at = *begin + f->pattern->needle_len;
        }
        return ERR_OK;
    }
    while (f->at <= f->len) {
        enum err e = search(f, found, begin, end, em);
        if (e != ERR_OK || !*found)
            return e;
        if (*begin == *end && f->last_end == *end) { /* nothing, right behind the last match */
            f->at++;
            while (f->at < f->len && ((unsigned char)f->s[f->at] & 0xC0) == 0x80)
                f->at++;
            *found = false;
            continue;
        }
        f->at = f->last_end = *end;
        return ERR_OK;
    }
    return ERR_OK;
}
