/* streams: jobs' events as server-sent events.
 *
 * What:    a stream reads its job's feed after its cursor, so live, replay and reconnect are one
 *          path. When there is nothing it is suspended and waits with its topic, which is what the
 *          readers of one job share. What wakes many of them moves them to one queue, which is
 *          worked off a few at each turn of the loop, so that requests go on between; heartbeats
 *          are spread over the whole interval.
 * Owns:    every open stream, until libmicrohttpd frees its response; the topics.
 * Threads: the loop thread only.
 * Errors:  ERR_LIMIT when too many streams are open.
 */
#ifndef FFWD_SERVER_STREAMS_H
#define FFWD_SERVER_STREAMS_H

#include <microhttpd.h>
#include <stdint.h>

#include "base/err.h"

struct request;
struct server;
struct streams;

struct streams *streams_new(struct server *s);
/* The body of an answer to r: events of job_id with seq > after_seq, oldest first. */
enum err streams_open(struct streams *all, struct request *r, const char *job_id, int64_t after_seq,
                      struct MHD_Response **out, struct err_msg *em) NODISCARD;
/* New events, or an end, of this job. Safe inside libmicrohttpd's callbacks. */
void streams_wake(struct streams *all, const char *job_id);
/* Ends the streams of a key that was revoked, without [DONE]: who comes back is refused. */
void streams_revoke(struct streams *all, const char *key_id);
int streams_count(const struct streams *all);
/* Ends every stream (without [DONE], so that clients come back) and opens no more. */
void streams_end(struct streams *all);
/* No stream may be open. */
void streams_close(struct streams *all);
/* After the loop has ended. */
void streams_free(struct streams *all);

#endif
