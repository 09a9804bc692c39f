/* store_schema: the tables, as the steps that lead from one version to the next.
 *
 * PRAGMA user_version counts the steps done. A step, once released, is never edited: a change is a
 * new step. Numbers of rows (seq) give every list its order, so a page is a seek in an index
 * whatever its position. jobs.status holds enum job_status, uploads.status enum upload_status;
 * events.kind tells apart the events of one step (see store_events.c). The function json_string is
 * there for the steps alone.
 */
#include "storage/store_internal.h"

#include <stdlib.h>

#include "base/json_text.h"
#include "base/limits.h"
#include "base/log.h"

#define APPLICATION_ID 0x66667764 /* "ffwd" */

static const char *const steps[] = {
    "CREATE TABLE files ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL,"
    " filename TEXT NOT NULL, purpose TEXT NOT NULL, sha256 TEXT NOT NULL, path TEXT,"
    " bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL) STRICT;"
    "CREATE INDEX files_project ON files(project, seq);"
    "CREATE INDEX files_purpose ON files(project, purpose, seq);"
    "CREATE INDEX files_expiry ON files(expires_at) WHERE expires_at > 0;"
    /* A client that deletes while it pages still holds the id of a deleted row as its cursor. */
    "CREATE TABLE files_deleted ("
    " id TEXT PRIMARY KEY, project TEXT NOT NULL, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;",

    "CREATE TABLE jobs ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL,"
    " model TEXT NOT NULL, training_file TEXT NOT NULL, validation_file TEXT,"
    " status INTEGER NOT NULL, cancel_requested INTEGER NOT NULL DEFAULT 0,"
    " created_at INTEGER NOT NULL, started_at INTEGER NOT NULL DEFAULT 0,"
    " finished_at INTEGER NOT NULL DEFAULT 0, estimated_finish INTEGER NOT NULL DEFAULT 0,"
    " seed INTEGER NOT NULL, priority INTEGER NOT NULL, attempt INTEGER NOT NULL DEFAULT 0,"
    " trained_tokens INTEGER NOT NULL DEFAULT 0, request TEXT NOT NULL, resolved TEXT,"
    " progress TEXT, error TEXT, result_files TEXT NOT NULL, fine_tuned_model TEXT UNIQUE,"
    " idempotency_key TEXT, body_sha256 TEXT NOT NULL, has_metadata INTEGER NOT NULL) STRICT;"
    "CREATE INDEX jobs_project ON jobs(project, seq);"
    "CREATE INDEX jobs_plain ON jobs(project, seq) WHERE has_metadata = 0;"
    "CREATE INDEX jobs_queue ON jobs(status, priority DESC, seq);"
    "CREATE INDEX jobs_training_file ON jobs(training_file) WHERE status < 4;"
    "CREATE INDEX jobs_validation_file ON jobs(validation_file) WHERE status < 4;"
    "CREATE INDEX jobs_models ON jobs(project, seq) WHERE fine_tuned_model IS NOT NULL;"
    "CREATE INDEX jobs_body ON jobs(project, body_sha256, seq);"
    "CREATE UNIQUE INDEX jobs_key ON jobs(project, idempotency_key)"
    " WHERE idempotency_key IS NOT NULL;"
    "CREATE TABLE job_metadata ("
    " project TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,"
    " job_seq INTEGER NOT NULL REFERENCES jobs(seq),"
    " PRIMARY KEY (project, key, value, job_seq)) STRICT, WITHOUT ROWID;",

    "CREATE TABLE events ("
    " job_seq INTEGER NOT NULL REFERENCES jobs(seq), seq INTEGER NOT NULL,"
    " created_at INTEGER NOT NULL, level INTEGER NOT NULL, type INTEGER NOT NULL,"
    " step INTEGER NOT NULL, kind INTEGER NOT NULL, message TEXT NOT NULL, data TEXT NOT NULL,"
    " PRIMARY KEY (job_seq, seq)) STRICT, WITHOUT ROWID;"
    "CREATE UNIQUE INDEX events_step ON events(job_seq, step, kind) WHERE step > 0;",

    "CREATE TABLE keys ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL,"
    " project TEXT NOT NULL, prefix TEXT NOT NULL, sha256 TEXT NOT NULL UNIQUE,"
    " created_at INTEGER NOT NULL, revoked_at INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE INDEX keys_prefix ON keys(prefix);",

    "CREATE INDEX files_content ON files(sha256, bytes, seq) WHERE path IS NULL;"
    /* Bytes that clients have stored, kept by triggers so that it cannot drift from the rows. */
    "CREATE TABLE project_bytes ("
    " project TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "INSERT INTO project_bytes SELECT project, sum(bytes) FROM files WHERE path IS NULL"
    " GROUP BY project;"
    "CREATE TRIGGER files_added AFTER INSERT ON files WHEN new.path IS NULL BEGIN"
    " INSERT INTO project_bytes VALUES (new.project, new.bytes)"
    " ON CONFLICT(project) DO UPDATE SET bytes = bytes + new.bytes; END;"
    "CREATE TRIGGER files_removed AFTER DELETE ON files WHEN old.path IS NULL BEGIN"
    " UPDATE project_bytes SET bytes = bytes - old.bytes WHERE project = old.project; END;"
    "CREATE TABLE uploads ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL,"
    " filename TEXT NOT NULL, purpose TEXT NOT NULL, mime_type TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL,"
    " file_expires_after INTEGER NOT NULL, status INTEGER NOT NULL,"
    " stored INTEGER NOT NULL DEFAULT 0, parts INTEGER NOT NULL DEFAULT 0,"
    " part_ids TEXT, md5 TEXT, sha256 TEXT, file_id TEXT) STRICT;"
    "CREATE INDEX uploads_open ON uploads(expires_at) WHERE status < 2;"
    "CREATE INDEX uploads_file ON uploads(file_id) WHERE status < 2;"
    "CREATE TABLE upload_parts ("
    " id TEXT PRIMARY KEY, upload_id TEXT NOT NULL REFERENCES uploads(id), project TEXT NOT NULL,"
    " bytes INTEGER NOT NULL, created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX upload_parts_upload ON upload_parts(upload_id);"
    "CREATE TRIGGER upload_parts_added AFTER INSERT ON upload_parts BEGIN"
    " INSERT INTO project_bytes VALUES (new.project, new.bytes)"
    " ON CONFLICT(project) DO UPDATE SET bytes = bytes + new.bytes; END;"
    "CREATE TRIGGER upload_parts_removed AFTER DELETE ON upload_parts BEGIN"
    " UPDATE project_bytes SET bytes = bytes - old.bytes WHERE project = old.project; END;",

    "ALTER TABLE jobs ADD COLUMN pause_requested INTEGER NOT NULL DEFAULT 0;",

    /* See store_fair.c. queue: how many jobs of a project wait at a priority; turns: when a project
     * was last served, as the number of the claim. */
    "DROP INDEX jobs_queue;"
    "CREATE INDEX jobs_waiting ON jobs(status, priority DESC, project, seq);"
    "CREATE TABLE queue ("
    " status INTEGER NOT NULL, priority INTEGER NOT NULL, project TEXT NOT NULL,"
    " jobs INTEGER NOT NULL, PRIMARY KEY (status, priority DESC, project)) STRICT, WITHOUT ROWID;"
    "INSERT INTO queue SELECT status, priority, project, count(*) FROM jobs WHERE status < 2"
    " GROUP BY status, priority, project;"
    "CREATE TABLE turns ("
    " status INTEGER NOT NULL, project TEXT NOT NULL, turn INTEGER NOT NULL,"
    " PRIMARY KEY (status, project)) STRICT, WITHOUT ROWID;"
    "CREATE TRIGGER jobs_added AFTER INSERT ON jobs WHEN new.status < 2 BEGIN"
    " INSERT INTO queue VALUES (new.status, new.priority, new.project, 1)"
    " ON CONFLICT DO UPDATE SET jobs = jobs + 1; END;"
    "CREATE TRIGGER jobs_moved AFTER UPDATE OF status, priority ON jobs"
    " WHEN (old.status, old.priority) IS NOT (new.status, new.priority) BEGIN"
    " UPDATE queue SET jobs = jobs - 1 WHERE old.status < 2 AND"
    " status = old.status AND priority = old.priority AND project = old.project;"
    " DELETE FROM queue WHERE old.status < 2 AND jobs = 0 AND"
    " status = old.status AND priority = old.priority AND project = old.project;"
    " INSERT INTO queue SELECT new.status, new.priority, new.project, 1 WHERE new.status < 2"
    " ON CONFLICT DO UPDATE SET jobs = jobs + 1; END;",

    /* model_deleted: 1 files may be left, 2 they are gone (see store_models.c). */
    "ALTER TABLE jobs ADD COLUMN model_deleted INTEGER NOT NULL DEFAULT 0;"
    "CREATE INDEX jobs_end ON jobs(substr(id, -8));"
    "CREATE INDEX jobs_live_model ON jobs(model) WHERE status < 4;"
    "CREATE INDEX jobs_model_deleted ON jobs(model_deleted) WHERE model_deleted = 1;"
    "CREATE TABLE permissions ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, checkpoint TEXT NOT NULL,"
    " project TEXT NOT NULL, created_at INTEGER NOT NULL, UNIQUE (checkpoint, project)) STRICT;"
    "CREATE INDEX permissions_checkpoint ON permissions(checkpoint, seq);"
    "CREATE INDEX permissions_project ON permissions(project, seq);",

    "CREATE TABLE webhook_endpoints ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, project TEXT NOT NULL,"
    " url TEXT NOT NULL, secret TEXT NOT NULL, old_secret TEXT,"
    " old_secret_until INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL,"
    " disabled_at INTEGER NOT NULL DEFAULT 0, disabled_reason TEXT) STRICT;"
    "CREATE INDEX webhook_endpoints_project ON webhook_endpoints(project, seq);"
    /* status holds enum delivery_status */
    "CREATE TABLE webhook_deliveries ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,"
    " endpoint_seq INTEGER NOT NULL REFERENCES webhook_endpoints(seq) ON DELETE CASCADE,"
    " event_id TEXT NOT NULL, type TEXT NOT NULL, object_id TEXT NOT NULL,"
    " created_at INTEGER NOT NULL, next_at INTEGER NOT NULL, status INTEGER NOT NULL DEFAULT 0,"
    " attempts INTEGER NOT NULL DEFAULT 0, http_status INTEGER NOT NULL DEFAULT 0,"
    " error TEXT) STRICT;"
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries(next_at) WHERE status = 0;"
    "CREATE INDEX webhook_deliveries_of ON webhook_deliveries(endpoint_seq, next_at)"
    " WHERE status = 0;"
    "CREATE INDEX webhook_deliveries_over ON webhook_deliveries(created_at) WHERE status > 0;"
    /* Whatever ends a job, its notifications are part of the same transaction. */
    "CREATE TRIGGER jobs_ended AFTER UPDATE OF status ON jobs"
    " WHEN new.status >= 4 AND old.status < 4 BEGIN"
    " INSERT INTO webhook_deliveries(id, endpoint_seq, event_id, type, object_id, created_at,"
    "  next_at)"
    " SELECT 'wh_' || lower(hex(randomblob(12))), seq, 'evt_' || lower(hex(randomblob(12))),"
    "  'fine_tuning.job.' || CASE new.status WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed'"
    "  ELSE 'cancelled' END, new.id, new.finished_at, new.finished_at"
    " FROM webhook_endpoints WHERE project = new.project AND disabled_at = 0; END;",

    "CREATE TABLE job_data ("
    " job_seq INTEGER PRIMARY KEY REFERENCES jobs(seq), data TEXT NOT NULL) STRICT;",

    /* How many jobs are in each state, kept by triggers: no job is ever removed. */
    "CREATE TABLE job_counts (status INTEGER PRIMARY KEY, jobs INTEGER NOT NULL) STRICT;"
    "INSERT INTO job_counts SELECT status, count(*) FROM jobs GROUP BY status;"
    "CREATE TRIGGER jobs_counted AFTER INSERT ON jobs BEGIN"
    " INSERT INTO job_counts VALUES (new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;"
    " END;"
    "CREATE TRIGGER jobs_recounted AFTER UPDATE OF status ON jobs"
    " WHEN old.status <> new.status BEGIN"
    " UPDATE job_counts SET jobs = jobs - 1 WHERE status = old.status;"
    " INSERT INTO job_counts VALUES (new.status, 1) ON CONFLICT DO UPDATE SET jobs = jobs + 1;"
    " END;",

    /* events: bits of enum webhook_event, in the order of the ends in enum job_status. */
    "ALTER TABLE webhook_endpoints ADD COLUMN name TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE webhook_endpoints ADD COLUMN events INTEGER NOT NULL DEFAULT 7;"
    "ALTER TABLE webhook_endpoints ADD COLUMN updated_at INTEGER NOT NULL DEFAULT 0;"
    "UPDATE webhook_endpoints SET updated_at = created_at;"
    "DROP TRIGGER jobs_ended;"
    "CREATE TRIGGER jobs_ended AFTER UPDATE OF status ON jobs"
    " WHEN new.status >= 4 AND old.status < 4 BEGIN"
    " INSERT INTO webhook_deliveries(id, endpoint_seq, event_id, type, object_id, created_at,"
    "  next_at)"
    " SELECT 'wh_' || lower(hex(randomblob(12))), seq, 'evt_' || lower(hex(randomblob(12))),"
    "  'fine_tuning.job.' || CASE new.status WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed'"
    "  ELSE 'cancelled' END, new.id, new.finished_at, new.finished_at"
    " FROM webhook_endpoints WHERE project = new.project AND disabled_at = 0"
    " AND (events >> (new.status - 4)) & 1; END;",

    /* Events as the text they are shown as, under one number each (see store_events.c): rows this
     * long in a table without row numbers make a deep tree. */
    "CREATE TABLE event_lines ("
    " place INTEGER PRIMARY KEY, step INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " line TEXT NOT NULL) STRICT;"
    "INSERT INTO event_lines SELECT job_seq << 32 | seq, step, kind,"
    " '{\"object\":\"fine_tuning.job.event\",\"created_at\":' || created_at || ',\"level\":\"' ||"
    " CASE level WHEN 0 THEN 'info' WHEN 1 THEN 'warn' ELSE 'error' END || '\",\"message\":' ||"
    " json_string(message) || ',\"type\":\"' || CASE type WHEN 0 THEN 'message' ELSE 'metrics' END "
    "||"
    " '\",\"data\":' || data || '}' FROM events ORDER BY job_seq, seq;"
    "DROP TABLE events;"
    "ALTER TABLE event_lines RENAME TO events;"
    "CREATE UNIQUE INDEX events_step ON events(place >> 32, step, kind) WHERE step > 0;"
    /* Finds a project's job without its row, which is long. */
    "CREATE INDEX jobs_named ON jobs(id, project);",
};
enum { VERSION = sizeof steps / sizeof steps[0] };

/* Text as a string of JSON, as json_text writes it. */
static void json_string_of(sqlite3_context *context, int n, sqlite3_value **values) {
    struct json_text w;
    char *text = NULL;
    (void)n;
    json_text_init(&w, LIMIT_JSON_ANSWER);
    json_text_string(&w, (const char *)sqlite3_value_text(values[0]));
    if (json_text_take(&w, &text, NULL) == ERR_OK)
        sqlite3_result_text(context, text, -1, free);
    else
        sqlite3_result_error_toobig(context);
}

static enum err step_up(struct store *s, int from, struct err_msg *em) {
    char set_version[96];
    (void)sqlite3_snprintf((int)sizeof set_version, set_version,
                           "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
                           from + 1);
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    if (sqlite3_exec(s->db, steps[from], NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_exec(s->db, set_version, NULL, NULL, NULL) != SQLITE_OK)
        e = store__error(s, "schema", em);
    return store__end(s, e, em);
}

enum err store__migrate(struct store *s, struct err_msg *em) {
    int64_t version = 0, application = 0;
    enum err e = store__integer(s, em, &version, "PRAGMA user_version", "");
    if (e == ERR_OK)
        e = store__integer(s, em, &application, "PRAGMA application_id", "");
    if (e != ERR_OK)
        return e;
    if (version > 0 && application != APPLICATION_ID)
        return err_set(em, ERR_UNSUPPORTED, "%s/ffwd.db is a database of another program", s->dir);
    if (version < 0 || version > VERSION)
        return err_set(em, ERR_UNSUPPORTED,
                       "%s/ffwd.db has schema version %lld, this program knows up to %d: start the "
                       "newer program it was written by",
                       s->dir, (long long)version, (int)VERSION);
    if (sqlite3_create_function(s->db, "json_string", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY, NULL,
                                json_string_of, NULL, NULL) != SQLITE_OK)
        return store__error(s, "json_string", em);
    for (int v = (int)version; e == ERR_OK && v < VERSION; v++) {
        if (version > 0)
            log_info("store.migrate", "from=%d to=%d", v, v + 1);
        e = step_up(s, v, em);
    }
    return e;
}
