/* server: the parts that make the service, in one place.
 *
 * What:    the context that HTTP, streams, scheduler and administration share; start, drain, stop.
 * Owns:    every part; main owns the struct.
 * Threads: the loop thread only.
 * Errors:  server_run returns the first one; em says what to do.
 */
#ifndef FFWD_SERVER_SERVER_H
#define FFWD_SERVER_SERVER_H

#include <stdbool.h>
#include <uv.h>

#include "api/api.h"
#include "base/err.h"
#include "server/config.h"
#include "storage/store.h"

struct http;
struct streams;
struct scheduler;
struct admin;
struct metrics;
struct rate;
struct webhooks;
struct background;

#define SERVER_SIGNALS 3 /* SIGTERM, SIGINT, SIGHUP */

struct server {
    struct config *config;
    uv_loop_t loop;
    struct store *store;
    struct api api;
    struct api_config api_config;
    struct api_hooks api_hooks;
    struct http *http;
    struct streams *streams;
    struct scheduler *scheduler;
    struct admin *admin;
    struct metrics *metrics;
    struct rate *rate;
    struct webhooks *webhooks;
    struct background *background;
    uv_signal_t signals[SERVER_SIGNALS];
    int signals_seen;
    uv_timer_t stop_timer, expiry_timer;
    double stop_since;
    bool loopback;   /* the address listened on */
    bool keys_exist; /* a key was ever made: every /v1 request needs one */
    bool draining;   /* SIGTERM came: nothing new is taken on */
    bool stopping;   /* streams and connections are being ended */
    enum err result; /* ERR_OK unless a part failed */
};

/* Serves until a signal; returns after everything is closed. Makes config->data_dir absolute. */
enum err server_run(struct config *config, struct err_msg *em) NODISCARD;

/* Refuses new work, lets the running job write a resume point, then stops. Again: stops hard. */
void server_drain(struct server *s);
/* The scheduler has nothing under way any more; called once after server_drain. */
void server_drained(struct server *s);
/* A disk error after which memory and database may disagree: stop and recover at the next start. */
void server_fail(struct server *s, enum err e, const char *where, const struct err_msg *em);
/* Reads whether keys exist; after each change of them. */
enum err server_read_keys(struct server *s, struct err_msg *em) NODISCARD;

#endif
