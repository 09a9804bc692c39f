/* event: what a job reports, as one JSON line. */
#include "base/event.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

static const char *const level_names[] = {"info", "warn", "error"};
static const char *const type_names[] = {"message", "metrics"};

void event_init(struct event *ev, enum event_level level, enum event_type type, const char *message,
                json_t *data_take) {
    *ev = (struct event){
        .created_at = clock_unix(),
        .level = level,
        .type = type,
        .message = xstrdup(message),
        .data = data_take != NULL ? data_take : json_object(),
    };
}

void event_clear(struct event *ev) {
    free(ev->message);
    json_decref(ev->data);
    *ev = (struct event){0};
}

const char *event_level_name(enum event_level level) {
    return level_names[level];
}

const char *event_type_name(enum event_type type) {
    return type_names[type];
}

json_t *event_to_json(const struct event *ev, const char *id) {
    json_t *o = json_object();
    if (id != NULL)
        json_object_set_new(o, "id", json_string(id));
    json_object_set_new(o, "object", json_string("fine_tuning.job.event"));
    json_object_set_new(o, "created_at", json_integer(ev->created_at));
    json_object_set_new(o, "level", json_string(level_names[ev->level]));
    json_object_set_new(o, "message", json_string(ev->message));
    json_object_set_new(o, "type", json_string(type_names[ev->type]));
    json_object_set(o, "data", ev->data);
    return o;
}

char *event_to_line(const struct event *ev, const char *id) {
    struct json_text w;
    char *data = json_dumps(ev->data, JSON_COMPACT), *line = NULL;
    json_text_init(&w, LIMIT_JSON_ANSWER);
    json_text_open(&w, '{');
    if (id != NULL) {
        json_text_key(&w, "id");
        json_text_string(&w, id);
    }
    json_text_key(&w, "object");
    json_text_string(&w, "fine_tuning.job.event");
    json_text_key(&w, "created_at");
    json_text_integer(&w, ev->created_at);
    json_text_key(&w, "level");
    json_text_string(&w, level_names[ev->level]);
    json_text_key(&w, "message");
    json_text_string(&w, ev->message);
    json_text_key(&w, "type");
    json_text_string(&w, type_names[ev->type]);
    json_text_key(&w, "data");
    json_text_part(&w, json_part_whole(data != NULL ? data : "{}"));
    json_text_close(&w, '}');
    free(data);
    return json_text_take(&w, &line, NULL) == ERR_OK ? line : xstrdup("{}");
}

/* A line begins with its "object", so the id goes before that. */
void event_write(struct json_text *w, const char *id, const char *line, size_t len) {
    json_text_open(w, '{');
    json_text_add(w, "\"id\":\"");
    json_text_add(w, id);
    json_text_add(w, "\",");
    json_text_part(w, (struct json_part){.at = line + 1, .len = len - 1});
}

static int index_of(const char *const *names, int count, const char *name) {
    for (int i = 0; name != NULL && i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

enum err event_from_json(const json_t *object, struct event *ev, struct err_msg *em) {
    const json_t *created = json_object_get(object, "created_at");
    const char *message = json_string_value(json_object_get(object, "message"));
    json_t *data = json_object_get(object, "data");
    int level = index_of(level_names, 3, json_string_value(json_object_get(object, "level")));
    int type = index_of(type_names, 2, json_string_value(json_object_get(object, "type")));
    if (!json_is_integer(created) || json_integer_value(created) < 0)
        return err_set(em, ERR_INPUT, "event: created_at is not a time");
    if (message == NULL)
        return err_set(em, ERR_INPUT, "event: message is not a string");
    if (level < 0 || type < 0)
        return err_set(em, ERR_INPUT, "event: unknown %s", level < 0 ? "level" : "type");
    if (!json_is_object(data))
        return err_set(em, ERR_INPUT, "event: data is not an object");
    event_init(ev, (enum event_level)level, (enum event_type)type, message, json_incref(data));
    ev->created_at = json_integer_value(created);
    return ERR_OK;
}

json_t *event_number(double x) {
    return isfinite(x) ? json_real(x) : json_null();
}
