/* err: the one error type of both programs.
 *
 * What:    a code (enum err) returned by every fallible function, and a message filled beside it.
 * Owns:    nothing; struct err_msg is plain memory of the caller.
 * Threads: no shared state.
 * Errors:  the first error wins: a message that is already set is never overwritten.
 */
#ifndef FFWD_BASE_ERR_H
#define FFWD_BASE_ERR_H

#include <stddef.h>

/* X(code, name, process exit code). Exit codes are those of the command line contract. */
#define ERR_LIST(X)                                                                                \
    X(ERR_OK, "ok", 0)                                                                             \
    X(ERR_USAGE, "usage", 2)                                                                       \
    X(ERR_CANCELLED, "cancelled", 10)                                                              \
    X(ERR_STOPPED, "stopped", 11)                                                                  \
    X(ERR_INPUT, "bad_input", 20)                                                                  \
    X(ERR_NOT_FOUND, "not_found", 20)                                                              \
    X(ERR_LIMIT, "limit", 20)                                                                      \
    X(ERR_UNSUPPORTED, "unsupported", 20)                                                          \
    X(ERR_CONFLICT, "conflict", 20)                                                                \
    X(ERR_DIVERGED, "diverged", 21)                                                                \
    X(ERR_NO_MEMORY, "out_of_memory", 22)                                                          \
    X(ERR_IO, "io", 30)                                                                            \
    X(ERR_NO_SPACE, "disk_full", 30)                                                               \
    X(ERR_DEVICE, "device", 70)                                                                    \
    X(ERR_BUG, "bug", 99)

enum err {
#define ERR_ENUM(code, name, exit_code) code,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
};

#define ERR_TEXT_MAX 512
#define ERR_PARAM_MAX 128

struct err_msg {
    enum err code;
    char text[ERR_TEXT_MAX];   /* one sentence for a person: what is wrong, where, what to do */
    char param[ERR_PARAM_MAX]; /* path of the request or configuration field; "" if none */
};

#define ERR_MSG_INIT                                                                               \
    { .code = ERR_OK }
#define NODISCARD __attribute__((warn_unused_result))

/* Stable lower-case name of a code, as used in JSON. Never NULL. */
const char *err_name(enum err code);

/* Process exit code of a code. */
int err_exit_code(enum err code);

/* Fills *em (may be NULL) with code and the formatted text, unless it already holds an error.
 * Returns code, so that a function can `return err_set(em, ERR_INPUT, "...")`. */
enum err err_set(struct err_msg *em, enum err code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, and names the field at fault. param is copied. */
enum err err_set_param(struct err_msg *em, enum err code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* As err_set for a failed system call: appends strerror(errno_value) and picks ERR_NO_SPACE for
 * ENOSPC/EDQUOT, ERR_NOT_FOUND for ENOENT/ENOTDIR, ERR_NO_MEMORY for ENOMEM, else ERR_IO. */
enum err err_set_errno(struct err_msg *em, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text of an error that is set, e.g. the file it was found in. */
void err_prefix(struct err_msg *em, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Back to "no error". */
void err_clear(struct err_msg *em);

#endif
