/* listen: the address of `--listen` and its socket. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/connection.h"
#include "server/http.h"

#define BACKLOG 4096 /* the kernel lowers it to net.core.somaxconn */

/* "[::1]:8080" or "127.0.0.1:8080" → host and port. */
static enum err split(const char *text, char host[64], char port[8], struct err_msg *em) {
    const char *colon = strrchr(text, ':');
    const char *start = text;
    const char *end = colon;
    if (colon == NULL)
        return err_set_param(em, ERR_USAGE, "listen", "--listen must be ADDR:PORT, not %s", text);
    if (text[0] == '[' && colon > text && colon[-1] == ']') {
        start++;
        end--;
    }
    size_t n = (size_t)(end - start);
    size_t digits = strlen(colon + 1);
    if (n >= 64 || digits == 0 || digits > 5 || strspn(colon + 1, "0123456789") != digits ||
        strtol(colon + 1, NULL, 10) > 65535)
        return err_set_param(em, ERR_USAGE, "listen", "--listen must be ADDR:PORT, not %s", text);
    (void)snprintf(host, 64, "%.*s", (int)n, start);
    (void)snprintf(port, 8, "%s", colon + 1);
    if (strcmp(host, "localhost") == 0)
        (void)snprintf(host, 64, "127.0.0.1");
    return ERR_OK;
}

static void describe(struct http_address *out) {
    struct sockaddr_storage at = {0};
    socklen_t len = sizeof at;
    char host[64] = "", port[8] = "";
    (void)getsockname(out->fd, (struct sockaddr *)&at, &len);
    (void)getnameinfo((struct sockaddr *)&at, len, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(out->text, sizeof out->text, at.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
                   host, port);
    struct in6_addr a = connection_address((struct sockaddr *)&at);
    out->loopback = connection_is_loopback(&a);
}

enum err http_bind(const char *listen_text, struct http_address *out, struct err_msg *em) {
    char host[64], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found = NULL;
    *out = (struct http_address){.fd = -1};
    enum err e = split(listen_text, host, port, em);
    if (e != ERR_OK)
        return e;
    if (getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found) != 0)
        return err_set_param(em, ERR_USAGE, "listen",
                             "--listen %s: not an IP address (127.0.0.1:8080, [::1]:8080, "
                             "0.0.0.0:8080)",
                             listen_text);
    const int on = 1;
    out->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (out->fd < 0 || setsockopt(out->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(out->fd, found->ai_addr, found->ai_addrlen) != 0 || listen(out->fd, BACKLOG) != 0) {
        e = err_set_errno(em, errno, "cannot listen on %s", listen_text);
        if (out->fd >= 0)
            close(out->fd);
        out->fd = -1;
    } else {
        describe(out);
    }
    freeaddrinfo(found);
    return e;
}
