/* Errors, buffers, size arithmetic and events. */
#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/event.h"
#include "base/mem.h"

Test(err, first_error_wins) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(err_set_param(&em, ERR_INPUT, "lora.rank", "first %d", 1), ERR_INPUT);
    cr_assert_eq(err_set(&em, ERR_BUG, "second"), ERR_BUG);
    cr_assert_str_eq(em.text, "first 1");
    cr_assert_str_eq(em.param, "lora.rank");
    err_prefix(&em, "file %s", "x");
    cr_assert_str_eq(em.text, "file x: first 1");
}

Test(err, errno_chooses_the_code) {
    cr_assert_eq(err_set_errno(NULL, ENOSPC, "x"), ERR_NO_SPACE);
    cr_assert_eq(err_set_errno(NULL, ENOENT, "x"), ERR_NOT_FOUND);
    cr_assert_eq(err_set_errno(NULL, EIO, "x"), ERR_IO);
    cr_assert_eq(err_exit_code(ERR_NO_SPACE), 30);
    cr_assert_eq(err_exit_code(ERR_INPUT), 20);
}

Test(err, long_text_is_cut_not_overrun) {
    struct err_msg em = ERR_MSG_INIT;
    char *big = xmalloc(5000);
    memset(big, 'x', 4999);
    big[4999] = '\0';
    err_set(&em, ERR_INPUT, "%s", big);
    err_prefix(&em, "%s", big);
    cr_assert_eq(strlen(em.text), ERR_TEXT_MAX - 1);
    free(big);
}

Test(mem, products_and_sums_do_not_wrap) {
    size_t n = 7;
    cr_assert_not(mem_mul(SIZE_MAX / 2, 3, &n));
    cr_assert_not(mem_add(SIZE_MAX, 1, &n));
    cr_assert_eq(n, 7);
    cr_assert(mem_mul(6, 7, &n));
    cr_assert_eq(n, 42);
}

Test(buf, stops_at_its_maximum_and_keeps_its_content) {
    struct buf b;
    buf_init(&b, 10);
    cr_assert_eq(buf_add(&b, "12345678", 8), ERR_OK);
    cr_assert_eq(buf_addf(&b, "%d", 123), ERR_LIMIT);
    cr_assert_str_eq(b.data, "12345678");
    cr_assert_eq(buf_addf(&b, "%d", 90), ERR_OK);
    cr_assert_eq(buf_add(&b, "x", SIZE_MAX), ERR_LIMIT);
    buf_consume(&b, 8);
    cr_assert_str_eq(b.data, "90");
    char *taken = buf_take(&b);
    cr_assert_str_eq(taken, "90");
    cr_assert_eq(b.len, 0);
    free(taken);
    buf_clear(&b);
}

Test(event, survives_the_way_through_a_line) {
    struct event a, b;
    event_init(&a, EVENT_WARN, EVENT_METRICS, "Step 1/2: \"x\"\n", json_pack("{s:i}", "step", 1));
    char *line = event_to_line(&a, "ftevent-1");
    cr_assert_null(strchr(line, '\n'), "an event is one line");
    json_t *o = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    cr_assert_eq(event_from_json(o, &b, NULL), ERR_OK);
    cr_assert_str_eq(b.message, a.message);
    cr_assert_eq(b.level, EVENT_WARN);
    cr_assert_eq(b.type, EVENT_METRICS);
    cr_assert_eq(b.created_at, a.created_at);
    cr_assert(json_equal(a.data, b.data));
    cr_assert_str_eq(json_string_value(json_object_get(o, "id")), "ftevent-1");
    event_clear(&a);
    event_clear(&b);
    json_decref(o);
    free(line);
}

Test(event, line_is_what_jansson_writes) {
    struct event ev;
    struct json_text w;
    event_init(&ev, EVENT_ERROR, EVENT_MESSAGE, "a \"b\"\\ \n\x1b\x7f \xc3\xa9",
               json_pack("{s:f, s:[s]}", "x", 0.1, "y", "z"));
    for (int k = 0; k < 2; k++) {
        const char *id = k == 0 ? NULL : "ftevent-1";
        json_t *object = event_to_json(&ev, id);
        char *want = json_dumps(object, JSON_COMPACT), *got = event_to_line(&ev, id);
        cr_expect_str_eq(got, want);
        json_decref(object);
        free(want);
        free(got);
    }
    char *line = event_to_line(&ev, NULL), *want = event_to_line(&ev, "ftevent-1"), *got = NULL;
    json_text_init(&w, 1 << 16);
    event_write(&w, "ftevent-1", line, strlen(line));
    cr_assert_eq(json_text_take(&w, &got, NULL), ERR_OK);
    cr_expect_str_eq(got, want);
    free(line);
    free(want);
    free(got);
    event_clear(&ev);
}

Test(event, that_is_malformed_is_refused) {
    const char *const bad[] = {
        "{}",
        "{\"created_at\":-1,\"level\":\"info\",\"message\":\"\",\"type\":\"message\",\"data\":{}}",
        "{\"created_at\":1,\"level\":\"loud\",\"message\":\"\",\"type\":\"message\",\"data\":{}}",
        "{\"created_at\":1,\"level\":\"info\",\"message\":7,\"type\":\"message\",\"data\":{}}",
        "{\"created_at\":1,\"level\":\"info\",\"message\":\"\",\"type\":\"metrics\",\"data\":[]}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct event ev;
        struct err_msg em = ERR_MSG_INIT;
        json_t *o = json_loads(bad[i], 0, NULL);
        cr_expect_eq(event_from_json(o, &ev, &em), ERR_INPUT, "%s", bad[i]);
        cr_expect(em.text[0] != '\0');
        json_decref(o);
    }
}

Test(event, numbers_that_are_not_finite_become_null) {
    json_t *n = event_number(NAN), *x = event_number(0.5);
    cr_assert(json_is_null(n));
    cr_assert_float_eq(json_real_value(x), 0.5, 0);
    json_decref(n);
    json_decref(x);
}
