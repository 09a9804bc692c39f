/* api_system: is the server there, is it ready, and what has it counted. */
#include "api/api_internal.h"

API_HANDLER(api__system_health) {
    (void)req;
    (void)params;
    api__ok(resp, json_pack("{s:s, s:s}", "status", "ok", "version", api->config->version));
}

API_HANDLER(api__system_ready) {
    (void)req;
    (void)params;
    const char *why = api->ready ? api->not_ready : "the server is starting or stopping";
    api__ok(resp,
            json_pack("{s:s, s:s*}", "status", why == NULL ? "ready" : "not_ready", "reason", why));
    resp->status = why == NULL ? 200 : 503;
}

/* Prometheus' text format, version 0.0.4. */
API_HANDLER(api__system_metrics) {
    (void)req;
    (void)params;
    if (api->hooks == NULL || api->hooks->metrics == NULL) {
        api_error(resp, 404, "unknown_url", NULL, "There are no metrics here.");
        return;
    }
    resp->status = 200;
    resp->kind = API_BODY_TEXT;
    resp->content_type = "text/plain; version=0.0.4; charset=utf-8";
    resp->text = api->hooks->metrics(api->hooks->arg);
}
