/* `ffwd check`: its JSON, its text, its exit codes. */
#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/cli/cli.h"

#define MODEL "tests/unit/engine/text/data/tiny-bytelevel"
#define GOOD "{\"text\":\"Hello, you\"}\n"

static char path[64];
static char output[1 << 16];

/* Runs the command on a file with this content (NULL: a file that is not there); its standard
 * output is then in `output`. */
static int check(const char *content, const char *option, const char *value) {
    (void)snprintf(path, sizeof path, "%s", "/tmp/ffwd-test-check-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    if (content != NULL)
        cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    close(fd);
    if (content == NULL)
        unlink(path);
    char *extra = xstrdup(option != NULL ? option : "--json");
    char *more = value != NULL ? xstrdup(value) : NULL;
    char *argv[] = {
        (char[]){"check"}, (char[]){"--model"}, (char[]){MODEL}, path, extra, more, NULL};
    cr_redirect_stdout();
    cr_redirect_stderr();
    int status = cmd_check(value != NULL ? 6 : 5, argv);
    (void)fflush(stdout);
    FILE *f = cr_get_redirected_stdout();
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = '\0';
    free(extra);
    free(more);
    unlink(path);
    return status;
}

static json_int_t number(const json_t *o, const char *key) {
    cr_assert(json_is_integer(json_object_get(o, key)), "%s", key);
    return json_integer_value(json_object_get(o, key));
}

Test(check, a_good_file_as_json) {
    cr_assert_eq(check(GOOD "\n" GOOD, NULL, NULL), 0);
    json_t *o = json_loads(output, 0, NULL);
    cr_assert(json_is_true(json_object_get(o, "ok")), "%s", output);
    cr_assert_str_eq(json_string_value(json_object_get(o, "kind")), "text");
    cr_assert_eq(number(o, "rows"), 2);
    cr_assert_eq(number(o, "lines"), 3);
    cr_assert_eq(number(o, "blank_lines"), 1);
    cr_assert_eq(number(o, "bytes"), 2 * (json_int_t)strlen(GOOD) + 1);
    cr_assert_eq(number(o, "duplicates"), 1);
    cr_assert_eq(number(o, "error_count"), 0);
    cr_assert_eq(number(o, "tokens"), 2 * number(json_object_get(o, "lengths"), "max"));
    cr_assert_eq(json_array_size(json_object_get(o, "errors")), 0);
    cr_assert_eq(json_string_length(json_object_get(o, "sha256")), 64);
    cr_assert(json_is_null(json_object_get(o, "template")));
    json_decref(o);
}

Test(check, bad_lines_as_json) {
    cr_assert_eq(check(GOOD "{\"text\":3}\n{'text': 'x'}\n", NULL, NULL), 20);
    json_t *o = json_loads(output, 0, NULL), *errors = json_object_get(o, "errors");
    cr_assert(json_is_false(json_object_get(o, "ok")), "%s", output);
    cr_assert_eq(number(o, "error_count"), 2);
    cr_assert_eq(json_array_size(errors), 2);
    cr_assert_eq(number(json_array_get(errors, 1), "line"), 3);
    cr_assert_eq(number(json_array_get(errors, 1), "offset"),
                 (json_int_t)strlen(GOOD "{\"text\":3}\n"));
    cr_assert_not_null(
        strstr(json_string_value(json_object_get(json_array_get(errors, 1), "reason")), "Python"));
    json_decref(o);
}

Test(check, faults_of_the_whole_file_as_json) {
    cr_assert_eq(check("", NULL, NULL), 20);
    json_t *o = json_loads(output, 0, NULL), *errors = json_object_get(o, "errors");
    cr_assert_eq(number(o, "error_count"), 1);
    cr_assert_eq(number(json_array_get(errors, 0), "line"), 0);
    json_decref(o);
}

Test(check, a_missing_file_as_json) {
    cr_assert_eq(check(NULL, NULL, NULL), 20);
    json_t *o = json_loads(output, 0, NULL);
    cr_assert(json_is_false(json_object_get(o, "ok")));
    json_decref(o);
}

Test(check, chat_rows_name_the_template) {
    cr_assert_eq(check("{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                       "{\"role\":\"assistant\",\"content\":\"b\"}]}\n",
                       NULL, NULL),
                 0);
    json_t *o = json_loads(output, 0, NULL);
    cr_assert_str_eq(json_string_value(json_object_get(o, "template")), "llama3");
    cr_assert(number(o, "trained_tokens") == 2);
    json_decref(o);
}

Test(check, text_names_line_byte_and_reason) {
    cr_assert_eq(check(GOOD "{\"text\":3}\n", "--max-seq-len", "4"), 20);
    cr_assert_not_null(strstr(output, "line 2, byte 22: `text` must be a string"), "%s", output);
    cr_assert_not_null(strstr(output, "1 bad line\n"));
    cr_assert_not_null(strstr(output, "rows cut to max_seq_len (4 tokens): 1"));
}

Test(check, text_names_every_bad_line) {
    size_t bad = 0, n = 1200; /* what a pipe holds */
    char *text = malloc(n * sizeof "{\"text\":3}\n"), *at = text;
    cr_assert_not_null(text);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, "{\"text\":3}\n");
    cr_assert_eq(check(text, "--max-seq-len", "4"), 20);
    for (const char *p = output; (p = strstr(p, ": `text` must be a string\n")) != NULL; p++)
        bad++;
    cr_assert_eq(bad, n);
    cr_assert_not_null(strstr(output, "line 1200, byte 13189:"));
    cr_assert_not_null(strstr(output, "1200 bad lines\n"));
    free(text);
}

Test(check, wrong_options_are_usage_errors) {
    cr_assert_eq(check(GOOD, "--max-seq-len", "0"), 2);
}

Test(check, wrong_choices_are_usage_errors) {
    cr_assert_eq(check(GOOD, "--long-examples", "maybe"), 2);
}

Test(check, long_examples_can_fail_the_file) {
    cr_assert_eq(check(GOOD, "--long-examples", "fail"), 0);
    cr_assert_not_null(strstr(output, "good"));
}

Test(check, help_explains_the_options) {
    char *argv[] = {(char[]){"check"}, (char[]){"--help"}, NULL};
    cr_redirect_stdout();
    cr_assert_eq(cmd_check(2, argv), 0);
    (void)fflush(stdout);
    cr_assert_gt(fread(output, 1, sizeof output - 1, cr_get_redirected_stdout()), 500);
    cr_assert_not_null(strstr(output, "--long-examples"));
}
