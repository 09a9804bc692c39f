/* rate: token buckets, by key, project or address.
 *
 * What:    a bucket holds one minute's requests and fills steadily. The table has a fixed size;
 *          when a set of it is full, the bucket that holds most is given up, which forgets least.
 * Owns:    its table.
 * Threads: the loop thread only.
 * Errors:  none; a refusal is a result.
 */
#ifndef FFWD_SERVER_RATE_H
#define FFWD_SERVER_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct rate;

struct rate_result {
    bool refused;
    int64_t limit, remaining; /* requests a minute, requests left now */
    double reset_seconds;     /* until the bucket is full */
    double retry_seconds;     /* refused: until a request would be taken */
};

struct rate *rate_new(void);
void rate_free(struct rate *r); /* may be NULL */

/* Takes one request out of the bucket of kind ("key", "project", "address") and name. now: seconds
 * of clock_mono. */
struct rate_result rate_take(struct rate *r, const char *kind, const char *name, int64_t per_minute,
                             double now);
/* "12ms", "1s", "6m0s", as the hosted API writes the time of a reset. */
void rate_write_duration(double seconds, char out[32]);

#endif
