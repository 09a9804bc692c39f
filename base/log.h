/* log: one line per event on standard error.
 *
 * What:    `2026-01-31T12:00:00.123Z info job.claim id=ftjob_1 device=cpu`.
 * Owns:    the threshold, set once at start; the lines that one thread holds back.
 * Threads: each line is one write, so lines of several threads do not mix.
 * Errors:  none; a line that cannot be written is lost.
 */
#ifndef FFWD_BASE_LOG_H
#define FFWD_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 2048 /* bytes; what is longer is cut */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines below the level are dropped; the default is LOG_INFO. */
void log_set_level(enum log_level level);
/* "debug", "info", "warn" or "error"; false: text is none of them (or NULL), *out stays. */
bool log_level_parse(const char *text, enum log_level *out);
const char *log_level_name(enum log_level level);

/* Between the two, lines of the calling thread below LOG_WARN are held back and then written
 * together. One thread of a process may do this. */
void log_hold(void);
void log_release(void);

/* event: dotted lower-case name; fmt: `key=value` pairs. Control characters in the finished
 * text are replaced by '?'. */
void log_line(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same line, field by field, for what is logged often. */
struct log_fields {
    enum log_level level;
    bool first;
    size_t used;
    char line[LOG_LINE_MAX];
};
/* false: lines of this level are dropped, and nothing else may be done with l. */
bool log_begin(struct log_fields *l, enum log_level level, const char *event);
/* Control characters in a value are replaced by '?'. */
void log_text(struct log_fields *l, const char *name, const char *value, size_t n);
void log_word(struct log_fields *l, const char *name, const char *value);
void log_integer(struct log_fields *l, const char *name, int64_t value);
void log_end(struct log_fields *l);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
