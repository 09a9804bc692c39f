/* connection: the clients' TCP connections, with deadlines of our own. */
#include "server/connection.h"

#include <linux/tcp.h> /* <netinet/tcp.h> lacks tcpi_bytes_acked */
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

/* ---- connections by address ----------------------------------------------------------------- */

struct address_count {
    struct address_count *next;
    struct in6_addr address;
    int n;
};

static unsigned bucket_of(const struct in6_addr *a) {
    unsigned h = 2166136261u; /* FNV-1a */
    for (int i = 0; i < 16; i++)
        h = (h ^ a->s6_addr[i]) * 16777619u;
    return h % CONNECTION_ADDRESS_BUCKETS;
}

/* The place that points to the address's entry, or to NULL where it belongs. */
static struct address_count **find_address(struct connections *all, const struct in6_addr *a) {
    struct address_count **at = &all->addresses[bucket_of(a)];
    while (*at != NULL && memcmp(&(*at)->address, a, sizeof *a) != 0)
        at = &(*at)->next;
    return at;
}

static void count_address(struct connections *all, const struct in6_addr *a, int change) {
    struct address_count **at = find_address(all, a);
    if (*at == NULL) {
        *at = xcalloc(1, sizeof **at);
        (*at)->address = *a;
    }
    (*at)->n += change;
    if ((*at)->n > 0)
        return;
    struct address_count *gone = *at;
    *at = gone->next;
    free(gone);
}

int connection_count_of(struct connections *all, const struct in6_addr *a) {
    const struct address_count *found = *find_address(all, a);
    return found != NULL ? found->n : 0;
}

/* ---- life and deadlines --------------------------------------------------------------------- */

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
    count_address(all, &c->address, 1);
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
    count_address(all, &c->address, -1);
    free(c);
}

/* Bytes that have reached the client, as its kernel confirmed them. */
static uint64_t bytes_acked(const struct connection *c) {
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    if (c->fd < 0 || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    return info.tcpi_bytes_acked;
}

void connection_set_phase(struct connection *c, enum connection_phase phase) {
    c->phase = phase;
    c->since = clock_mono();
    c->body_bytes = 0;
    c->acked = phase == PHASE_FILE ? bytes_acked(c) : 0;
}

static bool transfer_is_late(const struct config_limits *limits, double bytes, double seconds) {
    double allowed =
        (double)limits->body_grace_seconds + bytes / (double)limits->body_bytes_per_second;
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
        return transfer_is_late(limits, (double)c->body_bytes, seconds);
    case PHASE_REPLY:
        return seconds > (double)limits->reply_seconds;
    case PHASE_FILE:
        return seconds > (double)limits->body_grace_seconds &&
               transfer_is_late(limits, (double)(bytes_acked(c) - c->acked), seconds);
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

/* What a slow client has not taken is dropped with its connection: the kernel would keep it for as
 * long as the client likes. */
void connection_drop(struct connection *c) {
    const struct linger drop = {.l_onoff = 1, .l_linger = 0};
    if (c->fd >= 0)
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &drop, sizeof drop);
    connection_cut(c);
}

int connection_sweep(struct connections *all, const struct config_limits *limits, double now,
                     int *gone) {
    int late = 0;
    *gone = 0;
    for (struct connection *c = all->first; c != NULL; c = c->next) {
        if (has_gone(c))
            (*gone)++;
        else if (is_late(c, limits, now))
            late++;
        else
            continue;
        connection_drop(c);
    }
    return late;
}
