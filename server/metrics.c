/* metrics: what the server counts, as Prometheus text. */
#include "server/metrics.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "server/http.h"
#include "server/metrics_internal.h"
#include "server/scheduler.h"
#include "server/server.h"
#include "server/streams.h"

#define CLASSES 6 /* index 1: 1xx … 5: 5xx; 0: ended without an answer */

/* Upper bounds in seconds, as Prometheus' client libraries have them, and finer at the start. */
static const double bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                0.25,  0.5,    1,     2.5,  5,     10,   60};
enum { BOUNDS = sizeof bounds / sizeof bounds[0] };

struct series {
    uint64_t buckets[BOUNDS]; /* not yet summed up */
    uint64_t count;
    double seconds;
};

struct metrics {
    int routes;
    struct series (*requests)[CLASSES]; /* by route; the last is for none */
    uint64_t bytes_in, bytes_out, connections, refused, slow, limited;
    uint64_t uploads, upload_bytes, trained_tokens;
};

struct metrics *metrics_new(void) {
    struct metrics *m = xcalloc(1, sizeof *m);
    (void)api_routes(&m->routes);
    m->requests = xcalloc((size_t)m->routes + 1, sizeof *m->requests);
    return m;
}

void metrics_free(struct metrics *m) {
    if (m == NULL)
        return;
    free(m->requests);
    free(m);
}

void metrics_request(struct metrics *m, const struct api_route *route, int status, double seconds,
                     int64_t bytes_in, int64_t bytes_out) {
    int n = 0;
    const struct api_route *first = api_routes(&n);
    int at = route != NULL ? (int)(route - first) : m->routes;
    struct series *s = &m->requests[at][status >= 100 && status < 600 ? status / 100 : 0];
    s->count++;
    s->seconds += seconds;
    for (int i = 0; i < BOUNDS; i++) {
        if (seconds > bounds[i])
            continue;
        s->buckets[i]++;
        break;
    }
    m->bytes_in += (uint64_t)bytes_in;
    m->bytes_out += (uint64_t)bytes_out;
    if (route != NULL && route->accepts == API_ACCEPTS_FORM && status == 200) {
        m->uploads++;
        m->upload_bytes += (uint64_t)bytes_in;
    }
}

void metrics_connection(struct metrics *m) {
    m->connections++;
}

void metrics_refused(struct metrics *m) {
    m->refused++;
}

void metrics_slow_clients(struct metrics *m, int n) {
    m->slow += (uint64_t)n;
}

void metrics_rate_limited(struct metrics *m) {
    m->limited++;
}

void metrics_trained(struct metrics *m, int64_t tokens) {
    if (tokens > 0)
        m->trained_tokens += (uint64_t)tokens;
}

/* ---- requests ------------------------------------------------------------------------------- */

static void write_labels(char out[512], const struct metrics *m, int route, int class) {
    static const char *const classes[CLASSES] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};
    int n = 0;
    const struct api_route *routes = api_routes(&n);
    bool known = route < m->routes;
    (void)snprintf(out, 512, "method=\"%s\",route=\"%s\",status=\"%s\"",
                   known ? api_method_name(routes[route].method) : "other",
                   known ? routes[route].pattern : "other", classes[class]);
}

static void write_histogram(struct page_text *p, const struct series *s, const char *labels) {
    uint64_t sum = 0;
    for (int i = 0; i < BOUNDS; i++) {
        sum += s->buckets[i];
        metrics__line(p, "ffwd_http_request_duration_seconds_bucket{%s,le=\"%g\"} %llu", labels,
                      bounds[i], (unsigned long long)sum);
    }
    metrics__line(p, "ffwd_http_request_duration_seconds_bucket{%s,le=\"+Inf\"} %llu", labels,
                  (unsigned long long)s->count);
    metrics__line(p, "ffwd_http_request_duration_seconds_sum{%s} %.9g", labels, s->seconds);
    metrics__line(p, "ffwd_http_request_duration_seconds_count{%s} %llu", labels,
                  (unsigned long long)s->count);
}

static void write_requests(struct page_text *p, const struct metrics *m) {
    char labels[512];
    metrics__head(p, "ffwd_http_requests_total", "counter",
                  "Requests that have ended, by route and class of status.");
    for (int r = 0; r <= m->routes; r++)
        for (int c = 0; c < CLASSES; c++) {
            if (m->requests[r][c].count == 0)
                continue;
            write_labels(labels, m, r, c);
            metrics__line(p, "ffwd_http_requests_total{%s} %llu", labels,
                          (unsigned long long)m->requests[r][c].count);
        }
    metrics__head(p, "ffwd_http_request_duration_seconds", "histogram",
                  "From the request's first line to the start of its answer.");
    for (int r = 0; r <= m->routes; r++)
        for (int c = 0; c < CLASSES; c++) {
            if (m->requests[r][c].count == 0)
                continue;
            write_labels(labels, m, r, c);
            write_histogram(p, &m->requests[r][c], labels);
        }
}

static void write_http(struct page_text *p, const struct server *s) {
    const struct metrics *m = s->metrics;
    metrics__counter(p, "ffwd_http_request_bytes_total", "Bytes of request bodies.", m->bytes_in);
    metrics__counter(p, "ffwd_http_response_bytes_total", "Bytes of answers' bodies.",
                     m->bytes_out);
    metrics__gauge(p, "ffwd_http_connections", "Open connections.", http_connections(s->http));
    metrics__counter(p, "ffwd_http_connections_accepted_total", "Connections accepted.",
                     m->connections);
    metrics__counter(p, "ffwd_http_connections_refused_total",
                     "Connections refused because their address had too many.", m->refused);
    metrics__counter(p, "ffwd_http_slow_clients_total", "Connections cut at a deadline.", m->slow);
    metrics__counter(p, "ffwd_http_rate_limited_total", "Requests refused by a rate limit.",
                     m->limited);
    metrics__gauge(p, "ffwd_event_streams", "Open event streams.", streams_count(s->streams));
    metrics__counter(p, "ffwd_uploads_total", "Files and parts of uploads taken in.", m->uploads);
    metrics__counter(p, "ffwd_upload_bytes_total", "Bytes of the requests of these.",
                     m->upload_bytes);
}

/* ---- jobs ----------------------------------------------------------------------------------- */

static void write_jobs(struct page_text *p, struct server *s) {
    int64_t counts[JOB_CANCELLED + 1] = {0};
    struct err_msg em = ERR_MSG_INIT;
    if (store_job_counts(s->store, counts, &em) != ERR_OK)
        return;
    metrics__head(p, "ffwd_jobs", "gauge", "Jobs in the database, by status.");
    for (int i = 0; i <= JOB_CANCELLED; i++)
        metrics__line(p, "ffwd_jobs{status=\"%s\"} %lld", job_status_name((enum job_status)i),
                      (long long)counts[i]);
    metrics__gauge(p, "ffwd_queue_depth", "Jobs that wait: being validated, or queued.",
                   (double)(counts[JOB_VALIDATING] + counts[JOB_QUEUED]));
}

static void write_training(struct page_text *p, const struct server *s) {
    struct scheduler_stats stats;
    scheduler_stats(s->scheduler, &stats);
    metrics__gauge(p, "ffwd_worker_up", "1 while a training process is ready.", stats.worker_up);
    metrics__gauge(p, "ffwd_queue_held",
                   "1 while jobs wait for what is no job's fault: /readyz says for what.",
                   stats.held);
    metrics__counter(p, "ffwd_worker_restarts_total",
                     "Training processes that ended without being asked to.",
                     (uint64_t)stats.worker_restarts);
    metrics__counter(p, "ffwd_trained_tokens_total",
                     "Tokens of optimizer steps since the server started.",
                     s->metrics->trained_tokens);
    if (!stats.has_job)
        return;
    metrics__gauge(p, "ffwd_training_tokens_per_second", "Of the running job, since its start.",
                   stats.tokens_per_second);
    metrics__gauge(p, "ffwd_training_loss", "Loss of the running job's last step.", stats.loss);
    metrics__gauge(p, "ffwd_training_step", "Last optimizer step of the running job.", stats.step);
    metrics__gauge(p, "ffwd_training_steps", "Optimizer steps of the running job in all.",
                   stats.total_steps);
}

char *metrics_text(struct server *s) {
    struct page_text p;
    metrics__begin(&p);
    metrics__head(&p, "ffwd_build_info", "gauge", "1, with the version of the server.");
    metrics__line(&p, "ffwd_build_info{version=\"%s\"} 1", s->api_config.version);
    write_requests(&p, s->metrics);
    write_http(&p, s);
    write_jobs(&p, s);
    write_training(&p, s);
    metrics__process(&p, s->config->data_dir);
    return metrics__end(&p);
}
