/* log: one line per event on standard error. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

static void add_bytes(struct log_fields *l, const char *bytes, size_t n) {
    size_t room = sizeof l->line - 1 - l->used; /* the newline always fits */
    n = n < room ? n : room;
    memcpy(l->line + l->used, bytes, n);
    l->used += n;
}

static void add_name(struct log_fields *l, const char *name) {
    if (!l->first)
        add_bytes(l, " ", 1);
    l->first = false;
    add_bytes(l, name, strlen(name));
    add_bytes(l, "=", 1);
}

bool log_begin(struct log_fields *l, enum log_level level, const char *event) {
    static const char *const names[] = {"debug ", "info ", "warn ", "error "};
    l->used = 0;
    l->first = true;
    l->level = level;
    if ((int)level < atomic_load(&threshold))
        return false;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    long ms = now.tv_nsec / 1000000;
    char fraction[] = {
        '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z', ' '};
    l->used = add_second(l->line, sizeof l->line, now.tv_sec);
    add_bytes(l, fraction, sizeof fraction);
    add_bytes(l, names[level], strlen(names[level]));
    add_bytes(l, event, strlen(event));
    add_bytes(l, " ", 1);
    return true;
}

void log_text(struct log_fields *l, const char *name, const char *value, size_t n) {
    add_name(l, name);
    add_bytes(l, value, n);
}

void log_word(struct log_fields *l, const char *name, const char *value) {
    log_text(l, name, value, strlen(value));
}

void log_integer(struct log_fields *l, const char *name, int64_t value) {
    char text[24], *p = text + sizeof text;
    uint64_t left = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do
        *--p = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    if (value < 0)
        *--p = '-';
    log_text(l, name, p, (size_t)(text + sizeof text - p));
}

void log_end(struct log_fields *l) {
    for (size_t i = 0; i < l->used; i++)
        if ((unsigned char)l->line[i] < 0x20 || l->line[i] == 0x7f)
            l->line[i] = '?';
    l->line[l->used++] = '\n';
    put_line(l->level, l->line, l->used);
}

void log_line(enum log_level level, const char *event, const char *fmt, ...) {
    struct log_fields l;
    if (!log_begin(&l, level, event))
        return;
    va_list args;
    va_start(args, fmt);
    size_t room = sizeof l.line - l.used;
    l.used += used_of(vsnprintf(l.line + l.used, room, fmt, args), room);
    va_end(args);
    log_end(&l);
}
