/* Text, prompt/completion and chat rows through a data set, with a small tokenizer. What the
 * tokenizer itself gives is tested elsewhere; here: start and end tokens, masks, limits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/text/dataset_model.h"

#define MODEL "tests/unit/engine/text/data/tiny-bytelevel"
#define BOS "<|begin_of_text|>"
#define EOS "<|endoftext|>"

static struct dataset_model model;
static struct dataset_options options;
static struct dataset_report report;
static struct dataset *ds;
static struct ids ids, labels, expected;
static struct err_msg em;
static char path[64];

static void setup(void) {
    cr_assert_eq(dataset_model_open(MODEL, &model, &em), ERR_OK, "%s", em.text);
    dataset_model_options(&model, 0, &options);
    options.eos_id = tokenizer_id(model.tokenizer, EOS);
}

static void teardown(void) {
    dataset_close(ds);
    dataset_report_clear(&report);
    dataset_model_close(&model);
    ids_clear(&ids);
    ids_clear(&labels);
    ids_clear(&expected);
    unlink(path);
}

TestSuite(dataset_text, .init = setup, .fini = teardown);

static enum err open_text(const char *text) {
    (void)snprintf(path, sizeof path, "%s", "/tmp/ffwd-test-dataset-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    return dataset_open(path, &options, &ds, &report, &em);
}

static void expect(const char *text) {
    cr_assert_eq(tokenizer_encode(model.tokenizer, text, strlen(text), TOKENIZER_PARSE_SPECIAL,
                                  &expected, &em),
                 ERR_OK);
}

static void expect_row(int64_t row, size_t untrained) {
    cr_assert_eq(dataset_read(ds, row, &ids, &labels, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(ids.len, expected.len);
    cr_assert_eq(labels.len, expected.len);
    for (size_t i = 0; i < ids.len; i++) {
        cr_assert_eq(ids.data[i], expected.data[i]);
        cr_assert_eq(labels.data[i], i < untrained ? LABEL_IGNORE : ids.data[i]);
    }
    ids_reset(&expected);
}

Test(dataset_text, a_folder_with_only_a_tokenizer_is_enough) {
    cr_assert_eq(model.vocab_size, tokenizer_vocab_size(model.tokenizer));
    cr_assert_eq(model.eos_id, -1);
    cr_assert_eq(options.max_seq_len, 2048);
    struct dataset_model none;
    cr_assert_eq(dataset_model_open("tests", &none, &em), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "neither config.json nor tokenizer.json"));
}

Test(dataset_text, texts_have_start_and_end_tokens) {
    cr_assert_eq(open_text("{\"text\":\"Hello, you\"}\n{\"text\":\"ends itself" EOS "\"}\n"),
                 ERR_OK, "%s", em.text);
    expect(BOS "Hello, you" EOS);
    expect_row(0, 0);
    expect(BOS "ends itself" EOS);
    expect_row(1, 0);
    cr_assert_eq(report.kind, ROW_TEXT);
}

Test(dataset_text, prompts_are_not_trained) {
    cr_assert_eq(open_text("{\"prompt\":\"Be brief\",\"completion\":\" please\"}\n"), ERR_OK, "%s",
                 em.text);
    expect(BOS "Be brief");
    size_t prompt = expected.len;
    expect(" please");
    expect(EOS);
    expect_row(0, prompt);
}

Test(dataset_text, prompts_are_trained_when_all_is) {
    options.train_on = TRAIN_ON_ALL;
    cr_assert_eq(open_text("{\"prompt\":\"Be brief\",\"completion\":\"!\"}\n"), ERR_OK);
    cr_assert_eq(dataset_read(ds, 0, &ids, &labels, &em), ERR_OK);
    for (size_t i = 0; i < ids.len; i++)
        cr_assert_eq(labels.data[i], ids.data[i]);
}

Test(dataset_text, wrong_strings_are_named) {
    cr_assert_eq(open_text("{\"prompt\":\"a\"}\n{\"completion\":\"a\"}\n{\"prompt\":1,"
                           "\"completion\":\"a\"}\n{\"prompt\":\"a\",\"completion\":null}\n"
                           "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"text\":\"c\"}\n"),
                 ERR_INPUT);
    const char *const reasons[] = {"`completion` is missing", "`prompt` is missing",
                                   "`prompt` must be a string", "`completion` must be a string",
                                   "of kind text, but line 1 is of kind completion"};
    cr_assert_eq(report.bad, 5);
    for (int i = 0; i < 5; i++)
        cr_expect_not_null(strstr(report.bad_lines[i].reason, reasons[i]), "%s",
                           report.bad_lines[i].reason);
    cr_assert_eq(report.rows, 1);
}

Test(dataset_text, ids_outside_the_models_vocabulary_are_refused) {
    options.vocab_size = 300;
    cr_assert_eq(open_text("{\"text\":\"system user assistant answer\"}\n"), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "vocabulary ends at 299"), "%s", em.text);
}

Test(dataset_text, chat_rows_name_message_and_line) {
    cr_assert_eq(open_text("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                           "{\"role\":\"assistant\",\"content\":\"b\"}]}\n"
                           "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                           "{\"role\":\"asistant\",\"content\":\"b\"}]}\n"),
                 ERR_INPUT);
    cr_assert_eq(report.bad_lines[0].line, 2);
    cr_assert_not_null(strstr(report.bad_lines[0].reason, "messages[1].role is `asistant`"));
}
