/* Text, prompt/completion and chat rows through a data set, with a small tokenizer. What the
 * tokenizer itself gives is tested elsewhere; here: start and end tokens, masks, limits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/text/dataset_model.h"
#include "engine/text/jsonl.h"
#include "engine/text/rows.h"

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

/* SentencePiece tokenizers put a space before a text: not before what goes on with one. The ids are
 * those of the whole text, which the library gives (tok_vectors.json, sp_*). */
Test(dataset_text, completions_go_on_with_the_prompt) {
    static const char *const models[] = {"tiny-metaspace", "tiny-prepend"};
    for (size_t i = 0; i < 2; i++) {
        char dir[96];
        (void)snprintf(dir, sizeof dir, "tests/unit/engine/text/data/%s", models[i]);
        teardown();
        cr_assert_eq(dataset_model_open(dir, &model, &em), ERR_OK, "%s", em.text);
        dataset_model_options(&model, 0, &options);
        cr_assert_eq(open_text("{\"prompt\":\"Be brief\",\"completion\":\" please\"}\n"
                               "{\"prompt\":\"\",\"completion\":\"please\"}\n"),
                     ERR_OK, "%s", em.text);
        int32_t bos = tokenizer_id(model.tokenizer, "<s>");
        ids_add(&expected, bos);
        expect("Be brief");
        size_t prompt = expected.len;
        ids_reset(&expected);
        ids_add(&expected, bos);
        expect("Be brief please");
        expect_row(0, prompt);
        ids_add(&expected, bos);
        expect("please");
        expect_row(1, 1);
    }
}

/* "prompt " and "x" share no token with Metaspace, "ab" and "c" may: the prompt's tokens stay. */
Test(dataset_text, a_prompt_keeps_its_own_tokens) {
    static const char *const prompts[] = {"Be brie", "Hello ", "\\n", "Be brief, ple"};
    for (size_t i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        char row[128], *text = NULL;
        teardown();
        setup();
        (void)snprintf(row, sizeof row, "{\"prompt\":\"%s\",\"completion\":\"f\\nase\"}\n",
                       prompts[i]);
        cr_assert_eq(open_text(row), ERR_OK, "%s", em.text);
        cr_assert_eq(dataset_read(ds, 0, &ids, &labels, &em), ERR_OK);
        expect(BOS);
        expect(strcmp(prompts[i], "\\n") == 0 ? "\n" : prompts[i]);
        for (size_t k = 0; k < expected.len; k++)
            cr_assert(ids.data[k] == expected.data[k] && labels.data[k] == LABEL_IGNORE);
        cr_assert_eq(labels.data[expected.len], ids.data[expected.len]);
        cr_assert_eq(tokenizer_decode(model.tokenizer, ids.data, ids.len, &text, NULL, &em),
                     ERR_OK);
        cr_assert_not_null(strstr(text, "f\nase" EOS));
        free(text);
    }
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

static uint32_t random_state = 7;

static uint32_t next_random(uint32_t below) {
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * below) >> 32);
}

/* Overwrites, deletes or repeats a stretch of text[0…n), which has room for twice as much. */
static size_t mutate(char *text, size_t n) {
    size_t at = next_random((uint32_t)n), len = 1 + next_random(6);
    len = len < n - at ? len : n - at;
    switch (next_random(3)) {
    case 0:
        text[at] = (char)next_random(256);
        return n;
    case 1:
        memmove(text + at, text + at + len, n - at - len);
        return n - len > 0 ? n - len : n;
    default:
        memmove(text + at + len, text + at, n - at);
        return n + len;
    }
}

Test(dataset_text, mutated_rows_are_read_or_refused_with_a_reason, .timeout = 60) {
    static const char *const seeds[] = {
        "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":"
        "[{\"type\":\"text\",\"text\":\"gr\u00fc\u00dfe\"}]},{\"role\":\"assistant\",\"content\":"
        "null,"
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\","
        "\"content\":\"r\"},{\"role\":\"assistant\",\"content\":\"a\",\"weight\":1}],\"tools\":[{}]"
        "}",
        "{\"prompt\":\"p \\n\",\"completion\":\"\\u00e9\"}",
        "{\"text\":\"some text<|endoftext|>\"}",
        "{\"input_ids\":[1,2,3],\"labels\":[-100,2,3]}",
    };
    struct row_encoder enc;
    int read = 0, refused = 0;
    cr_assert_eq(row_encoder_init(&enc, &options, &em), ERR_OK);
    for (int round = 0; round < 20000; round++) {
        char text[2048];
        const char *seed = seeds[round % 4];
        size_t n = strlen(seed);
        memcpy(text, seed, n);
        for (uint32_t k = next_random(4); k > 0; k--)
            n = mutate(text, n);
        text[n] = '\0';
        struct jsonl_line line = {.data = text, .len = n, .number = 1, .offset = 50};
        struct line_fault fault = {.offset = -1};
        struct err_msg why = ERR_MSG_INIT;
        enum row_kind kind = ROW_NONE;
        json_t *row = jsonl_parse(&line, &fault);
        enum err e = row == NULL ? ERR_INPUT : row_kind_of(row, &kind, &why);
        if (e == ERR_OK)
            e = row_encode(&enc, row, kind, &ids, &labels, &why);
        if (e == ERR_OK)
            cr_assert(ids.len > 0 && ids.len == labels.len);
        else if (row == NULL)
            cr_assert(fault.reason[0] != '\0' && fault.offset >= 50 &&
                      fault.offset <= 50 + (int64_t)n);
        else
            cr_assert(why.text[0] != '\0');
        read += e == ERR_OK, refused += e != ERR_OK;
        json_decref(row);
    }
    cr_assert(read > 1000 && refused > 1000, "%d read, %d refused", read, refused);
    row_encoder_clear(&enc);
}
