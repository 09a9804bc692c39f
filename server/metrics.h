/* metrics: what the server counts, as Prometheus text.
 *
 * What:    requests by route and class of status, with histograms of their time; everything else is
 *          read where it is kept when somebody asks. Labels are the route table's patterns and
 *          other fixed words, never anything a client sent, so the number of series is bounded.
 * Owns:    its counters.
 * Threads: the loop thread only.
 * Errors:  what cannot be read is left out.
 */
#ifndef FFWD_SERVER_METRICS_H
#define FFWD_SERVER_METRICS_H

#include <stdint.h>

#include "api/api.h"

struct metrics;
struct server;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m); /* may be NULL */

/* A request that has ended. route NULL: none was found, or the head was refused. */
void metrics_request(struct metrics *m, const struct api_route *route, int status, double seconds,
                     int64_t bytes_in, int64_t bytes_out);
void metrics_connection(struct metrics *m);          /* accepted */
void metrics_refused(struct metrics *m);             /* not accepted: too many of an address */
void metrics_slow_clients(struct metrics *m, int n); /* cut */
void metrics_rate_limited(struct metrics *m);
void metrics_trained(struct metrics *m, int64_t tokens);

/* The whole page; new string. */
char *metrics_text(struct server *s);

#endif
