/* load: a bounded load of HTTP requests on loopback, and what each took.
 *
 * Keeps CONNECTIONS connections open, each with one request under way, for SECONDS or until LIMIT
 * requests are answered. One thread, epoll. Targets are taken in turn from a file, one path a line;
 * with a body, its text is sent by POST. Each "@" in a path or the body becomes the number of the
 * request.
 * Prints one JSON line; a status other than 200 counts as bad.
 * usage: load PORT CONNECTIONS SECONDS LIMIT TARGETS_FILE [HEADER_LINE [BODY]]
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_CONNECTIONS = 1024,
    MOST_SECONDS = 60,
    MOST_TARGETS = 100000,
    MOST_SAMPLES = 8 << 20,
    HEAD_ROOM = 1 << 16,
    REQUEST_ROOM = 8192
};
#define WARM_SECONDS 0.3 /* not counted */

struct connection {
    int fd;
    double sent;
    char head[HEAD_ROOM]; /* what came of the answer until its body began */
    size_t have;
    size_t body_left;
    bool in_body;
};

struct load {
    int port, epoll;
    double end, counted_from;
    size_t limit, begun, answered, bad, bytes;
    char **targets;
    size_t n_targets;
    const char *header, *body;
    float *samples; /* milliseconds */
    size_t n_samples;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void give_up(const char *what) {
    (void)fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    _Exit(1);
}

static size_t fill_in(const struct load *l, const char *text, char out[REQUEST_ROOM]) {
    size_t n = 0;
    for (const char *p = text; *p != '\0' && n < REQUEST_ROOM - 32; p++) {
        if (*p == '@')
            n += (size_t)snprintf(out + n, REQUEST_ROOM - n, "%zu", l->begun);
        else
            out[n++] = *p;
    }
    out[n] = '\0';
    return n;
}

/* false: the limit is reached. */
static bool send_next(struct load *l, struct connection *c) {
    char text[3 * REQUEST_ROOM], target[REQUEST_ROOM], body[REQUEST_ROOM] = "", length[96] = "";
    if (l->limit > 0 && l->begun == l->limit)
        return false;
    (void)fill_in(l, l->targets[l->begun % l->n_targets], target);
    l->begun++;
    if (l->body != NULL)
        (void)snprintf(length, sizeof length,
                       "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                       fill_in(l, l->body, body));
    int n = snprintf(text, sizeof text,
                     "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/json\r\n"
                     "User-Agent: load\r\n%s%s%s\r\n%s",
                     l->body != NULL ? "POST" : "GET", target, l->port, l->header,
                     l->header[0] != '\0' ? "\r\n" : "", length, body);
    if (n < 0 || (size_t)n >= sizeof text)
        give_up("a request is too long");
    c->sent = now();
    c->have = 0;
    c->in_body = false;
    if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
        give_up("send");
    return true;
}

static void connect_one(struct load *l, struct connection *c) {
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((unsigned short)l->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&at, sizeof at) != 0)
        give_up("connect");
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &want) != 0)
        give_up("epoll");
}

/* Reads the head once it is complete. */
static void read_head(struct load *l, struct connection *c) {
    c->head[c->have] = '\0';
    const char *end = strstr(c->head, "\r\n\r\n");
    const char *length = strcasestr(c->head, "\r\nContent-Length: ");
    if (end == NULL && c->have == HEAD_ROOM - 1)
        give_up("the head of an answer is too long");
    if (end == NULL)
        return;
    if (length == NULL || length > end)
        give_up("an answer without Content-Length");
    size_t rest = c->have - (size_t)(end + 4 - c->head);
    size_t body = strtoul(length + 18, NULL, 10);
    l->bad += strncmp(c->head, "HTTP/1.1 200 ", 13) != 0;
    l->bytes += body;
    c->in_body = true;
    c->body_left = rest < body ? body - rest : 0;
}

/* true: the answer is complete. */
static bool receive(struct load *l, struct connection *c) {
    char sink[1 << 16];
    char *to = c->in_body ? sink : c->head + c->have;
    size_t room = c->in_body ? sizeof sink : HEAD_ROOM - 1 - c->have;
    ssize_t n = recv(c->fd, to, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0)
        give_up("the server closed a connection");
    if (c->in_body) {
        c->body_left -= (size_t)n < c->body_left ? (size_t)n : c->body_left;
    } else {
        c->have += (size_t)n;
        read_head(l, c);
    }
    return c->in_body && c->body_left == 0;
}

static void record(struct load *l, const struct connection *c) {
    double at = now();
    l->answered++;
    if (c->sent >= l->counted_from && l->n_samples < MOST_SAMPLES)
        l->samples[l->n_samples++] = (float)((at - c->sent) * 1000);
}

static void work(struct load *l, struct connection *all, size_t n) {
    struct epoll_event ready[256];
    size_t under_way = 0;
    for (size_t i = 0; i < n; i++)
        under_way += send_next(l, &all[i]);
    while (under_way > 0) {
        int k = epoll_wait(l->epoll, ready, 256, 1000);
        double at = now();
        if (at > l->end + MOST_SECONDS)
            give_up("the server does not answer");
        for (int i = 0; i < k; i++) {
            struct connection *c = ready[i].data.ptr;
            if (!receive(l, c))
                continue;
            record(l, c);
            if (at >= l->end || !send_next(l, c))
                under_way--;
        }
    }
}

static void read_targets(struct load *l, const char *path) {
    char line[4096];
    FILE *f = fopen(path, "r");
    if (f == NULL)
        give_up(path);
    l->targets = calloc(MOST_TARGETS, sizeof *l->targets);
    while (l->n_targets < MOST_TARGETS && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0')
            l->targets[l->n_targets++] = strdup(line);
    }
    (void)fclose(f);
    if (l->n_targets == 0)
        give_up("no targets");
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(const struct load *l, double q) {
    if (l->n_samples == 0)
        return 0;
    return (double)l->samples[(size_t)(q * (double)(l->n_samples - 1))];
}

int main(int argc, char **argv) {
    struct load l = {.header = argc > 6 ? argv[6] : "", .body = argc > 7 ? argv[7] : NULL};
    if (argc < 6) {
        (void)fprintf(stderr,
                      "usage: load PORT CONNECTIONS SECONDS LIMIT TARGETS [HEADER [BODY]]\n");
        return 2;
    }
    size_t n = strtoul(argv[2], NULL, 10);
    double seconds = strtod(argv[3], NULL);
    l.port = (int)strtol(argv[1], NULL, 10);
    l.limit = strtoul(argv[4], NULL, 10);
    n = n < 1 ? 1 : n > MOST_CONNECTIONS ? MOST_CONNECTIONS : n;
    seconds = seconds > MOST_SECONDS ? MOST_SECONDS : seconds;
    read_targets(&l, argv[5]);
    l.samples = malloc(MOST_SAMPLES * sizeof *l.samples);
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc(n, sizeof *all);
    for (size_t i = 0; i < n; i++)
        connect_one(&l, &all[i]);
    double start = now();
    l.counted_from = l.limit > 0 ? start : start + WARM_SECONDS;
    l.end = start + seconds + (l.counted_from - start);
    work(&l, all, n);
    double took = now() - l.counted_from;
    qsort(l.samples, l.n_samples, sizeof *l.samples, ascending);
    (void)printf(
        "{\"requests\":%zu,\"answered\":%zu,\"bad\":%zu,\"per_second\":%.1f,\"p50_ms\":%.3f,"
        "\"p99_ms\":%.3f,\"max_ms\":%.3f,\"bytes\":%zu}\n",
        l.n_samples, l.answered, l.bad, (double)l.n_samples / took, quantile(&l, 0.5),
        quantile(&l, 0.99), quantile(&l, 1), l.bytes);
    return l.bad > 0;
}
