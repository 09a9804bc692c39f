/* options: command line options, read strictly.
 *
 * What:    "--name value" and "--name=value" from a table; nothing is guessed or ignored.
 * Owns:    nothing: texts point into argv.
 * Threads: main thread.
 * Errors:  ERR_USAGE naming the option and what it takes.
 */
#ifndef FFWD_ENGINE_CLI_OPTIONS_H
#define FFWD_ENGINE_CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/ops/ops.h"

/* Exactly one of text, number and flag is set. */
struct cli_option {
    const char *name;  /* "--steps" */
    const char **text; /* any string */
    int64_t *number;   /* a whole decimal number in [lo, hi] */
    int64_t lo, hi;
    bool *flag; /* takes no value */
};

/* argv[0] is the command. *help is set, and the rest not looked at, where --help or -h stands.
 * Options that are absent leave their variables as they are. */
enum err cli_options_read(int argc, char **argv, const struct cli_option *options, int n,
                          bool *help, struct err_msg *em) NODISCARD;

/* "bf16", "f32", or NULL: what the device does best (bf16 where it has products in it). */
enum err cli_dtype(const char *text, struct device *dev, enum dtype *out,
                   struct err_msg *em) NODISCARD;

#endif
