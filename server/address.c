/* address: which addresses the server may call. */
#include "server/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* IANA's registries of special-purpose addresses (RFC 6890 and its successors): what is not
 * globally reachable, and multicast. */
static const char *const special_v4[] = {
    "0.0.0.0/8",      "10.0.0.0/8",     "100.64.0.0/10",   "127.0.0.0/8",     "169.254.0.0/16",
    "172.16.0.0/12",  "192.0.0.0/24",   "192.0.2.0/24",    "192.31.196.0/24", "192.52.193.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",   "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4",    "240.0.0.0/4",
};
/* Of 2000::/3, outside of which nothing is global. */
static const char *const special_v6[] = {"2001::/23", "2001:db8::/32", "2002::/16",
                                         "2620:4f:8000::/48", "3fff::/20"};

bool address_range_parse(const char *text, struct address_range *out) {
    char host[INET6_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    if (n >= sizeof host)
        return false;
    memcpy(host, text, n);
    host[n] = '\0';
    struct in_addr four;
    bool v4 = inet_pton(AF_INET, host, &four) == 1;
    memset(&out->base, 0, sizeof out->base);
    if (v4) {
        out->base.s6_addr[10] = out->base.s6_addr[11] = 0xff;
        memcpy(&out->base.s6_addr[12], &four, 4);
    } else if (inet_pton(AF_INET6, host, &out->base) != 1) {
        return false;
    }
    long most = v4 ? 32 : 128, bits = most;
    if (slash != NULL) {
        char *end = NULL;
        bits = strtol(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > most)
            return false;
    }
    out->bits = (unsigned)(bits + (v4 ? 96 : 0));
    return true;
}

bool address_in_range(const struct in6_addr *a, const struct address_range *range) {
    size_t whole = range->bits / 8;
    unsigned rest = range->bits % 8;
    if (memcmp(a, &range->base, whole) != 0)
        return false;
    return rest == 0 || (a->s6_addr[whole] ^ range->base.s6_addr[whole]) >> (8 - rest) == 0;
}

static bool in_any(const struct in6_addr *a, const char *const *ranges, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct address_range range;
        if (address_range_parse(ranges[i], &range) && address_in_range(a, &range))
            return true;
    }
    return false;
}

bool address_is_public(const struct in6_addr *a) {
    struct address_range global, nat64;
    struct in6_addr four = *a;
    (void)address_range_parse("2000::/3", &global);
    (void)address_range_parse("64:ff9b::/96", &nat64);
    if (address_in_range(a, &nat64)) { /* RFC 6052: the IPv4 address is in the last 32 bits */
        memset(four.s6_addr, 0, 10);
        four.s6_addr[10] = four.s6_addr[11] = 0xff;
    }
    if (IN6_IS_ADDR_V4MAPPED(&four))
        return !in_any(&four, special_v4, sizeof special_v4 / sizeof special_v4[0]);
    return address_in_range(a, &global) &&
           !in_any(a, special_v6, sizeof special_v6 / sizeof special_v6[0]);
}
