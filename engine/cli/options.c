/* options: the one reader of command lines. */
#include "engine/cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static enum err set_number(const struct cli_option *o, const char *text, struct err_msg *em) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool plain = text[strspn(text, "+-0123456789")] == '\0';
    if (!plain || end == text || *end != '\0' || errno != 0 || v < o->lo || v > o->hi)
        return err_set(em, ERR_USAGE, "%s takes a whole number from %lld to %lld, not \"%.64s\"",
                       o->name, (long long)o->lo, (long long)o->hi, text);
    *o->number = v;
    return ERR_OK;
}

static const struct cli_option *find(const struct cli_option *options, int n, const char *arg,
                                     size_t len) {
    for (int i = 0; i < n; i++)
        if (strlen(options[i].name) == len && strncmp(options[i].name, arg, len) == 0)
            return &options[i];
    return NULL;
}

enum err cli_options_read(int argc, char **argv, const struct cli_option *options, int n,
                          bool *help, struct err_msg *em) {
    *help = false;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            *help = true;
            return ERR_OK;
        }
    for (int i = 1; i < argc; i++) {
        size_t len = strcspn(argv[i], "=");
        const struct cli_option *o = find(options, n, argv[i], len);
        const char *value = argv[i][len] == '=' ? argv[i] + len + 1 : NULL;
        if (o == NULL)
            return err_set(em, ERR_USAGE, "unknown argument \"%.100s\"; --help lists the options",
                           argv[i]);
        if (o->flag != NULL) {
            if (value != NULL)
                return err_set(em, ERR_USAGE, "%s takes no value", o->name);
            *o->flag = true;
            continue;
        }
        if (value == NULL && i + 1 == argc)
            return err_set(em, ERR_USAGE, "%s needs a value", o->name);
        if (value == NULL)
            value = argv[++i];
        if (o->text != NULL)
            *o->text = value;
        else if (set_number(o, value, em) != ERR_OK)
            return ERR_USAGE;
    }
    return ERR_OK;
}

enum err cli_dtype(const char *text, struct device *dev, enum dtype *out, struct err_msg *em) {
    struct device_info info;
    dev->ops->info(dev, &info);
    *out = info.native_bf16 ? DTYPE_BF16 : DTYPE_F32;
    if (text == NULL)
        return ERR_OK;
    if (strcmp(text, "bf16") != 0 && strcmp(text, "f32") != 0)
        return err_set(em, ERR_USAGE, "--dtype takes bf16 or f32, not \"%.64s\"", text);
    *out = strcmp(text, "bf16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    return ERR_OK;
}
