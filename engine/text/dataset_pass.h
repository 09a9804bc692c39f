/* dataset_pass: what the pass over a file collects beside the index (private to dataset*.c).
 *
 * What:    bad lines, duplicates, lengths, warnings, into a struct dataset_report.
 * Owns:    struct dataset_pass owns its tables; the report is the caller's.
 * Threads: one pass, one thread.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_TEXT_DATASET_PASS_H
#define FFWD_ENGINE_TEXT_DATASET_PASS_H

#include "engine/text/dataset.h"
#include "engine/text/jsonl.h"

/* Hash of a row's bytes, and its line. 12 bytes. */
struct row_hash {
    uint32_t high, low, line;
};

struct dataset_pass {
    const struct dataset_options *options;
    struct dataset_report *report;
    struct row_hash *hashes; /* [n_hashes] */
    size_t n_hashes, hash_cap;
    uint32_t *lengths; /* [LIMIT_ROW_TOKENS + 1]: rows of each length; pages are touched on use */
    int64_t first_kind_line;
    int64_t encoded, row_bytes,
        encoded_bytes;                /* rows that were encoded; bytes of all and of those */
    int64_t unused_rows, unused_line; /* rows with keys that are not used, and the first one */
    char unused_key[64];
};

void dataset_pass_init(struct dataset_pass *p, const struct dataset_options *options,
                       struct dataset_report *report);
void dataset_pass_clear(struct dataset_pass *p);

void dataset_pass_bad(struct dataset_pass *p, int64_t line, int64_t offset, const char *reason);
void dataset_pass_unused_key(struct dataset_pass *p, const char *key, int64_t line);
/* A good row of `tokens` tokens (before truncation, ≤ LIMIT_ROW_TOKENS); -1: it was not encoded. */
void dataset_pass_row(struct dataset_pass *p, const struct jsonl_line *line, int32_t tokens);
/* Sorts the hashes, computes quantiles, writes the warnings. */
void dataset_pass_end(struct dataset_pass *p);

#endif
