/* dataset: a JSONL file as rows of token ids and labels.
 *
 * What:    one streaming pass checks every line and indexes it (offset, length in tokens); rows are
 *          then read and tokenized on demand, in any order. Row kinds (one a file):
 *          {"messages"}, {"prompt","completion"}, {"text"}, {"input_ids","labels"}; see rows.h.
 * Owns:    the open file and the index; never the whole file.
 * Threads: one dataset, one thread at a time.
 * Errors:  bad lines are collected in the report (line number, byte offset, reason); the first one
 *          is also the message of the ERR_INPUT that dataset_open returns.
 */
#ifndef FFWD_ENGINE_TEXT_DATASET_H
#define FFWD_ENGINE_TEXT_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/limits.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"

enum row_kind { ROW_NONE, ROW_CHAT, ROW_COMPLETION, ROW_TEXT, ROW_TOKENS };
enum long_examples { LONG_TRUNCATE, LONG_DROP, LONG_FAIL };

struct bad_line {
    int64_t line;   /* from 1 */
    int64_t offset; /* byte offset of the fault in the file */
    char *reason;
};

struct dataset_options {
    const struct tokenizer *tokenizer;    /* NULL: only pre-tokenized rows */
    const struct chat_template *template; /* NULL as above */
    int32_t vocab_size;                   /* ids at or above are refused */
    int32_t eos_id;                       /* ends text and completion rows; -1: none */
    int max_seq_len;                      /* tokens */
    enum long_examples long_examples;
    enum train_on train_on;
    /* Above this many bytes only every k-th row is encoded, so that about as many bytes are; counts
     * of tokens are then estimates. Such a data set is for its report only. 0: every row. */
    int64_t sample_bytes;
    bool every_row; /* evaluation: rows without a trained token are kept, no rows are no error */
    /* Called for every bad line, in order, during the pass; NULL: none. line is borrowed. */
    void (*on_bad_line)(void *arg, const struct bad_line *line);
    void *on_bad_line_arg;
};

#define DATASET_LISTED_LINES (LIMIT_REPORTED_LINES * 50)
#define DATASET_WARNINGS 8

/* What a pass over the file found. Zero-initialise; free with dataset_report_clear. */
struct dataset_report {
    int64_t bytes, lines, blank_lines;
    int64_t rows;       /* good rows, those that are then dropped among them */
    int64_t dropped;    /* rows over max_seq_len left out (long_examples: drop) */
    int64_t untrained;  /* rows without a trained token, left out too */
    int64_t truncated;  /* rows cut to max_seq_len */
    int64_t duplicates; /* rows whose bytes an earlier row has */
    int64_t bad;        /* number of bad lines; the first DATASET_LISTED_LINES are listed */
    struct bad_line *bad_lines;
    size_t bad_listed;
    char *warnings[DATASET_WARNINGS];
    size_t n_warnings;
    enum row_kind kind;
    int64_t sampled; /* rows that were encoded, if not all: tokens, trained_tokens, token_pairs,
                      * truncated, dropped and untrained are then estimates, lengths those of the
                      * sample; 0: all were */
    /* Of the rows that are trained on, after truncation. */
    int64_t tokens, trained_tokens;
    double token_pairs; /* sum of n·(n + 1) / 2 over rows of n tokens: work of causal attention */
    /* Lengths in tokens of all good rows, before truncation. The median and the 95th percentile
     * are nearest-rank. */
    int64_t min_tokens, median_tokens, p95_tokens, max_tokens;
    int64_t length_histogram[24]; /* [i]: rows with 2^i ≤ tokens < 2^(i+1) */
    char sha256[65];              /* of the file's bytes */
};
void dataset_report_clear(struct dataset_report *r);

struct dataset;

/* Passes over the file once, in memory of about 32 bytes a row. ERR_INPUT when a line is bad, when
 * there is no row, or when no row has a token to train on: *out is then untouched and the report
 * filled all the same. report (may be NULL) is overwritten. What options points to is borrowed for
 * the data set's life. */
enum err dataset_open(const char *path, const struct dataset_options *options, struct dataset **out,
                      struct dataset_report *report, struct err_msg *em) NODISCARD;
void dataset_close(struct dataset *ds);

/* Rows that can be trained on (dropped and untrained ones left out); row numbers below are
 * 0…rows-1. */
int64_t dataset_rows(const struct dataset *ds);
/* Tokens and trained tokens of a row, after truncation, from the index. Trained tokens are labels
 * ≠ LABEL_IGNORE at positions ≥ 1: position 0 has no prediction. */
int32_t dataset_row_tokens(const struct dataset *ds, int64_t row);
int32_t dataset_row_trained(const struct dataset *ds, int64_t row);

/* One row's ids and labels (same length), replacing what the lists held. */
enum err dataset_read(struct dataset *ds, int64_t row, struct ids *ids, struct ids *labels,
                      struct err_msg *em) NODISCARD;

#endif
