/* clock: the two times a program needs.
 *
 * What:    wall-clock seconds for what users see, monotonic seconds for durations and deadlines.
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  none.
 */
#ifndef FFWD_BASE_CLOCK_H
#define FFWD_BASE_CLOCK_H

#include <stdint.h>

/* Unix seconds. */
int64_t clock_unix(void);
/* Seconds since an arbitrary start; never goes back. */
double clock_mono(void);

#endif
