/* event: what a job reports, as one JSON line.
 *
 * What:    the API's fine_tuning.job.event:
 *          {"id":…,"object":"fine_tuning.job.event","created_at":…,"level":…,"message":…,"type":…,
 *           "data":{…}}. `ffwd train` prints these lines; the worker sends them to the server
 *          without an id, which storage gives.
 * Owns:    an event owns its message and its data.
 * Threads: one owner at a time.
 * Errors:  event_parse refuses a line that is not such an object, naming the field.
 */
#ifndef FFWD_BASE_EVENT_H
#define FFWD_BASE_EVENT_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json_text.h"

enum event_level { EVENT_INFO, EVENT_WARN, EVENT_ERROR };
enum event_type { EVENT_MESSAGE, EVENT_METRICS };

struct event {
    int64_t created_at; /* Unix seconds */
    enum event_level level;
    enum event_type type;
    char *message;
    json_t *data; /* an object */
};

/* data_take is taken over also on failure; NULL means {}. message is copied. created_at = now. */
void event_init(struct event *ev, enum event_level level, enum event_type type, const char *message,
                json_t *data_take);
void event_clear(struct event *ev);

const char *event_level_name(enum event_level level);
const char *event_type_name(enum event_type type);

/* A new JSON object in the API's shape (with id if id is not NULL); the caller decrefs. */
json_t *event_to_json(const struct event *ev, const char *id);
/* The same as one line of JSON without the newline; the caller frees. In a message that is not
 * UTF-8 every byte above 127 becomes '?'. */
char *event_to_line(const struct event *ev, const char *id);
/* What event_to_line makes with an id, of the line without one. */
void event_write(struct json_text *w, const char *id, const char *line, size_t len);
/* The way back, from a parsed object. ev needs event_clear after ERR_OK only. */
enum err event_from_json(const json_t *object, struct event *ev, struct err_msg *em) NODISCARD;

/* A JSON real, or null if x is not finite (jansson refuses NaN and infinity). */
json_t *event_number(double x);

#endif
