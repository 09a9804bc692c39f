/* api_system: is the server there, and is it ready. */
#include "api/api_internal.h"

API_HANDLER(api__system_health) {
    (void)req;
    (void)params;
    api__ok(resp, json_pack("{s:s, s:s}", "status", "ok", "version", api->config->version));
}

API_HANDLER(api__system_ready) {
    (void)req;
    (void)params;
    api__ok(resp, json_pack("{s:s}", "status", api->ready ? "ready" : "not_ready"));
    resp->status = api->ready ? 200 : 503;
}
