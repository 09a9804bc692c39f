/* sse_readers: many readers of one event stream, on one thread with epoll.
 *
 * usage: sse_readers PORT PATH READERS
 * Opens READERS connections to 127.0.0.1:PORT, reads PATH on each until `data: [DONE]`, and checks
 * that the numbers at the ends of the event ids (8 base-36 digits) go 1, 2, 3, … without gap or
 * repeat. Prints {"open":N,…} when all have their heads, and at the end what was seen. The latency
 * of an event is the time since the nanoseconds (CLOCK_MONOTONIC) in its "sent" field, of events
 * that came after all readers were open.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINE 4096
#define AT_ONCE 256 /* connections being opened */
#define DIGITS 8

enum part { HEAD, SIZE, DATA, DATA_END };

struct reader {
    int fd;
    enum part part;
    size_t left; /* of the chunk */
    size_t len;  /* of line */
    long events;
    bool open, done;
    char line[LINE];
};

static struct reader *readers;
static long n_readers, n_started, n_open, n_done, wrong, cut, beats;
static double *latencies;
static size_t n_latencies, room;
static int poller;
static bool all_open;
static char *request;
static uint16_t port;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    _exit(1);
}

static void add_latency(double ms) {
    if (n_latencies == room) {
        room = room == 0 ? 65536 : 2 * room;
        latencies = realloc(latencies, room * sizeof *latencies);
        if (latencies == NULL)
            fail("memory");
    }
    latencies[n_latencies++] = ms;
}

static long number_of(const char *id) {
    size_t n = strlen(id);
    return n > DIGITS ? strtol(id + n - DIGITS, NULL, 36) : 0;
}

static void finish(struct reader *r) {
    r->done = true;
    n_done++;
    close(r->fd);
}

static void on_line(struct reader *r) {
    if (strncmp(r->line, "id: ", 4) == 0) {
        r->events++;
        if (number_of(r->line + 4) != r->events)
            wrong++;
    } else if (strcmp(r->line, "data: [DONE]") == 0) {
        finish(r);
    } else if (strncmp(r->line, "data: ", 6) == 0) {
        const char *sent = strstr(r->line, "\"sent\":");
        if (sent != NULL && all_open)
            add_latency((double)(now_ns() - strtoll(sent + 7, NULL, 10)) / 1e6);
    } else if (r->line[0] == ':') {
        beats++;
    }
}

static void on_head_line(struct reader *r) {
    if (r->len > 0)
        return;
    r->open = true;
    r->part = SIZE;
    n_open++;
}

/* One byte of the answer: head, then chunks of lines. */
static void on_byte(struct reader *r, char c) {
    if (r->part == DATA_END) {
        if (c == '\n')
            r->part = SIZE;
        return;
    }
    if (c == '\n') {
        r->line[r->len] = '\0';
        if (r->part == HEAD) {
            on_head_line(r);
            r->len = 0;
        } else if (r->part == SIZE) {
            r->left = strtoul(r->line, NULL, 16);
            r->part = DATA;
            r->len = 0;
            return;
        } else {
            on_line(r);
            r->len = 0;
        }
    } else if (c != '\r' && r->len + 1 < LINE) {
        r->line[r->len++] = c;
    }
    if (r->part == DATA && --r->left == 0)
        r->part = DATA_END;
}

static void start(struct reader *r) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = r};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (r->fd < 0)
        fail("socket");
    if (connect(r->fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        fail("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, r->fd, &e) != 0)
        fail("epoll");
    n_started++;
}

static void on_ready(struct reader *r, uint32_t events) {
    static char bytes[65536];
    if (!r->open && r->part == HEAD && (events & EPOLLOUT) && r->len == 0 &&
        send(r->fd, request, strlen(request), MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        fail("send");
    for (ssize_t n; !r->done && (n = recv(r->fd, bytes, sizeof bytes, 0)) != -1;) {
        if (n == 0) {
            cut++;
            finish(r);
            return;
        }
        for (ssize_t i = 0; i < n && !r->done; i++)
            on_byte(r, bytes[i]);
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double at(double q) {
    return n_latencies == 0 ? -1 : latencies[(size_t)(q * (double)(n_latencies - 1))];
}

static void report(void) {
    long least = n_readers > 0 ? readers[0].events : 0, most = 0;
    for (long i = 0; i < n_readers; i++) {
        least = readers[i].events < least ? readers[i].events : least;
        most = readers[i].events > most ? readers[i].events : most;
    }
    qsort(latencies, n_latencies, sizeof *latencies, by_size);
    printf("{\"readers\":%ld,\"events_least\":%ld,\"events_most\":%ld,\"wrong\":%ld,\"cut\":%ld,"
           "\"heartbeats\":%ld,\"deliveries_timed\":%zu,\"latency_ms\":{\"p50\":%.1f,\"p99\":%.1f,"
           "\"max\":%.1f}}\n",
           n_readers, least, most, wrong, cut, beats, n_latencies, at(0.5), at(0.99), at(1));
}

int main(int argc, char **argv) {
    struct rlimit files;
    if (argc != 4) {
        fprintf(stderr, "usage: sse_readers PORT PATH READERS\n");
        return 2;
    }
    port = (uint16_t)strtol(argv[1], NULL, 10);
    n_readers = strtol(argv[3], NULL, 10);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    readers = calloc((size_t)n_readers, sizeof *readers);
    poller = epoll_create1(0);
    if (asprintf(&request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", argv[2]) < 0 || readers == NULL ||
        poller < 0)
        fail("start");
    while (n_done < n_readers) {
        struct epoll_event events[512];
        while (n_started < n_readers && n_started - n_open < AT_ONCE)
            start(&readers[n_started]);
        int n = epoll_wait(poller, events, 512, 1000);
        for (int i = 0; i < n; i++)
            on_ready(events[i].data.ptr, events[i].events);
        if (!all_open && n_open == n_readers) {
            all_open = true;
            printf("{\"open\":%ld}\n", n_open);
            fflush(stdout);
        }
    }
    report();
    return wrong > 0 || cut > 0;
}
