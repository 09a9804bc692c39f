/* connection: the clients' TCP connections, with deadlines of our own. */
#include "server/connection.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"

struct in6_addr connection_address(const struct sockaddr *from) {
    struct in6_addr a = IN6ADDR_ANY_INIT;
    if (from != NULL && from->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, from, sizeof six);
        a = six.sin6_addr;
    } else if (from != NULL && from->sa_family == AF_INET) {
        struct sockaddr_in four;
        memcpy(&four, from, sizeof four);
        a.s6_addr[10] = a.s6_addr[11] = 0xff;
        memcpy(&a.s6_addr[12], &four.sin_addr, 4);
    }
    return a;
}

bool connection_is_loopback(const struct in6_addr *a) {
    return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
}

int connection_count_of(const struct connections *all, const struct in6_addr *a) {
    int n = 0;
    for (const struct connection *c = all->first; c != NULL; c = c->next)
        n += memcmp(&c->address, a, sizeof *a) == 0;
    return n;
}

struct connection *connection_add(struct connections *all, struct MHD_Connection *mhd) {
    struct connection *c = xcalloc(1, sizeof *c);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    c->fd = info != NULL ? info->connect_fd : -1;
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    c->address = connection_address(info != NULL ? info->client_addr : NULL);
    c->loopback = connection_is_loopback(&c->address);
    c->next = all->first;
    if (c->next != NULL)
        c->next->prev = c;
    all->first = c;
    all->count++;
    connection_set_phase(c, PHASE_HEAD);
    return c;
}

void connection_remove(struct connections *all, struct connection *c) {
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        all->first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    all->count--;
    free(c);
}

void connection_set_phase(struct connection *c, enum connection_phase phase) {
    c->phase = phase;
    c->since = clock_mono();
    c->body_bytes = 0;
}

static bool body_is_late(const struct connection *c, const struct config_limits *limits,
                         double seconds) {
    double allowed = (double)limits->body_grace_seconds +
                     (double)c->body_bytes / (double)limits->body_bytes_per_second;
    return seconds > allowed || seconds > (double)limits->transfer_seconds;
}

/* libmicrohttpd 0.9.75 does not see the end of a connection that came together with the last bytes
 * it read: the event is edge-triggered, and a short read counts as "nothing more". */
static bool has_gone(const struct connection *c) {
    char byte;
    return (c->phase == PHASE_HEAD || c->phase == PHASE_BODY) && c->fd >= 0 &&
           recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static bool is_late(const struct connection *c, const struct config_limits *limits, double now) {
    double seconds = now - c->since;
    switch (c->phase) {
    case PHASE_HEAD:
        /* libmicrohttpd closes a kept connection that is silent for idle_seconds. */
        return seconds > (double)(limits->header_seconds + (c->used ? limits->idle_seconds : 0));
    case PHASE_BODY:
        return body_is_late(c, limits, seconds);
    case PHASE_REPLY:
        return seconds > (double)limits->reply_seconds;
    case PHASE_FILE:
        return seconds > (double)limits->transfer_seconds;
    case PHASE_WORK:
    case PHASE_STREAM:
        break;
    }
    return false;
}

void connection_cut(struct connection *c) {
    if (c->fd >= 0)
        (void)shutdown(c->fd, SHUT_RDWR);
}

int connection_sweep(struct connections *all, const struct config_limits *limits, double now) {
    int n = 0;
    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (!has_gone(c) && !is_late(c, limits, now))
            continue;
        connection_cut(c);
        n++;
    }
    return n;
}
