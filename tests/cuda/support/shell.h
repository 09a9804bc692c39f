/* shell: runs the program with the emulated device. */
#ifndef FFWD_TESTS_CUDA_SUPPORT_SHELL_H
#define FFWD_TESTS_CUDA_SUPPORT_SHELL_H

/* Runs a line of shell; its exit status, -1 where it was killed. $FFWD is the program. */
int shell(const char *line);

#endif
