/* post: HTTP POST requests to others, by libcurl on the loop.
 *
 * What:    one request, one answer's status; redirects are not followed, no proxy is used, and a
 *          connection is opened only to an address that is allowed: checked on the address itself
 *          when the socket is made, so that it does not matter what a name resolves to. The
 *          certificate and the name in it are always verified.
 * Owns:    the transfers under way.
 * Threads: the loop thread only (libcurl resolves names on a thread of its own).
 * Errors:  as a sentence for the one who reads why a delivery failed.
 */
#ifndef FFWD_SERVER_POST_H
#define FFWD_SERVER_POST_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "server/address.h"

struct post;

struct post_rules {
    const struct address_range *allowed; /* besides public addresses */
    size_t n_allowed;
    int64_t seconds;     /* for all of a request */
    const char *ca_file; /* authorities for https, instead of the system's; NULL: those */
};

struct post_result {
    int64_t status;      /* of the answer; 0: none came */
    int64_t retry_after; /* seconds that the answer asks to wait, or 0 */
    char error[160];     /* "" if an answer came */
};

/* ERR_INPUT if ca_file cannot be read. */
enum err post_open(uv_loop_t *loop, const struct post_rules *rules, struct post **out,
                   struct err_msg *em) NODISCARD;
/* headers: lines "Name: value", n of them. done is called once, from the loop, unless post_close
 * comes first. */
enum err post_send(struct post *p, const char *url, const char *const *headers, int n,
                   const char *body, void (*done)(void *arg, const struct post_result *result),
                   void *arg, struct err_msg *em) NODISCARD;
/* Gives up what is under way, without calling done. p is freed when its handles are closed. */
void post_close(struct post *p);

#endif
