/* The data set's pass and index on pre-tokenized rows: every class of bad file, long rows, counts.
 * Rows that need a tokenizer are in test_dataset_text.c. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "engine/text/dataset.h"

static char path[64];
static struct dataset *ds;
static struct dataset_report report;
static struct err_msg em;

static struct dataset_options options = {
    .vocab_size = 100, .eos_id = -1, .max_seq_len = 8, .long_examples = LONG_TRUNCATE};

static enum err open_bytes(const void *bytes, size_t n) {
    (void)snprintf(path, sizeof path, "%s", "/tmp/ffwd-test-dataset-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    close(fd);
    err_clear(&em);
    return dataset_open(path, &options, &ds, &report, &em);
}

static enum err open_text(const char *text) {
    return open_bytes(text, strlen(text));
}

static void done(void) {
    dataset_close(ds);
    ds = NULL;
    dataset_report_clear(&report);
    unlink(path);
}

/* The file has exactly one bad line, number `line`; its reason contains `reason`. */
static void expect_bad(const char *text, int64_t line, int64_t offset, const char *reason) {
    cr_expect_eq(open_text(text), ERR_INPUT, "%s", text);
    cr_expect_null(ds);
    cr_assert_eq(report.bad, 1, "%s: %ld bad", text, (long)report.bad);
    cr_assert_eq(report.bad_listed, 1);
    cr_expect_eq(report.bad_lines[0].line, line, "%s: line %ld", text,
                 (long)report.bad_lines[0].line);
    if (offset >= 0)
        cr_expect_eq(report.bad_lines[0].offset, offset, "%s: offset %ld", text,
                     (long)report.bad_lines[0].offset);
    cr_expect_not_null(strstr(report.bad_lines[0].reason, reason), "%s: %s", text,
                       report.bad_lines[0].reason);
    cr_expect_not_null(strstr(em.text, reason), "%s", em.text);
    done();
}

#define GOOD "{\"input_ids\":[1,2,3]}\n"

Test(dataset, rows_are_read_in_any_order) {
    cr_assert_eq(open_text("{\"input_ids\":[1,2,3],\"labels\":[-100,-100,3]}\n"
                           "\n"
                           "{\"input_ids\":[4,5]}\r\n"
                           "{\"input_ids\":[6,7,8],\"labels\":[6,-100,9]}"),
                 ERR_OK, "%s", em.text);
    cr_assert_eq(dataset_rows(ds), 3);
    const int32_t trained[] = {1, 1, 1}, tokens[] = {3, 2, 3};
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(dataset_row_trained(ds, i), trained[i]);
        cr_assert_eq(dataset_row_tokens(ds, i), tokens[i]);
    }
    struct ids ids = {0}, labels = {0};
    for (int row = 2; row >= 0; row--)
        cr_assert_eq(dataset_read(ds, row, &ids, &labels, &em), ERR_OK, "%s", em.text);
    cr_assert(ids.len == 3 && ids.data[0] == 1 && ids.data[2] == 3);
    cr_assert(labels.data[0] == LABEL_IGNORE && labels.data[2] == 3);
    cr_assert_eq(dataset_read(ds, 1, &ids, &labels, &em), ERR_OK);
    cr_assert(ids.len == 2 && labels.len == 2 && labels.data[1] == 5);
    ids_clear(&ids);
    ids_clear(&labels);
    cr_assert_eq(report.rows, 3);
    cr_assert_eq(report.lines, 4);
    cr_assert_eq(report.blank_lines, 1);
    cr_assert_eq(report.tokens, 8);
    cr_assert_eq(report.trained_tokens, 3);
    cr_assert_eq(report.kind, ROW_TOKENS);
    cr_assert(report.min_tokens == 2 && report.median_tokens == 3 && report.max_tokens == 3);
    done();
}

Test(dataset, the_report_has_the_files_sha256) {
    cr_assert_eq(open_text("{\"input_ids\":[1,2,3]}\n"), ERR_OK);
    /* printf '{"input_ids":[1,2,3]}\n' | sha256sum */
    cr_assert_str_eq(report.sha256,
                     "68569fa859b9283cb541e388dc86e45144fab62f2a93817f922a2efbf219c5de");
    cr_assert_eq(report.bytes, 22);
    done();
}

Test(dataset, bad_values_are_named) {
    expect_bad(GOOD "{\"input_ids\":[1,100]}\n" GOOD, 2, 22, "input_ids[1] is 100");
    expect_bad("{\"input_ids\":[-1,1]}\n", 1, 0, "input_ids[0] is -1");
    expect_bad("{\"input_ids\":[1.5]}\n", 1, 0, "input_ids[0] must be an integer");
    expect_bad("{\"input_ids\":[true]}\n", 1, 0, "input_ids[0] must be an integer");
    expect_bad("{\"input_ids\":\"1 2\"}\n", 1, 0, "`input_ids` must be an array");
    expect_bad("{\"input_ids\":[]}\n", 1, 0, "`input_ids` is empty");
    expect_bad("{\"input_ids\":[1,2],\"labels\":[1,2,3]}\n", 1, 0, "`labels` has 3 entries");
    expect_bad("{\"input_ids\":[1,2],\"labels\":[1]}\n", 1, 0, "`labels` has 1 entries");
    expect_bad("{\"input_ids\":[1,2],\"labels\":[1,100]}\n", 1, 0, "labels[1] is 100");
    expect_bad("{\"input_ids\":[1,2],\"labels\":[-99,1]}\n", 1, 0, "labels[0] is -99");
    expect_bad("{\"input_ids\":[1,2],\"labels\":{}}\n", 1, 0, "`labels` must be an array");
    expect_bad("{\"input_ids\":[1,99999999999]}\n", 1, 0, "input_ids[1] is 99999999999");
}

Test(dataset, bad_lines_are_named) {
    expect_bad(GOOD "{\"input_ids\":[1,2\n" GOOD, 2, 39, "ends before");
    expect_bad(GOOD GOOD "{\"input_ids\":[1,2", 3, -1, "ends before");
    expect_bad(GOOD "[1,2]\n", 2, 22, "JSON object");
    expect_bad(GOOD "{'input_ids': [1]}\n", 2, 22, "Python");
    expect_bad(GOOD "{\"input_ids\":[1],\"x\":\"\xff\"}\n", 2, 44, "byte 0xff is not valid UTF-8");
    expect_bad(GOOD "{\"input_ids\":[1,2],\"input_ids\":[1]}\n", 2, -1, "stands twice");
    expect_bad(GOOD "{\"input_ids\":[1,2]} x\n", 2, -1, "more text after");
    expect_bad(GOOD "{\"question\":\"a\",\"answer\":\"b\"}\n", 2, 22, "none of the keys");
    expect_bad("{\"input_ids\":[1],\"text\":\"a\"}\n", 1, 0, "both");
    expect_bad("{\"input\":{},\"preferred_output\":[]}\n", 1, 0, "DPO");
    expect_bad(GOOD "{\"text\":\"a\"}\n", 2, 22, "line 1 is of kind tokens");
    expect_bad("{\"text\":\"a\"}\n", 1, 0, "the model has no tokenizer");
    expect_bad("\xef\xbb\xbf" GOOD "\xef\xbb\xbf" GOOD, 2, 25, "byte-order mark");
}

Test(dataset, a_nul_byte_is_refused) {
    static const char text[] = "{\"input_ids\":[1]}\n{\"input_ids\":[1,\0 2]}\n";
    cr_assert_eq(open_bytes(text, sizeof text - 1), ERR_INPUT);
    cr_assert_eq(report.bad, 1);
    cr_assert_eq(report.bad_lines[0].line, 2);
    cr_assert_eq(report.bad_lines[0].offset, 34);
    cr_assert_not_null(strstr(report.bad_lines[0].reason, "NUL"));
    done();
}

Test(dataset, a_huge_line_is_refused_and_the_rest_is_checked) {
    size_t huge = (size_t)5 << 20, good = strlen(GOOD);
    char *text = xmalloc(huge + 2 * good + 1);
    memcpy(text, GOOD, good);
    memset(text + good, '1', huge);
    text[good + huge] = '\n';
    memcpy(text + good + huge + 1, GOOD, good);
    cr_assert_eq(open_bytes(text, huge + 2 * good + 1), ERR_INPUT);
    cr_assert_eq(report.bad, 1);
    cr_assert_eq(report.rows, 2);
    cr_assert_eq(report.lines, 3);
    cr_assert_not_null(strstr(report.bad_lines[0].reason, "longer than 4194304 bytes"));
    free(text);
    done();
}

Test(dataset, every_bad_line_is_listed) {
    struct buf text;
    buf_init(&text, 1u << 20);
    for (int i = 0; i < 3000; i++)
        cr_assert_eq(buf_addf(&text, "%s", i % 2 == 0 ? GOOD : "{bad}\n"), ERR_OK);
    cr_assert_eq(open_bytes(text.data, text.len), ERR_INPUT);
    cr_assert_eq(report.bad, 1500);
    cr_assert_eq(report.bad_listed, DATASET_LISTED_LINES);
    cr_assert_eq(report.bad_lines[1].line, 4);
    cr_assert_eq(report.rows, 1500);
    cr_assert_not_null(strstr(em.text, "1500 bad lines; line 2"));
    buf_clear(&text);
    done();
}

Test(dataset, a_file_without_rows_is_refused) {
    cr_assert_eq(open_text(""), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "the file is empty"));
    done();
    cr_assert_eq(open_text("\n \n\t\n"), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "has no rows"));
    cr_assert_eq(report.blank_lines, 3);
    done();
    cr_assert_eq(open_text("\xef\xbb\xbf"), ERR_INPUT);
    done();
    cr_assert_eq(dataset_open("/nonexistent", &options, &ds, &report, NULL), ERR_NOT_FOUND);
}

Test(dataset, bom_crlf_and_a_missing_last_newline_are_accepted) {
    cr_assert_eq(open_text("\xef\xbb\xbf{\"input_ids\":[1,2]}\r\n{\"input_ids\":[3,4,5]}"), ERR_OK,
                 "%s", em.text);
    struct ids ids = {0}, labels = {0};
    cr_assert_eq(dataset_read(ds, 0, &ids, &labels, &em), ERR_OK, "%s", em.text);
    cr_assert(ids.len == 2 && ids.data[1] == 2);
    cr_assert_eq(dataset_read(ds, 1, &ids, &labels, &em), ERR_OK, "%s", em.text);
    cr_assert(ids.len == 3 && ids.data[2] == 5);
    ids_clear(&ids);
    ids_clear(&labels);
    done();
}

#define LONG_ROW "{\"input_ids\":[1,2,3,4,5,6,7,8,9,10]}\n"

Test(dataset, long_rows_are_cut_dropped_or_refused) {
    cr_assert_eq(open_text(GOOD LONG_ROW), ERR_OK);
    cr_assert(report.truncated == 1 && report.dropped == 0 && report.tokens == 11);
    cr_assert_eq(dataset_row_tokens(ds, 1), 8);
    cr_assert_eq(dataset_row_trained(ds, 1), 7);
    cr_assert_eq(report.max_tokens, 10);
    struct ids ids = {0}, labels = {0};
    cr_assert_eq(dataset_read(ds, 1, &ids, &labels, &em), ERR_OK);
    cr_assert(ids.len == 8 && labels.len == 8);
    ids_clear(&ids);
    ids_clear(&labels);
    done();
    options.long_examples = LONG_DROP;
    cr_assert_eq(open_text(LONG_ROW GOOD), ERR_OK);
    cr_assert(report.truncated == 0 && report.dropped == 1 && report.tokens == 3);
    cr_assert_eq(dataset_rows(ds), 1);
    done();
    cr_assert_eq(open_text(LONG_ROW), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "none of its rows (1)"), "%s", em.text);
    done();
    options.long_examples = LONG_FAIL;
    expect_bad(GOOD LONG_ROW, 2, 22, "has 10 tokens and max_seq_len is 8");
}

Test(dataset, rows_without_a_trained_token_are_left_out) {
    /* Position 0 has no prediction; a cut may take all trained tokens. */
    cr_assert_eq(
        open_text("{\"input_ids\":[1]}\n"
                  "{\"input_ids\":[1,2],\"labels\":[1,-100]}\n"
                  "{\"input_ids\":[1,2,3,4,5,6,7,8,9],\"labels\":[-100,-100,-100,-100,-100,"
                  "-100,-100,-100,9]}\n" GOOD),
        ERR_OK, "%s", em.text);
    cr_assert_eq(report.untrained, 3);
    cr_assert_eq(dataset_rows(ds), 1);
    cr_assert_eq(report.rows, 4);
    done();
    cr_assert_eq(open_text("{\"input_ids\":[1]}\n"), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "without a token to train on"), "%s", em.text);
    done();
}

Test(dataset, evaluation_keeps_every_row) {
    options.every_row = true;
    cr_assert_eq(open_text("{\"input_ids\":[1]}\n" GOOD), ERR_OK, "%s", em.text);
    cr_assert_eq(dataset_rows(ds), 2);
    cr_assert_eq(dataset_row_trained(ds, 0), 0);
    done();
    cr_assert_eq(open_text(""), ERR_OK);
    cr_assert_eq(dataset_rows(ds), 0);
    done();
    expect_bad("{\"input_ids\":[]}\n", 1, 0, "is empty");
}

Test(dataset, duplicates_and_unused_keys_are_warnings) {
    cr_assert_eq(open_text(GOOD "{\"input_ids\":[9,9]}\n" GOOD "\n" GOOD
                                "{\"input_ids\":[1,2],\"attention_mask\":[1,1]}\n"),
                 ERR_OK);
    cr_assert_eq(report.duplicates, 2);
    bool duplicates = false, unused = false;
    for (size_t i = 0; i < report.n_warnings; i++) {
        duplicates = duplicates || strstr(report.warnings[i], "line 3 repeats 1") != NULL;
        unused = unused || strstr(report.warnings[i], "`attention_mask` in line 6") != NULL;
    }
    cr_assert(duplicates && unused);
    done();
}

Test(dataset, lengths_are_nearest_rank_quantiles) {
    struct buf text;
    buf_init(&text, 1u << 20);
    options.max_seq_len = 1000;
    for (int n = 1; n <= 40; n++) {
        cr_assert_eq(buf_addf(&text, "{\"input_ids\":[0"), ERR_OK);
        for (int i = 1; i < n; i++)
            cr_assert_eq(buf_addf(&text, ",%d", i), ERR_OK);
        cr_assert_eq(buf_addf(&text, "]}\n"), ERR_OK);
    }
    cr_assert_eq(open_bytes(text.data, text.len), ERR_OK, "%s", em.text);
    cr_assert_eq(report.min_tokens, 1);
    cr_assert_eq(report.median_tokens, 20);
    cr_assert_eq(report.p95_tokens, 38);
    cr_assert_eq(report.max_tokens, 40);
    cr_assert_eq(report.length_histogram[0], 1);
    cr_assert_eq(report.length_histogram[4], 16);
    cr_assert_eq(report.length_histogram[5], 9);
    buf_clear(&text);
    done();
}

Test(dataset, a_file_that_changes_is_noticed) {
    cr_assert_eq(open_text(GOOD GOOD), ERR_OK);
    struct ids ids = {0}, labels = {0};
    cr_assert_eq(truncate(path, 30), 0);
    cr_assert_eq(dataset_read(ds, 1, &ids, &labels, &em), ERR_IO);
    ids_clear(&ids);
    ids_clear(&labels);
    done();
}
