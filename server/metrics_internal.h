/* metrics_internal: writing of Prometheus' text format, and what the system knows of the process.
 *
 * What:    HELP and TYPE lines and samples (exposition format 0.0.4).
 * Owns:    the page until metrics__end.
 * Threads: the loop thread only.
 * Errors:  a page that grows past its bound ends early.
 */
#ifndef FFWD_SERVER_METRICS_INTERNAL_H
#define FFWD_SERVER_METRICS_INTERNAL_H

#include <stdint.h>

#include "base/buf.h"

struct page_text {
    struct buf out;
};

void metrics__begin(struct page_text *p);
char *metrics__end(struct page_text *p); /* new string */
void metrics__head(struct page_text *p, const char *name, const char *type, const char *help);
/* One sample; the newline is added. */
void metrics__line(struct page_text *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A metric without labels. */
void metrics__gauge(struct page_text *p, const char *name, const char *help, double value);
void metrics__counter(struct page_text *p, const char *name, const char *help, uint64_t value);
/* process_… as every Prometheus client library names them, and the disk that holds data_dir. */
void metrics__process(struct page_text *p, const char *data_dir);

#endif
