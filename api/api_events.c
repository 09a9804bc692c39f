/* api_events: /v1/fine_tuning/jobs/{id}/events, as pages or as a stream. */
#include "api/api_internal.h"

#include <stdio.h>

#include "base/limits.h"

/* The stream starts after Last-Event-ID, or `after`, or at the first event. */
static void start_stream(struct api *api, const struct api_request *req, const char *job,
                         const struct page *page, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    int64_t job_seq = 0;
    const char *last = api_header(req, "last-event-id");
    const char *param = "Last-Event-ID";
    if (last == NULL || last[0] == '\0') {
        last = page->after;
        param = "after";
    }
    if (store_job_number(api->store, req->project, job, &job_seq, &em) != ERR_OK) {
        api__job_refuse(resp, job, &em);
        return;
    }
    if (last != NULL && store_event_seq(api->store, job, last, &resp->after_seq, &em) != ERR_OK) {
        if (em.code == ERR_NOT_FOUND)
            api_error(resp, 404, "event_not_found", param, "job %s has no event %s", job, last);
        else
            api_error_from(resp, &em);
        return;
    }
    resp->status = 200;
    resp->kind = API_BODY_EVENTS;
    resp->content_type = "text/event-stream";
    (void)snprintf(resp->job_id, sizeof resp->job_id, "%s", job);
}

struct event_page {
    struct json_text w;
    bool cut; /* before an event that is there */
};

static bool write_event(void *arg, const struct event_row *row) {
    struct event_page *p = arg;
    p->cut = api__list_is_full(&p->w);
    if (!p->cut)
        event_write(&p->w, row->id, row->line, row->len);
    return !p->cut;
}

static void send_page(struct api *api, const char *project, const char *job,
                      const struct page *page, struct api_response *resp) {
    struct err_msg em = ERR_MSG_INIT;
    struct event_page p = {.cut = false};
    bool more = false;
    api__list_begin(&p.w, LIMIT_JSON_ANSWER);
    if (store_event_list(api->store, project, job, page, write_event, &p, &more, &em) != ERR_OK) {
        json_text_clear(&p.w);
        if (em.param[0] != '\0')
            api_error_from(resp, &em);
        else
            api__job_refuse(resp, job, &em);
        return;
    }
    api__list_end(&p.w, more || p.cut);
    api__ok_text(resp, &p.w, true);
}

API_HANDLER(api__events_list) {
    const char *job = params->value[0];
    struct page page;
    bool stream = false;
    if (!api__page(req, 20, &page, resp) || !api__flag(req, "stream", &stream, resp))
        return;
    if (stream)
        start_stream(api, req, job, &page, resp);
    else
        send_page(api, req->project, job, &page, resp);
}
