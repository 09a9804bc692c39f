/* config: what the server is told, from the command line and from --config FILE.
 *
 * What:    the options of `ffwd-server` with their defaults, and the JSON file
 *          {"listen","data","models","device","threads","engine","cors_origins","metrics",
 *          "webhook_allow","log_level","limits":{…}}.
 *          The command line wins over the file.
 * Owns:    its strings; config_clear frees them.
 * Threads: plain data, read-only once the server runs.
 * Errors:  ERR_USAGE and ERR_INPUT with the option or the path of the key at fault.
 */
#ifndef FFWD_SERVER_CONFIG_H
#define FFWD_SERVER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "server/address.h"

/* X(field, default, least, most): the keys of "limits". Times are seconds, sizes bytes. */
#define CONFIG_LIMITS(X)                                                                           \
    X(file_bytes, 8589934592, 1, 1099511627776)                                                    \
    X(part_bytes, 67108864, 1, 1099511627776)                                                      \
    X(upload_bytes, 8589934592, 1, 1099511627776)                                                  \
    X(upload_seconds, 3600, 1, 604800)                                                             \
    X(project_bytes, 0, 0, 1125899906842624)                                                       \
    X(connections, 12000, 1, 65536)                                                                \
    X(connections_per_address, 32, 1, 65536)                                                       \
    X(streams, 10000, 1, 65536)                                                                    \
    X(streams_per_project, 0, 0, 65536)                                                            \
    X(key_requests_per_minute, 0, 0, 1000000000)                                                   \
    X(project_requests_per_minute, 0, 0, 1000000000)                                               \
    X(address_requests_per_minute, 0, 0, 1000000000)                                               \
    X(header_seconds, 10, 1, 3600)                                                                 \
    X(idle_seconds, 30, 1, 3600)                                                                   \
    X(body_grace_seconds, 10, 1, 3600)                                                             \
    X(body_bytes_per_second, 1024, 1, 1073741824)                                                  \
    X(transfer_seconds, 3600, 1, 86400)                                                            \
    X(reply_seconds, 60, 1, 3600)                                                                  \
    X(stream_heartbeat_seconds, 15, 1, 3600)                                                       \
    X(worker_heartbeat_seconds, 30, 1, 3600)                                                       \
    X(worker_start_seconds, 120, 1, 3600)                                                          \
    X(cancel_seconds, 30, 1, 3600)                                                                 \
    X(drain_seconds, 25, 1, 3600)                                                                  \
    X(check_seconds, 3600, 1, 86400)                                                               \
    X(queued_jobs_per_project, 1000, 1, 1000000)                                                   \
    X(webhook_seconds, 15, 1, 120)                                                                 \
    X(dry_run_seconds, 60, 1, 3600)                                                                \
    X(retry_seconds, 1, 0, 3600)                                                                   \
    X(attempts, 3, 1, 1000)

struct config_limits {
#define CONFIG_FIELD(field, value, least, most) int64_t field;
    CONFIG_LIMITS(CONFIG_FIELD)
#undef CONFIG_FIELD
};

/* Who may read /metrics without a key. */
enum config_metrics { METRICS_LOOPBACK, METRICS_KEY, METRICS_OPEN };

struct config {
    char *data_dir, *listen, *device, *engine, *file;
    char **model_roots;  /* NULL-terminated */
    char **cors_origins; /* NULL-terminated */
    enum config_metrics metrics;
    struct address_range *webhook_allow; /* that webhooks may go to besides public addresses */
    size_t n_webhook_allow;
    char *webhook_ca_file; /* NULL: the system's authorities */
    int64_t threads;       /* 0: the engine's choice */
    enum log_level log_level;
    struct config_limits limits;
    bool help, version;
};

/* argv[0] is skipped. On an error *out is clear. */
enum err config_read(int argc, char **argv, struct config *out, struct err_msg *em) NODISCARD;
/* Lowers connections and streams to what this many open files allow, and streams so that they leave
 * connections for other requests. false: connections had to be lowered. */
bool config_fit_limits(struct config_limits *limits, int64_t open_files);
void config_clear(struct config *c);
/* The text of --help. */
const char *config_help(void);

#endif
