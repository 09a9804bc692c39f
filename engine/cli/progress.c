/* progress: the bar of `ffwd train`. */
#include "engine/cli/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

#define WIDTH 24

void progress_init(struct progress *p) {
    *p = (struct progress){
        .on = isatty(STDERR_FILENO) == 1,
        .first_tokens = -1,
        .started = clock_mono(),
    };
}

void progress_clear(struct progress *p) {
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

static void draw(struct progress *p, int64_t step, int64_t total, double loss, double per_second,
                 double left) {
    char bar[WIDTH + 1];
    for (int i = 0; i < WIDTH; i++)
        bar[i] = (int64_t)i * total < step * WIDTH ? '#' : '.';
    bar[WIDTH] = '\0';
    int64_t s = (int64_t)(left + 0.5);
    fprintf(stderr, "\r\033[K[%s] %lld/%lld  loss %.3f  %.0f tokens/s  %lld:%02lld:%02lld left",
            bar, (long long)step, (long long)total, loss, per_second, (long long)(s / 3600),
            (long long)(s / 60 % 60), (long long)(s % 60));
    fflush(stderr);
    p->drawn = true;
}

void progress_event(struct progress *p, const struct event *ev) {
    const json_t *total = json_object_get(ev->data, "total_steps");
    if (!p->on || ev->type != EVENT_METRICS || total == NULL)
        return;
    int64_t step = json_integer_value(json_object_get(ev->data, "step"));
    int64_t tokens = json_integer_value(json_object_get(ev->data, "tokens"));
    if (p->first_tokens < 0) { /* after a resume, what was done before does not count */
        p->first_tokens = step > 1 ? tokens : 0;
        p->first_step = step > 1 ? step : 0;
    }
    double seconds = clock_mono() - p->started;
    double steps = (double)(step - p->first_step);
    double left = steps > 0 ? seconds / steps * (double)(json_integer_value(total) - step) : 0.0;
    draw(p, step, json_integer_value(total),
         json_number_value(json_object_get(ev->data, "train_loss")),
         seconds > 0 ? (double)(tokens - p->first_tokens) / seconds : 0.0, left);
}
