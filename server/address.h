/* address: which addresses the server may call.
 *
 * What:    telling the internet's addresses from private, loopback, link-local, shared, reserved
 *          ones, also where an IPv6 address only wraps an IPv4 one; ranges like 10.0.0.0/8.
 * Owns:    nothing.
 * Threads: pure functions.
 * Errors:  false for what is not a range.
 */
#ifndef FFWD_SERVER_ADDRESS_H
#define FFWD_SERVER_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct address_range {
    struct in6_addr base; /* IPv4 mapped */
    unsigned bits;        /* of the 128 */
};

/* "ADDRESS" or "ADDRESS/BITS". */
bool address_range_parse(const char *text, struct address_range *out);
bool address_in_range(const struct in6_addr *a, const struct address_range *range);
/* An address of the internet, that anybody can reach. IPv4 mapped. */
bool address_is_public(const struct in6_addr *a);

#endif
