/* main of `ffwd-server`. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "server/pump.h"

static enum MHD_Result answer(void *cls, struct MHD_Connection *c, const char *url,
                              const char *method, const char *version, const char *data, size_t *n,
                              void **state) {
    (void)cls, (void)method, (void)version, (void)data;
    if (*state == NULL) {
        *state = c;
        return MHD_YES;
    }
    if (*n > 0) {
        *n = 0;
        return MHD_YES;
    }
    bool healthy = strcmp(url, "/healthz") == 0;
    const char *text = healthy ? "{\"status\":\"ok\"}" : "{}";
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text,
                                                             MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(c, healthy ? 200 : 404, r);
    MHD_destroy_response(r);
    return result;
}

int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(8080)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct pump pump;
    struct err_msg em = ERR_MSG_INIT;
    (void)signal(SIGPIPE, SIG_IGN);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 8080, NULL, NULL, answer,
        NULL, MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (daemon == NULL)
        return 1;
    if (pump_open(&pump, uv_default_loop(), daemon, &em) != ERR_OK) {
        log_error("server.start", "%s", em.text);
        return 1;
    }
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
