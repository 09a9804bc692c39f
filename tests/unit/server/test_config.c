/* config: command line over file over defaults; faults named. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/config.h"

static char file[] = "/tmp/ffwd-config-XXXXXX";

static void remove_file(void) {
    (void)unlink(file);
}

static enum err with_file(const char *text, struct config *c, struct err_msg *em) {
    char *argv[] = {"ffwd-server", "--config", file, "--device", "cpu", NULL};
    int fd = strchr(file, 'X') != NULL ? mkstemp(file) : -1;
    if (fd >= 0)
        close(fd);
    cr_assert_eq(file_write(file, text, strlen(text), NULL), ERR_OK);
    return config_read(5, argv, c, em);
}

Test(config, defaults) {
    char *argv[] = {"ffwd-server", NULL};
    struct config c;
    cr_assert_eq(config_read(1, argv, &c, NULL), ERR_OK);
    cr_expect_str_eq(c.listen, "127.0.0.1:8080");
    cr_expect_str_eq(c.device, "auto");
    cr_expect_str_eq(strrchr(c.engine, '/'), "/ffwd");
    cr_expect_eq(c.limits.file_bytes, 8ll << 30);
    cr_expect_eq(c.log_level, LOG_INFO);
    cr_expect_null(c.cors_origins[0]);
    config_clear(&c);
}

Test(config, command_line_wins_over_file, .fini = remove_file) {
    struct config c;
    cr_assert_eq(with_file("{\"device\":\"cuda:1\",\"log_level\":\"warn\",\"listen\":\"[::1]:0\","
                           "\"models\":\"a:b::c\","
                           "\"limits\":{\"connections\":7},\"cors_origins\":[\"https://x.y\"]}",
                           &c, NULL),
                 ERR_OK);
    cr_expect_str_eq(c.device, "cpu");
    cr_expect_str_eq(c.listen, "[::1]:0");
    cr_expect_str_eq(c.model_roots[2], "c");
    cr_expect_null(c.model_roots[3]);
    cr_expect_eq(c.limits.connections, 7);
    cr_expect_eq(c.log_level, LOG_WARN);
    cr_expect_str_eq(c.cors_origins[0], "https://x.y");
    config_clear(&c);
}

Test(config, faults_name_the_key, .fini = remove_file) {
    static const char *const cases[][2] = {
        {"{\"limits\":{\"conections\":7}}", "limits.conections"},
        {"{\"limits\":{\"connections\":0}}", "limits.connections"},
        {"{\"limits\":[]}", "limits"},
        {"{\"what\":1}", "what"},
        {"{\"threads\":-1}", "threads"},
        {"{\"cors_origins\":[\"*\"]}", "cors_origins"},
        {"{\"metrics\":\"all\"}", "metrics"},
        {"{\"metrics\":7}", "metrics"},
        {"{\"log_level\":\"loud\"}", "log_level"},
        {"{\"log_level\":1}", "log_level"},
        {"{\"limits\":{\"key_requests_per_minute\":-1}}", "limits.key_requests_per_minute"},
        {"{\"listen\":\"a\",\"listen\":\"b\"}", "duplicate"},
        {"[]", "object"},
        {"{", "line 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c;
        struct err_msg em = ERR_MSG_INIT;
        cr_expect_eq(with_file(cases[i][0], &c, &em), ERR_INPUT, "%s", cases[i][0]);
        cr_expect_not_null(strstr(em.text, cases[i][1]), "%s", em.text);
    }
}

Test(config, wrong_options) {
    char *const cases[][3] = {{"x", "--device", "tpu"}, {"x", "--device", "cuda:x"},
                              {"x", "--threads", "1x"}, {"x", "--models", ":"},
                              {"x", "--unknown", "y"},  {"x", "--log-level", "loud"},
                              {"x", "y", "z"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c;
        char *argv[] = {cases[i][0], cases[i][1], cases[i][2], NULL};
        cr_expect_eq(config_read(3, argv, &c, NULL), ERR_USAGE, "%s %s", argv[1], argv[2]);
    }
}

Test(config, limits_fit_the_open_files) {
    struct config_limits limits = {.connections = 12000, .streams = 11000};
    cr_expect(config_fit_limits(&limits, 20000));
    cr_expect_eq(limits.connections, 12000);
    cr_expect_eq(limits.streams, 10500, "an eighth of the connections is for other requests");
    cr_expect_not(config_fit_limits(&limits, 800));
    cr_expect_eq(limits.connections, 800);
    cr_expect_eq(limits.streams, 700);
    cr_expect_not(config_fit_limits(&limits, -100));
    cr_expect_eq(limits.connections, 8);
    cr_expect_eq(limits.streams, 7);
}
