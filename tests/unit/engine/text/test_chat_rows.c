/* The rules of a chat row, and the path each broken one is reported with. */
#include <criterion/criterion.h>
#include <string.h>

#include "engine/text/chat_json.h"
#include "engine/text/chat_rows.h"

static json_t *parse(const char *text) {
    json_error_t error;
    json_t *row = json_loads(text, 0, &error);
    cr_assert_not_null(row, "%s: %s", text, error.text);
    return row;
}

#define ANSWER "{\"role\":\"assistant\",\"content\":\"a\"}"

static void expect_refused(const char *text, const char *param, const char *reason) {
    struct chat chat;
    struct err_msg em = ERR_MSG_INIT;
    json_t *row = parse(text);
    cr_expect_eq(chat_read(row, true, &chat, &em), ERR_INPUT, "%s", text);
    cr_expect_str_eq(em.param, param, "%s", text);
    cr_expect_not_null(strstr(em.text, reason), "%s: %s", text, em.text);
    json_decref(row);
}

static void expect_message_refused(const char *message, const char *field, const char *reason) {
    char *text, *param;
    cr_assert(asprintf(&text, "{\"messages\":[%s,%s]}", ANSWER, message) > 0);
    cr_assert(asprintf(&param, "messages[1]%s", field) > 0);
    expect_refused(text, param, reason);
    free(text);
    free(param);
}

Test(chat_rows, a_conversation_is_read) {
    struct chat chat;
    struct err_msg em = ERR_MSG_INIT;
    json_t *row = parse(
        "{\"messages\":[{\"role\":\"developer\",\"content\":\"s\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one \"},"
        "{\"type\":\"text\",\"text\":\"two\"}],\"name\":\"x\"},"
        "{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"weight\":0,\"tool_calls\":"
        "[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
        "\"{\\\"a\\\": 1}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"r\"}," ANSWER
        "],\"tools\":[],\"parallel_tool_calls\":true}");
    cr_assert_eq(chat_read(row, true, &chat, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(chat.n, 5);
    cr_assert_null(chat.tools);
    cr_assert_eq(chat.messages[0].role, CHAT_SYSTEM);
    cr_assert_str_eq(chat.messages[1].content, "one two");
    cr_assert_eq(chat.messages[1].len, 7);
    cr_assert_not(chat.messages[2].weighted);
    cr_assert_eq(chat.messages[2].n_calls, 1);
    cr_assert_eq(json_integer_value(json_object_get(chat.messages[2].calls[0].arguments, "a")), 1);
    cr_assert_eq(chat.messages[3].role, CHAT_TOOL);
    cr_assert(chat.messages[4].weighted);
    chat_clear(&chat);
    json_decref(row);
}

Test(chat_rows, broken_messages_are_named) {
    expect_message_refused("3", "", "must be an object");
    expect_message_refused("{\"content\":\"x\"}", ".role", "is missing");
    expect_message_refused("{\"role\":1,\"content\":\"x\"}", ".role", "must be a string");
    expect_message_refused("{\"role\":\"bot\",\"content\":\"x\"}", ".role", "`bot`");
    expect_message_refused("{\"role\":\"user\"}", ".content", "is missing");
    expect_message_refused("{\"role\":\"user\",\"content\":null}", ".content", "is missing");
    expect_message_refused("{\"role\":\"assistant\",\"tool_calls\":[]}", ".content", "is missing");
    expect_message_refused("{\"role\":\"user\",\"content\":5}", ".content", "must be a string");
    expect_message_refused("{\"role\":\"user\",\"content\":[\"x\"]}", ".content[0]", "`type`");
    expect_message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}",
                           ".content[0]", "only `text` parts");
    expect_message_refused("{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}", ".content[0]",
                           "no string `text`");
    expect_message_refused("{\"role\":\"user\",\"content\":\"x\",\"Weight\":1}", "", "`Weight`");
    expect_message_refused("{\"role\":\"user\",\"content\":\"x\",\"weight\":1}", ".weight",
                           "only in an assistant message");
    expect_message_refused("{\"role\":\"assistant\",\"content\":\"x\",\"weight\":0.5}", ".weight",
                           "must be 0 or 1");
    expect_message_refused("{\"role\":\"assistant\",\"content\":\"x\",\"weight\":2}", ".weight",
                           "must be 0 or 1");
    expect_message_refused("{\"role\":\"assistant\",\"content\":\"x\",\"function_call\":{}}",
                           ".function_call", "use tool_calls");
}

Test(chat_rows, broken_tool_calls_are_named) {
    expect_message_refused("{\"role\":\"user\",\"content\":\"x\",\"tool_calls\":[]}", ".tool_calls",
                           "only in an assistant message");
    expect_message_refused("{\"role\":\"assistant\",\"tool_calls\":{}}", ".tool_calls",
                           "must be an array");
    expect_message_refused("{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"code\"}]}",
                           ".tool_calls[0]", "type `function`");
    expect_message_refused("{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}",
                           ".tool_calls[0]", "`name`");
    expect_message_refused(
        "{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\"}}]}",
        ".tool_calls[0]", "no `function.arguments`");
    expect_message_refused("{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                           "\"arguments\":\"{'a':1}\"}}]}",
                           ".tool_calls[0]", "not a JSON object");
}

Test(chat_rows, broken_rows_are_named) {
    expect_refused("{\"messages\":[]}", "messages", "non-empty array");
    expect_refused("{\"messages\":{}}", "messages", "non-empty array");
    expect_refused("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}", "messages",
                   "no assistant message");
    expect_refused("{\"messages\":[" ANSWER "],\"functions\":[{}]}", "functions", "use tools");
    expect_refused("{\"messages\":[" ANSWER "],\"tools\":{}}", "tools", "must be an array");
    expect_refused("{\"messages\":[" ANSWER "],\"tools\":[1]}", "tools", "tools[0]");
}

Test(chat_rows, json_is_written_as_python_writes_it) {
    /* json.dumps(json.loads(text), ensure_ascii=False) and the same with indent=4 */
    json_t *value =
        parse("{\"a\":[1,-2,1.0,0.1,1e-5,1e16,123456789012345.6,1e22,2.5e-7],\"é\":\"\\u00"
              "1f\\\"\\\\\\/\\b\\f\\n\\r\\t\x7f\",\"e\":[],\"o\":{},\"n\":null,\"b\":[true,"
              "false]}");
    struct buf b;
    buf_init(&b, 4096);
    cr_assert_eq(chat_json_write(value, 0, &b), ERR_OK);
    cr_assert_str_eq(b.data, "{\"a\": [1, -2, 1.0, 0.1, 1e-05, 1e+16, 123456789012345.6, 1e+22, "
                             "2.5e-07], \"é\": \"\\u001f\\\"\\\\/\\b\\f\\n\\r\\t\x7f\", \"e\": [], "
                             "\"o\": {}, \"n\": null, \"b\": [true, false]}");
    json_decref(value);
    value = parse("{\"a\":[1,{\"b\":[]}],\"c\":{}}");
    buf_reset(&b);
    cr_assert_eq(chat_json_write(value, 4, &b), ERR_OK);
    cr_assert_str_eq(b.data,
                     "{\n    \"a\": [\n        1,\n        {\n            \"b\": []\n        }"
                     "\n    ],\n    \"c\": {}\n}");
    json_decref(value);
    buf_clear(&b);
}
