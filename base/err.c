/* err: codes, names and messages. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int exit_code;
} codes[] = {
#define ERR_ROW(code, name, exit_code) [code] = {name, exit_code},
    ERR_LIST(ERR_ROW)
#undef ERR_ROW
};

const char *err_name(enum err code) {
    return codes[code].name;
}

int err_exit_code(enum err code) {
    return codes[code].exit_code;
}

static void fill(struct err_msg *em, enum err code, const char *param, const char *fmt,
                 va_list args) {
    if (em == NULL || em->code != ERR_OK)
        return;
    em->code = code;
    (void)vsnprintf(em->text, sizeof em->text, fmt, args);
    (void)snprintf(em->param, sizeof em->param, "%s", param);
}

enum err err_set(struct err_msg *em, enum err code, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(em, code, "", fmt, args);
    va_end(args);
    return code;
}

enum err err_set_param(struct err_msg *em, enum err code, const char *param, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fill(em, code, param, fmt, args);
    va_end(args);
    return code;
}

static enum err code_of_errno(int errno_value) {
    switch (errno_value) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case ENOMEM:
        return ERR_NO_MEMORY;
    default:
        return ERR_IO;
    }
}

enum err err_set_errno(struct err_msg *em, int errno_value, const char *fmt, ...) {
    enum err code = code_of_errno(errno_value);
    if (em == NULL || em->code != ERR_OK)
        return code;
    va_list args;
    va_start(args, fmt);
    fill(em, code, "", fmt, args);
    va_end(args);
    size_t used = strlen(em->text);
    (void)snprintf(em->text + used, sizeof em->text - used, ": %s", strerror(errno_value));
    return code;
}

void err_prefix(struct err_msg *em, const char *fmt, ...) {
    if (em == NULL || em->code == ERR_OK)
        return;
    char old[ERR_TEXT_MAX];
    memcpy(old, em->text, sizeof old);
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(em->text, sizeof em->text, fmt, args);
    va_end(args);
    size_t used = n < 0 ? 0 : (size_t)n < sizeof em->text ? (size_t)n : sizeof em->text - 1;
    (void)snprintf(em->text + used, sizeof em->text - used, ": %s", old);
}

void err_clear(struct err_msg *em) {
    if (em != NULL)
        *em = (struct err_msg)ERR_MSG_INIT;
}
