/* cli: the commands of `ffwd`, and what they share.
 *
 * What:    one cmd_* function per command; helpers to report an error the same way everywhere.
 * Owns:    nothing.
 * Threads: called on the main thread.
 * Errors:  a command prints `ffwd: …` on standard error and returns the exit code of the error.
 */
#ifndef FFWD_ENGINE_CLI_H
#define FFWD_ENGINE_CLI_H

#include "base/err.h"

int cmd_help(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_plot(int argc, char **argv);
int cmd_worker(int argc, char **argv);

/* Prints the error as one line on standard error and returns its exit code (0 for ERR_OK). */
int cli_report(const char *command, enum err e, const struct err_msg *em);

#endif
