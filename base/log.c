/* log: one line per event on standard error. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048

static atomic_int threshold = LOG_INFO;

void log_set_level(enum log_level level) {
    atomic_store(&threshold, (int)level);
}

static size_t used_of(int n, size_t room) {
    if (n < 0)
        return 0;
    return (size_t)n < room ? (size_t)n : room - 1;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load(&threshold))
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm tm;
    gmtime_r(&now.tv_sec, &tm);
    char line[LOG_LINE_MAX];
    size_t room = sizeof line - 1; /* the newline always fits */
    size_t used = strftime(line, room, "%Y-%m-%dT%H:%M:%S", &tm);
    used += used_of(snprintf(line + used, room - used, ".%03ldZ %s %s ", now.tv_nsec / 1000000,
                             names[level], event),
                    room - used);
    va_list args;
    va_start(args, fmt);
    used += used_of(vsnprintf(line + used, room - used, fmt, args), room - used);
    va_end(args);
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
}
