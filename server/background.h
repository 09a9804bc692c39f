/* background: slow work that no request waits for, on libuv's threads.
 *
 * What:    uploads whose completion a crash interrupted are finished, one after the other, while
 *          the server serves already; what was removed (storage/trash.h) loses its blocks.
 * Owns:    what is under way.
 * Threads: the loop thread; the work itself on libuv's.
 * Errors:  logged. An upload that could not be finished waits for the next start, or its client.
 */
#ifndef FFWD_SERVER_BACKGROUND_H
#define FFWD_SERVER_BACKGROUND_H

#include <stdbool.h>

struct background;
struct server;

struct background *background_new(struct server *s);
/* Something may lie in the trash; also without this call it is seen soon. */
void background_wake(struct background *b);
/* Asks what runs to come back; nothing new is begun. */
void background_stop(struct background *b);
bool background_busy(const struct background *b);
/* Not while busy. Then the loop must run until it is empty, then background_free. */
void background_close(struct background *b);
void background_free(struct background *b);

#endif
