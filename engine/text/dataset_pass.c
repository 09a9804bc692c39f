/* dataset_pass: bad lines, duplicates, lengths, warnings. */
#include "engine/text/dataset_pass.h"

#include <inttypes.h>
#include <math.h>
#include <sodium/crypto_shorthash.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"

void dataset_pass_init(struct dataset_pass *p, const struct dataset_options *options,
                       struct dataset_report *report) {
    *p = (struct dataset_pass){.options = options,
                               .report = report,
                               .lengths = xcalloc(LIMIT_ROW_TOKENS + 1, sizeof *p->lengths)};
}

void dataset_pass_clear(struct dataset_pass *p) {
    free(p->hashes);
    free(p->lengths);
    *p = (struct dataset_pass){0};
}

void dataset_report_clear(struct dataset_report *r) {
    for (size_t i = 0; i < r->bad_listed; i++)
        free(r->bad_lines[i].reason);
    for (size_t i = 0; i < r->n_warnings; i++)
        free(r->warnings[i]);
    free(r->bad_lines);
    *r = (struct dataset_report){0};
}

/* A copy that is valid UTF-8 on one line: a quotation may have been cut inside a character. */
static char *printable(const char *text) {
    char *out = xstrdup(text);
    size_t n = strlen(out);
    while (n > 0 && ((unsigned char)out[n - 1] & 0xc0) == 0x80)
        n--;
    if (n > 0 && (unsigned char)out[n - 1] >= 0xc0) {
        unsigned char lead = (unsigned char)out[n - 1];
        size_t wants = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
        if (strlen(out + n - 1) < wants)
            out[n - 1] = '\0';
    }
    for (char *c = out; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    return out;
}

void dataset_pass_bad(struct dataset_pass *p, int64_t line, int64_t offset, const char *reason) {
    struct dataset_report *r = p->report;
    const struct bad_line bad = {.line = line, .offset = offset, .reason = printable(reason)};
    r->bad++;
    if (p->options->on_bad_line != NULL)
        p->options->on_bad_line(p->options->on_bad_line_arg, &bad);
    if (r->bad_listed == DATASET_LISTED_LINES) {
        free(bad.reason);
        return;
    }
    if (r->bad_lines == NULL)
        r->bad_lines = xcalloc(DATASET_LISTED_LINES, sizeof *r->bad_lines);
    r->bad_lines[r->bad_listed++] = bad;
}

void dataset_pass_unused_key(struct dataset_pass *p, const char *key, int64_t line) {
    if (p->unused_rows++ > 0)
        return;
    p->unused_line = line;
    char *copy = printable(key);
    (void)snprintf(p->unused_key, sizeof p->unused_key, "%s", copy);
    free(copy);
}

static int bit_length(int64_t n) {
    int bits = 0;
    for (; n > 0; n >>= 1)
        bits++;
    return bits;
}

void dataset_pass_row(struct dataset_pass *p, const struct jsonl_line *line, int32_t tokens) {
    static const unsigned char key[crypto_shorthash_KEYBYTES] = {0};
    struct row_hash h = {.line = (uint32_t)line->number};
    unsigned char hash[crypto_shorthash_BYTES];
    (void)crypto_shorthash(hash, (const unsigned char *)line->data, line->len, key);
    memcpy(&h.high, hash, sizeof h.high);
    memcpy(&h.low, hash + sizeof h.high, sizeof h.low);
    if (p->n_hashes == p->hash_cap) {
        p->hash_cap = p->hash_cap == 0 ? 1024 : p->hash_cap + p->hash_cap / 4;
        p->hashes = xreallocarray(p->hashes, p->hash_cap, sizeof *p->hashes);
    }
    p->hashes[p->n_hashes++] = h;

    struct dataset_report *r = p->report;
    r->rows++;
    p->row_bytes += (int64_t)line->len;
    if (tokens < 0)
        return;
    p->encoded++;
    p->encoded_bytes += (int64_t)line->len;
    p->lengths[tokens]++;
    r->length_histogram[tokens > 0 ? bit_length(tokens) - 1 : 0]++;
}

static int by_hash(const void *a, const void *b) {
    const struct row_hash *x = a, *y = b;
    if (x->high != y->high)
        return x->high < y->high ? -1 : 1;
    if (x->low != y->low)
        return x->low < y->low ? -1 : 1;
    return x->line < y->line ? -1 : 1;
}

/* In place: glibc's qsort copies what it sorts, so it gets one 256th at a time (hashes are evenly
 * spread). Each entry is swapped into the bucket of its first byte (American flag sort). */
static void sort_hashes(struct row_hash *h, size_t n) {
    size_t begin[257] = {0}, next[256];
    for (size_t i = 0; i < n; i++)
        begin[(h[i].high >> 24) + 1]++;
    for (int b = 0; b < 256; b++) {
        begin[b + 1] += begin[b];
        next[b] = begin[b];
    }
    for (uint32_t b = 0; b < 256; b++) {
        while (next[b] < begin[b + 1]) {
            struct row_hash *here = &h[next[b]], *there = &h[next[here->high >> 24]];
            struct row_hash moved = *here;
            next[moved.high >> 24]++;
            *here = *there;
            *there = moved;
        }
        if (begin[b + 1] > begin[b])
            qsort(h + begin[b], begin[b + 1] - begin[b], sizeof *h, by_hash);
    }
}

__attribute__((format(printf, 2, 3))) static void warn(struct dataset_report *r, const char *fmt,
                                                       ...) {
    va_list args;
    if (r->n_warnings == DATASET_WARNINGS)
        return;
    va_start(args, fmt);
    if (vasprintf(&r->warnings[r->n_warnings], fmt, args) >= 0)
        r->n_warnings++;
    va_end(args);
}

static void end_duplicates(struct dataset_pass *p) {
    uint32_t line = 0, of = 0;
    sort_hashes(p->hashes, p->n_hashes);
    for (size_t i = 1; i < p->n_hashes; i++) {
        const struct row_hash *a = &p->hashes[i - 1], *b = &p->hashes[i];
        if (a->high != b->high || a->low != b->low)
            continue;
        p->report->duplicates++;
        if (line == 0 || b->line < line)
            line = b->line, of = a->line;
    }
    if (line != 0)
        warn(p->report,
             "rows that repeat an earlier row: %" PRId64 " (the first: line %u repeats %u)",
             p->report->duplicates, line, of);
}

/* Nearest rank: the shortest length that at least `percent` % of the rows do not exceed. */
static int64_t quantile(const struct dataset_pass *p, int percent) {
    int64_t rank = (p->encoded * percent + 99) / 100, seen = 0;
    int64_t length = 0;
    for (; length < LIMIT_ROW_TOKENS; length++) {
        seen += p->lengths[length];
        if (seen >= rank)
            break;
    }
    return length;
}

/* From the sample to the file: tokens go by bytes, rows by rows. */
static void extend(struct dataset_pass *p) {
    struct dataset_report *r = p->report;
    double bytes = (double)p->row_bytes / (double)p->encoded_bytes;
    double rows = (double)r->rows / (double)p->encoded;
    int64_t *const by_rows[] = {&r->truncated, &r->dropped, &r->untrained};
    r->sampled = p->encoded;
    r->tokens = llround((double)r->tokens * bytes);
    r->trained_tokens = llround((double)r->trained_tokens * bytes);
    r->token_pairs *= bytes;
    for (int i = 0; i < 3; i++)
        *by_rows[i] = llround((double)*by_rows[i] * rows);
}

void dataset_pass_end(struct dataset_pass *p) {
    const struct dataset_options *options = p->options;
    struct dataset_report *r = p->report;
    if (p->encoded > 0 && p->encoded < r->rows)
        extend(p);
    if (p->encoded > 0) {
        while (p->lengths[r->min_tokens] == 0)
            r->min_tokens++;
        r->median_tokens = quantile(p, 50);
        r->p95_tokens = quantile(p, 95);
        r->max_tokens = quantile(p, 100);
    }
    if (r->truncated > 0)
        warn(r, "rows cut to max_seq_len (%d tokens): %" PRId64, options->max_seq_len,
             r->truncated);
    if (r->dropped > 0)
        warn(r, "rows longer than max_seq_len (%d tokens), left out: %" PRId64,
             options->max_seq_len, r->dropped);
    if (r->untrained > 0)
        warn(r, "rows without a token to train on, left out: %" PRId64, r->untrained);
    end_duplicates(p);
    if (p->unused_rows > 0)
        warn(r,
             "%" PRId64 " rows have keys that are not used (the first: `%s` in line %" PRId64 ")",
             p->unused_rows, p->unused_key, p->unused_line);
    const char *note = options->template != NULL ? chat_template_note(options->template) : NULL;
    if (r->kind == ROW_CHAT && note != NULL)
        warn(r, "%s", note);
    if (r->rows > 0 && r->rows < 10)
        warn(r, "the file has fewer than 10 rows (%" PRId64 "); results will hardly be useful",
             r->rows);
}
