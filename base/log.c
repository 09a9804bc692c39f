/* log: one line per event on standard error. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 2048
#define HELD_MAX 32768

static atomic_int threshold = LOG_INFO;
static _Thread_local bool holding;
static struct {
    char text[HELD_MAX];
    size_t used;
} held; /* of the one thread that is holding */

void log_set_level(enum log_level level) {
    atomic_store(&threshold, (int)level);
}

static size_t used_of(int n, size_t room) {
    if (n < 0)
        return 0;
    return (size_t)n < room ? (size_t)n : room - 1;
}

static void write_out(const char *text, size_t n) {
    ssize_t written = write(STDERR_FILENO, text, n);
    (void)written;
}

static void write_held(void) {
    if (held.used > 0)
        write_out(held.text, held.used);
    held.used = 0;
}

void log_hold(void) {
    holding = true;
}

void log_release(void) {
    holding = false;
    write_held();
}

static void put_line(enum log_level level, const char *line, size_t n) {
    if (!holding) {
        write_out(line, n);
        return;
    }
    if (held.used + n > HELD_MAX)
        write_held();
    memcpy(held.text + held.used, line, n);
    held.used += n;
    if (level >= LOG_WARN)
        write_held();
}

/* "2026-01-31T12:00:00", kept for the rest of its second: gmtime_r looks for a changed time zone
 * on the disk each time. */
static size_t add_second(char *line, size_t room, time_t second) {
    static _Thread_local time_t last = -1;
    static _Thread_local char text[32];
    if (second != last) {
        struct tm tm;
        gmtime_r(&second, &tm);
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
        last = second;
    }
    return used_of(snprintf(line, room, "%s", text), room);
}

void log_line(enum log_level level, const char *event, const char *fmt, ...) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if ((int)level < atomic_load(&threshold))
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    char line[LOG_LINE_MAX];
    size_t room = sizeof line - 1; /* the newline always fits */
    size_t used = add_second(line, room, now.tv_sec);
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
    put_line(level, line, used);
}
