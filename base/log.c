/* log: one line per event on standard error. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/decimal.h"

#define HELD_MAX 32768

static atomic_int threshold = LOG_INFO;
static _Thread_local bool holding;
static struct {
    char text[HELD_MAX];
    size_t used;
} held; /* of the one thread that is holding */

static const char *const names[] = {"debug", "info", "warn", "error"};

void log_set_level(enum log_level level) {
    atomic_store(&threshold, (int)level);
}

const char *log_level_name(enum log_level level) {
    return names[level];
}

bool log_level_parse(const char *text, enum log_level *out) {
    for (int i = 0; text != NULL && i <= LOG_ERROR; i++) {
        if (strcmp(text, names[i]) != 0)
            continue;
        *out = (enum log_level)i;
        return true;
    }
    return false;
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

static void add_bytes(struct log_fields *l, const char *bytes, size_t n) {
    size_t room = sizeof l->line - 1 - l->used; /* the newline always fits */
    n = n < room ? n : room;
    memcpy(l->line + l->used, bytes, n);
    l->used += n;
}

/* "2026-01-31T12:00:00", kept for the rest of its second: gmtime_r looks for a changed time zone
 * on the disk each time. */
static void add_second(struct log_fields *l, time_t second) {
    static _Thread_local time_t last = -1;
    static _Thread_local char text[32];
    static _Thread_local size_t n;
    if (second != last) {
        struct tm tm;
        gmtime_r(&second, &tm);
        n = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
        last = second;
    }
    add_bytes(l, text, n);
}

static void add_name(struct log_fields *l, const char *name) {
    if (!l->first)
        add_bytes(l, " ", 1);
    l->first = false;
    add_bytes(l, name, strlen(name));
    add_bytes(l, "=", 1);
}

bool log_begin(struct log_fields *l, enum log_level level, const char *event) {
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
    add_second(l, now.tv_sec);
    add_bytes(l, fraction, sizeof fraction);
    add_bytes(l, names[level], strlen(names[level]));
    add_bytes(l, " ", 1);
    add_bytes(l, event, strlen(event));
    add_bytes(l, " ", 1);
    return true;
}

/* What came from outside cannot end a line or move a terminal's cursor. */
static void clean(char *text, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = '?';
}

void log_text(struct log_fields *l, const char *name, const char *value, size_t n) {
    add_name(l, name);
    size_t from = l->used;
    add_bytes(l, value, n);
    clean(l->line + from, l->used - from);
}

void log_word(struct log_fields *l, const char *name, const char *value) {
    log_text(l, name, value, strlen(value));
}

void log_integer(struct log_fields *l, const char *name, int64_t value) {
    char text[DECIMAL_MAX];
    add_name(l, name);
    add_bytes(l, text, decimal_put(text, value));
}

void log_end(struct log_fields *l) {
    l->line[l->used++] = '\n';
    put_line(l->level, l->line, l->used);
}

static size_t used_of(int n, size_t room) {
    if (n < 0)
        return 0;
    return (size_t)n < room ? (size_t)n : room - 1;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...) {
    struct log_fields l;
    if (!log_begin(&l, level, event))
        return;
    va_list args;
    va_start(args, fmt);
    size_t room = sizeof l.line - l.used;
    size_t n = used_of(vsnprintf(l.line + l.used, room, fmt, args), room);
    va_end(args);
    clean(l.line + l.used, n);
    l.used += n;
    log_end(&l);
}
