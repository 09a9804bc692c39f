/* auth: who may ask. */
#include "server/auth.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "server/http.h"
#include "server/respond.h"
#include "server/server.h"

static const char *key_of(const struct request *r) {
    const char *value = request_header(r, "authorization");
    if (value == NULL)
        return request_header(r, "api-key");
    if (strncasecmp(value, "bearer ", 7) != 0)
        return NULL;
    value += 7;
    return value + strspn(value, " ");
}

static bool refuse(struct request *r, int status, const char *code, const char *text) {
    r->failed = true;
    api_error(&r->failure, status, code, NULL, "%s", text);
    return false;
}

static bool ends_in(const char *name, const char *end) {
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcasecmp(name + n - k, end) == 0;
}

/* Whoever owns a name can point it at this machine, and a browser then takes what answers there for
 * his page's own server (DNS rebinding). Addresses, names without a dot and localhost's are
 * nobody's. */
static bool may_be_foreign(const struct request *r, const char *host) {
    char name[256], origin[sizeof name + sizeof "https://"];
    struct in_addr address;
    size_t n = strcspn(host, ":");
    if (host[0] == '[')
        return false;
    if (n >= sizeof name)
        return true;
    (void)snprintf(name, sizeof name, "%.*s", (int)n, host);
    if (strchr(name, '.') == NULL || inet_pton(AF_INET, name, &address) == 1 ||
        ends_in(name, ".localhost"))
        return false;
    (void)snprintf(origin, sizeof origin, "http://%s", host);
    if (respond_origin_allowed(r, origin))
        return false;
    (void)snprintf(origin, sizeof origin, "https://%s", host);
    return !respond_origin_allowed(r, origin);
}

static bool check_host(struct request *r) {
    const char *host = request_header(r, "host");
    if (host == NULL || !may_be_foreign(r, host))
        return true;
    return refuse(r, 403, "host_not_allowed",
                  "Without API keys the Host of a request must be an address, localhost or a name "
                  "without a dot; make a key, or add http:// and this host to cors_origins in the "
                  "server's configuration.");
}

/* Without keys a page on any web site could make a browser on this machine send requests here. */
static bool check_origin(struct request *r) {
    const char *origin = request_header(r, "origin");
    const char *host = request_header(r, "host");
    if (origin == NULL || r->method == HTTP_GET || respond_origin_allowed(r, origin))
        return true;
    const char *authority = strstr(origin, "://");
    if (authority != NULL && host != NULL && strcasecmp(authority + 3, host) == 0)
        return true;
    return refuse(r, 403, "origin_not_allowed",
                  "Web pages of this origin may not change anything here; add it to cors_origins "
                  "in the server's configuration.");
}

bool auth_check(struct request *r) {
    struct server *s = http_server(r->http);
    struct err_msg em = ERR_MSG_INIT;
    if (!s->keys_exist)
        return check_host(r) && check_origin(r);
    const char *key = key_of(r);
    if (key == NULL || *key == '\0')
        return refuse(r, 401, "invalid_api_key",
                      "No API key was given. Send it as Authorization: Bearer KEY.");
    struct key_row row;
    enum err e = store_key_check(s->store, key, &row, &em);
    if (e == ERR_OK) {
        free(r->project);
        r->project = xstrdup(row.project);
        memcpy(r->key_id, row.id, sizeof r->key_id);
        key_row_clear(&row);
        return true;
    }
    if (e == ERR_NOT_FOUND)
        return refuse(r, 401, "invalid_api_key", "The API key is not valid.");
    r->failed = true;
    api_error_from(&r->failure, &em);
    return false;
}
