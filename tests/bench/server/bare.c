/* bare: what libmicrohttpd on a libuv loop can do at best, as the measure of ffwd-server.
 *
 * Answers every request with the same bytes from memory: the head and body that ffwd-server gave
 * for the same address. No routes, no keys, no database, no log.
 * usage: bare BODY_FILE    (prints the port it listens on)
 */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define MOST_BYTES (16 << 20)
#define LONGEST_PAUSE_MS 1000

struct bare {
    struct MHD_Daemon *daemon;
    uv_timer_t timer;
    char *body;
    size_t len;
};

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n, void **seen) {
    static const char *const headers[][2] = {{"Content-Type", "application/json"},
                                             {"x-request-id", "req_0123456789abcdefghijklmn"},
                                             {"openai-version", "2020-10-01"},
                                             {"openai-processing-ms", "0"},
                                             {"X-Content-Type-Options", "nosniff"}};
    struct bare *b = cls;
    (void)url, (void)method, (void)version, (void)bytes;
    if (*seen == NULL) {
        *seen = b;
        return MHD_YES;
    }
    *n = 0;
    struct MHD_Response *m =
        MHD_create_response_from_buffer(b->len, b->body, MHD_RESPMEM_PERSISTENT);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        (void)MHD_add_response_header(m, headers[i][0], headers[i][1]);
    enum MHD_Result result = MHD_queue_response(mhd, 200, m);
    MHD_destroy_response(m);
    return result;
}

static void run(struct bare *b);

static void on_timer(uv_timer_t *timer) {
    run(timer->data);
}

static void run(struct bare *b) {
    MHD_UNSIGNED_LONG_LONG ms = LONGEST_PAUSE_MS;
    (void)MHD_run(b->daemon);
    if (MHD_get_timeout(b->daemon, &ms) != MHD_YES || ms > LONGEST_PAUSE_MS)
        ms = LONGEST_PAUSE_MS;
    (void)uv_timer_start(&b->timer, on_timer, ms, 0);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status, (void)events;
    run(poll->data);
}

static bool read_body(const char *path, struct bare *b) {
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return false;
    b->body = malloc(MOST_BYTES);
    b->len = b->body != NULL ? fread(b->body, 1, MOST_BYTES, f) : 0;
    (void)fclose(f);
    return b->len > 0;
}

int main(int argc, char **argv) {
    struct bare b = {0};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uv_loop_t *loop = uv_default_loop();
    uv_poll_t poll;
    if (argc != 2 || !read_body(argv[1], &b)) {
        (void)fprintf(stderr, "usage: bare BODY_FILE\n");
        return 2;
    }
    b.daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request,
                                &b, MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_CONNECTION_LIMIT, 2048u,
                                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)32768, MHD_OPTION_END);
    if (b.daemon == NULL)
        return 1;
    const union MHD_DaemonInfo *port = MHD_get_daemon_info(b.daemon, MHD_DAEMON_INFO_BIND_PORT);
    (void)printf("%u\n", port->port);
    (void)fflush(stdout);
    const union MHD_DaemonInfo *epoll = MHD_get_daemon_info(b.daemon, MHD_DAEMON_INFO_EPOLL_FD);
    (void)uv_timer_init(loop, &b.timer);
    (void)uv_poll_init(loop, &poll, epoll->epoll_fd);
    b.timer.data = &b;
    poll.data = &b;
    (void)uv_poll_start(&poll, UV_READABLE, on_poll);
    run(&b);
    return uv_run(loop, UV_RUN_DEFAULT);
}
