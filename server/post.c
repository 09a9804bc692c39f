/* post: HTTP POST requests to others, by libcurl on the loop. */
#include "server/post.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "server/connection.h"

#define CONNECT_SECONDS 5
#define ANSWER_BYTES 65536 /* of an answer's body, which nobody reads */

struct post {
    uv_loop_t *loop;
    struct post_rules rules;
    CURLM *multi;
    uv_timer_t timer;
    struct transfer *transfers;
    int handles; /* not closed yet: the timer and a poll for each socket */
    bool closing;
};

struct transfer {
    struct transfer *prev, *next;
    struct post *post;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    size_t received;
    bool refused; /* an address was not allowed */
    char error[CURL_ERROR_SIZE];
    void (*done)(void *arg, const struct post_result *result);
    void *arg;
};

/* A socket of libcurl's that the loop watches. */
struct watch {
    uv_poll_t poll;
    struct post *post;
    curl_socket_t fd;
};

/* ---- transfers ------------------------------------------------------------------------------ */

static void transfer_free(struct transfer *t) {
    if (t->prev != NULL)
        t->prev->next = t->next;
    else if (t->post->transfers == t)
        t->post->transfers = t->next;
    if (t->next != NULL)
        t->next->prev = t->prev;
    if (t->easy != NULL) {
        (void)curl_multi_remove_handle(t->post->multi, t->easy);
        curl_easy_cleanup(t->easy);
    }
    curl_slist_free_all(t->headers);
    free(t->body);
    free(t);
}

static void finish(struct transfer *t, CURLcode code) {
    struct post_result result = {.status = 0};
    long status = 0;
    curl_off_t wait = 0;
    (void)curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    (void)curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &wait);
    /* An answer whose head came is an answer, even if its body was cut. */
    result.status = code == CURLE_OK || code == CURLE_WRITE_ERROR ? status : 0;
    result.retry_after = (int64_t)wait;
    if (t->refused)
        (void)snprintf(result.error, sizeof result.error,
                       "the host's address is not one of the internet, and webhook_allow does not "
                       "name it");
    else if (result.status == 0)
        (void)snprintf(result.error, sizeof result.error, "%.150s",
                       t->error[0] != '\0' ? t->error : curl_easy_strerror(code));
    void (*done)(void *, const struct post_result *) = t->done;
    void *arg = t->arg;
    transfer_free(t);
    done(arg, &result);
}

static void collect(struct post *p) {
    int left = 0;
    for (CURLMsg *m; (m = curl_multi_info_read(p->multi, &left)) != NULL;) {
        struct transfer *t = NULL;
        CURLcode code = m->data.result;
        if (m->msg == CURLMSG_DONE &&
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t) == CURLE_OK)
            finish(t, code);
    }
}

static void act(struct post *p, curl_socket_t fd, int events) {
    int running = 0;
    (void)curl_multi_socket_action(p->multi, fd, events, &running);
    collect(p);
}

/* ---- libcurl's callbacks -------------------------------------------------------------------- */

static void on_closed(uv_handle_t *handle) {
    struct post *p = handle->data;
    if (--p->handles == 0 && p->closing)
        free(p);
}

static void on_watch_closed(uv_handle_t *handle) {
    struct watch *w = (struct watch *)handle;
    handle->data = w->post;
    on_closed(handle);
    free(w);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    struct watch *w = (struct watch *)poll;
    int flags = status < 0 ? CURL_CSELECT_ERR : 0;
    if ((events & UV_READABLE) != 0)
        flags |= CURL_CSELECT_IN;
    if ((events & UV_WRITABLE) != 0)
        flags |= CURL_CSELECT_OUT;
    act(w->post, w->fd, flags);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg) {
    struct post *p = arg;
    struct watch *w = socket_arg;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL) {
            (void)uv_poll_stop(&w->poll);
            uv_close((uv_handle_t *)&w->poll, on_watch_closed);
            (void)curl_multi_assign(p->multi, fd, NULL);
        }
        return 0;
    }
    if (w == NULL) {
        w = xcalloc(1, sizeof *w);
        w->post = p;
        w->fd = fd;
        if (uv_poll_init_socket(p->loop, &w->poll, fd) != 0) {
            free(w);
            return -1;
        }
        p->handles++;
        (void)curl_multi_assign(p->multi, fd, w);
    }
    int events =
        (what != CURL_POLL_OUT ? UV_READABLE : 0) | (what != CURL_POLL_IN ? UV_WRITABLE : 0);
    return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

static void on_time(uv_timer_t *timer) {
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int on_timer(CURLM *multi, long ms, void *arg) {
    struct post *p = arg;
    (void)multi;
    if (ms < 0)
        (void)uv_timer_stop(&p->timer);
    else
        (void)uv_timer_start(&p->timer, on_time, (uint64_t)ms, 0);
    return 0;
}

static bool may_connect(const struct post *p, const struct sockaddr *to) {
    if (to->sa_family != AF_INET && to->sa_family != AF_INET6)
        return false;
    struct in6_addr a = connection_address(to);
    for (size_t i = 0; i < p->rules.n_allowed; i++)
        if (address_in_range(&a, &p->rules.allowed[i]))
            return true;
    return address_is_public(&a);
}

/* The only place where a connection begins. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to) {
    struct transfer *t = arg;
    if (purpose != CURLSOCKTYPE_IPCXN || !may_connect(t->post, &to->addr)) {
        t->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg) {
    struct transfer *t = arg;
    (void)bytes;
    t->received += size * n;
    return t->received <= ANSWER_BYTES ? size * n : 0;
}

/* ---- requests ------------------------------------------------------------------------------- */

static bool set_up(struct transfer *t, const char *url) {
    CURL *c = t->easy;
    const struct post_rules *rules = &t->post->rules;
    CURLcode bad = CURLE_OK;
#define SET(option, value) bad = bad != CURLE_OK ? bad : curl_easy_setopt(c, option, value)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, ""); /* not one of the environment either */
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* a slow name server must not hold the loop at the end */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    SET(CURLOPT_TIMEOUT, (long)rules->seconds);
    SET(CURLOPT_FRESH_CONNECT, 1L); /* every request passes on_open_socket */
    SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_CAPATH, NULL); /* one file of authorities, which libcurl reads once a day */
    if (rules->ca_file != NULL)
        SET(CURLOPT_CAINFO, rules->ca_file);
    SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    SET(CURLOPT_OPENSOCKETDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_POSTFIELDS, t->body);
    SET(CURLOPT_POSTFIELDSIZE, (long)strlen(t->body));
    SET(CURLOPT_HTTPHEADER, t->headers);
    SET(CURLOPT_ERRORBUFFER, t->error);
    SET(CURLOPT_PRIVATE, t);
#undef SET
    return bad == CURLE_OK;
}

static bool add_header(struct transfer *t, const char *line) {
    struct curl_slist *longer = curl_slist_append(t->headers, line);
    if (longer != NULL)
        t->headers = longer;
    return longer != NULL;
}

enum err post_send(struct post *p, const char *url, const char *const *headers, int n,
                   const char *body, void (*done)(void *arg, const struct post_result *result),
                   void *arg, struct err_msg *em) {
    struct transfer *t = xcalloc(1, sizeof *t);
    *t = (struct transfer){
        .post = p, .body = xstrdup(body), .done = done, .arg = arg, .easy = curl_easy_init()};
    bool good = t->easy != NULL && add_header(t, "Expect:");
    for (int i = 0; good && i < n; i++)
        good = add_header(t, headers[i]);
    t->next = p->transfers;
    if (t->next != NULL)
        t->next->prev = t;
    p->transfers = t;
    if (good && set_up(t, url) && curl_multi_add_handle(p->multi, t->easy) == CURLM_OK)
        return ERR_OK;
    transfer_free(t);
    return err_set(em, ERR_NO_MEMORY, "libcurl cannot take a request");
}

/* ---- life ----------------------------------------------------------------------------------- */

enum err post_open(uv_loop_t *loop, const struct post_rules *rules, struct post **out,
                   struct err_msg *em) {
    if (rules->ca_file != NULL && access(rules->ca_file, R_OK) != 0)
        return err_set(em, ERR_INPUT, "webhook_ca_file: cannot read %s: %s", rules->ca_file,
                       strerror(errno));
    struct post *p = xcalloc(1, sizeof *p);
    *p = (struct post){.loop = loop, .rules = *rules};
    p->multi = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_multi_init() : NULL;
    if (p->multi == NULL) {
        free(p);
        return err_set(em, ERR_NO_MEMORY, "libcurl cannot start");
    }
    (void)curl_multi_setopt(p->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    (void)curl_multi_setopt(p->multi, CURLMOPT_SOCKETDATA, p);
    (void)curl_multi_setopt(p->multi, CURLMOPT_TIMERFUNCTION, on_timer);
    (void)curl_multi_setopt(p->multi, CURLMOPT_TIMERDATA, p);
    (void)uv_timer_init(loop, &p->timer);
    p->timer.data = p;
    p->handles = 1;
    *out = p;
    return ERR_OK;
}

void post_close(struct post *p) {
    p->closing = true;
    while (p->transfers != NULL)
        transfer_free(p->transfers);
    (void)curl_multi_cleanup(p->multi);
    curl_global_cleanup();
    uv_close((uv_handle_t *)&p->timer, on_closed);
}
