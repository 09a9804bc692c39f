/* cmd_tokenize: `ffwd tokenize`: JSON strings to ids and back, a line each. */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cli/cli.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"

static const char help[] =
    "usage: ffwd tokenize --model DIR [--decode] [--special] [--chat]\n"
    "\n"
    "Reads standard input line by line and prints a line for each. Needs only the tokenizer's\n"
    "files in DIR (tokenizer.json; for --chat also tokenizer_config.json).\n"
    "\n"
    "  (neither)   a JSON string gives the list of its token ids, as Hugging Face's\n"
    "              encode(text, add_special_tokens=False); special tokens written in the text\n"
    "              are recognised\n"
    "  --special   adds what the post-processor adds, e.g. the token that begins a text\n"
    "  --decode    a list of ids gives the JSON string of their text\n"
    "  --chat      {\"messages\":[...]} gives {\"ids\":[...],\"mask\":[...]}: the conversation in\n"
    "              the model's template, and 1 for every token that training learns\n"
    "\n"
    "example:  echo '\"Hello world\"' | ffwd tokenize --model MODEL\n"
    "\n"
    "A line that cannot be used ends the command with exit code 20 and a message with its "
    "number.\n";

struct tokenize {
    const char *model;
    bool decode, special, chat;
    struct tokenizer *tok;
    struct chat_template *template;
    struct ids ids, labels;
};

static enum err parse(int argc, char **argv, struct tokenize *t, bool *show_help,
                      struct err_msg *em) {
    static const struct option options[] = {
        {"model", required_argument, NULL, 'm'}, {"decode", no_argument, NULL, 'd'},
        {"special", no_argument, NULL, 's'},     {"chat", no_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
    };
    int c;
    optind = 1;
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'm')
            t->model = optarg;
        else if (c == 'd')
            t->decode = true;
        else if (c == 's')
            t->special = true;
        else if (c == 'c')
            t->chat = true;
        else if (c == 'h')
            *show_help = true;
        else
            return err_set(em, ERR_USAGE, "see `ffwd tokenize --help`");
    }
    if (*show_help)
        return ERR_OK;
    if (optind < argc)
        return err_set(em, ERR_USAGE, "unexpected argument `%s`; the text comes on standard input",
                       argv[optind]);
    if (t->model == NULL)
        return err_set(em, ERR_USAGE, "--model DIR is missing");
    if (t->chat && (t->decode || t->special))
        return err_set(em, ERR_USAGE, "--chat goes with neither --decode nor --special");
    return ERR_OK;
}

static void print_ids(const struct ids *ids) {
    char digits[12];
    putchar('[');
    for (size_t i = 0; i < ids->len; i++) {
        size_t n = sizeof digits;
        uint32_t id = (uint32_t)ids->data[i];
        do
            digits[--n] = (char)('0' + id % 10);
        while ((id /= 10) > 0);
        if (i > 0)
            putchar(',');
        fwrite(digits + n, 1, sizeof digits - n, stdout);
    }
    putchar(']');
}

static enum err encode_line(struct tokenize *t, const json_t *line, struct err_msg *em) {
    unsigned flags = TOKENIZER_PARSE_SPECIAL | (t->special ? TOKENIZER_ADD_SPECIAL : 0u);
    if (!json_is_string(line))
        return err_set(em, ERR_INPUT, "must be a JSON string");
    ids_reset(&t->ids);
    enum err e = tokenizer_encode(t->tok, json_string_value(line), json_string_length(line), flags,
                                  &t->ids, em);
    if (e == ERR_OK)
        print_ids(&t->ids);
    return e;
}

static enum err decode_line(struct tokenize *t, const json_t *line, struct err_msg *em) {
    size_t i, len;
    const json_t *id;
    char *text;
    if (!json_is_array(line))
        return err_set(em, ERR_INPUT, "must be a list of ids");
    ids_reset(&t->ids);
    json_array_foreach(line, i, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX)
            return err_set(em, ERR_INPUT, "entry %zu is no id", i);
        ids_add(&t->ids, (int32_t)json_integer_value(id));
    }
    enum err e = tokenizer_decode(t->tok, t->ids.data, t->ids.len, &text, &len, em);
    if (e != ERR_OK)
        return e;
    json_t *string = json_stringn(text, len);
    free(text);
    if (string == NULL || json_dumpf(string, stdout, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) != 0)
        e = err_set_errno(em, errno, "cannot print the text");
    json_decref(string);
    return e;
}

/* The mask is 1 where training learns the token. */
static enum err chat_line(struct tokenize *t, const json_t *line, struct err_msg *em) {
    ids_reset(&t->ids);
    ids_reset(&t->labels);
    enum err e =
        chat_template_render(t->template, line, TRAIN_ON_ASSISTANT, &t->ids, &t->labels, em);
    if (e != ERR_OK)
        return e;
    for (size_t i = 0; i < t->labels.len; i++)
        t->labels.data[i] = t->labels.data[i] != LABEL_IGNORE;
    fputs("{\"ids\":", stdout);
    print_ids(&t->ids);
    fputs(",\"mask\":", stdout);
    print_ids(&t->labels);
    putchar('}');
    return ERR_OK;
}

static enum err handle_line(struct tokenize *t, const char *line, size_t len, struct err_msg *em) {
    json_error_t why;
    json_t *json =
        json_loadb(line, len, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &why);
    if (json == NULL)
        return err_set(em, ERR_INPUT, "not JSON: %s", why.text);
    enum err e = t->chat     ? chat_line(t, json, em)
                 : t->decode ? decode_line(t, json, em)
                             : encode_line(t, json, em);
    json_decref(json);
    if (e == ERR_OK)
        putchar('\n');
    return e;
}

static enum err handle_input(struct tokenize *t, struct err_msg *em) {
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    enum err e = ERR_OK;
    for (unsigned long number = 1; e == ERR_OK && (n = getline(&line, &cap, stdin)) >= 0;
         number++) {
        e = handle_line(t, line, (size_t)n, em);
        if (e != ERR_OK)
            err_prefix(em, "line %lu", number);
    }
    if (e == ERR_OK && ferror(stdin))
        e = err_set_errno(em, errno, "cannot read standard input");
    if (fflush(stdout) != 0 && e == ERR_OK)
        e = err_set_errno(em, errno, "cannot write standard output");
    free(line);
    return e;
}

int cmd_tokenize(int argc, char **argv) {
    struct tokenize t = {0};
    struct err_msg em = ERR_MSG_INIT;
    bool show_help = false;
    enum err e = parse(argc, argv, &t, &show_help, &em);
    if (e == ERR_OK && show_help) {
        fputs(help, stdout);
        return 0;
    }
    if (e == ERR_OK)
        e = tokenizer_open(t.model, &t.tok, &em);
    if (e == ERR_OK && t.chat)
        e = chat_template_open(t.model, t.tok, &t.template, &em);
    if (e == ERR_OK)
        e = handle_input(&t, &em);
    chat_template_close(t.template);
    tokenizer_close(t.tok);
    ids_clear(&t.ids);
    ids_clear(&t.labels);
    return cli_report("tokenize", e, &em);
}
