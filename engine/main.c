/* main of `ffwd`: picks the command.  Every command lives in engine/cli/cmd_NAME.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/version.h"
#include "engine/cli/cli.h"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns an exit code */
    const char *summary;
} commands[] = {
    {"check", cmd_check, "report on a data set: rows, tokens, every bad line"},
    {"train", cmd_train, "train a LoRA adapter with Fast Forward"},
    {"eval", cmd_eval, "loss of a model or an adapter on every row of a file"},
    {"plot", cmd_plot, "a run as a picture: losses, Fast Forward stages, learning rate"},
    {"tokenize", cmd_tokenize, "text to token ids and back"},
    {"bench", cmd_bench, "speed and memory of a training step"},
    {"worker", cmd_worker, "train the jobs a server sends"},
    {"help", cmd_help, "this list"},
};

int cmd_help(int argc, char **argv) {
    (void)argc, (void)argv;
    puts("usage: ffwd COMMAND [OPTIONS]      (ffwd COMMAND --help for a command's options)\n"
         "       ffwd --version\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    return 0;
}

/* Without the driver's part of exit() where a device does not answer: it would wait for it. */
static int leave(int code) {
    if (code != err_exit_code(ERR_DEVICE))
        return code;
    (void)fflush(NULL);
    _exit(code);
}

int main(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        cmd_help(argc, argv);
        return argc < 2 ? err_exit_code(ERR_USAGE) : 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("ffwd " FFWD_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return leave(commands[i].run(argc - 1, argv + 1));
    fprintf(stderr, "ffwd: no command '%s'; `ffwd help` lists them\n", argv[1]);
    return err_exit_code(ERR_USAGE);
}
