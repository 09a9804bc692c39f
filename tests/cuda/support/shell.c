/* shell: see shell.h. */
#include "tests/cuda/support/shell.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int shell(const char *line) {
    char program[512];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 64);
    cr_assert_gt(n, 0);
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    strcat(program, "/../../emulation/ffwd");
    cr_assert_eq(setenv("FFWD", program, 1), 0);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
