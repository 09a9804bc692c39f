/* connection: the clients' TCP connections, with deadlines of our own.
 *
 * What:    libmicrohttpd's timeout is idle time; a client that sends or reads a byte a second would
 *          stay for ever. Each connection has a phase and a deadline; a regular sweep cuts the
 *          late.
 * Owns:    the list of open connections.
 * Threads: the loop thread only.
 * Errors:  none: a late connection is shut down, which libmicrohttpd sees as its end.
 */
#ifndef FFWD_SERVER_CONNECTION_H
#define FFWD_SERVER_CONNECTION_H

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/config.h"
#include "server/http.h"

#define CONNECTION_ADDRESS_BUCKETS 1024

struct connection {
    struct connection *prev, *next;
    int fd;
    struct in6_addr address; /* IPv4 mapped */
    bool loopback;
    bool used; /* had a complete request */
    enum connection_phase phase;
    double since; /* of the phase */
    int64_t body_bytes;
    uint64_t acked; /* bytes the client had confirmed when the phase began */
};

struct connections {
    struct connection *first;
    int count;
    struct address_count *addresses[CONNECTION_ADDRESS_BUCKETS]; /* by hash */
};

struct in6_addr connection_address(const struct sockaddr *from);
bool connection_is_loopback(const struct in6_addr *a);
/* Connections from this address. */
int connection_count_of(struct connections *all, const struct in6_addr *a);
struct connection *connection_add(struct connections *all, struct MHD_Connection *mhd);
void connection_remove(struct connections *all, struct connection *c);
void connection_set_phase(struct connection *c, enum connection_phase phase);
/* Cuts every connection that is past its deadline, and returns how many, and those whose client has
 * gone (*gone). */
int connection_sweep(struct connections *all, const struct config_limits *limits, double now,
                     int *gone);
/* Ends the connection after what is on its way … */
void connection_cut(struct connection *c);
/* … or at once. */
void connection_drop(struct connection *c);

#endif
