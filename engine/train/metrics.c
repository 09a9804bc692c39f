/* metrics: the CSV file of a run. */
#include "engine/train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define HEADER                                                                                     \
    "step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,"              \
    "full_valid_loss,full_valid_mean_token_accuracy,ff_tau,ff_evaluations,ff_loss_before,"         \
    "ff_loss_after,ff_flops_share,learning_rate,grad_norm,tokens,flops\n"
#define MAX_ROW 512

static enum err io_error(const struct metrics *m, struct err_msg *em) {
    return err_set_errno(em, errno == 0 ? EIO : errno, "cannot write %s", m->path);
}

static enum err append(struct metrics *m, const char *text, size_t n, struct err_msg *em) {
    errno = 0;
    if (fwrite(text, 1, n, m->f) != n || fflush(m->f) != 0)
        return io_error(m, em);
    m->bytes += (int64_t)n;
    return ERR_OK;
}

enum err metrics_open(struct metrics *m, const char *path, int64_t bytes, struct err_msg *em) {
    *m = (struct metrics){.path = xstrdup(path), .bytes = bytes};
    if (bytes > 0 && file_size(path) < bytes) {
        enum err e = err_set(em, ERR_INPUT, "%s is shorter than its resume point says", path);
        metrics_close(m);
        return e;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && lseek(fd, 0, SEEK_END) >= 0)
        m->f = fdopen(fd, "wb");
    if (m->f == NULL) {
        enum err e = err_set_errno(em, errno, "cannot write %s", path);
        if (fd >= 0)
            close(fd);
        metrics_close(m);
        return e;
    }
    return bytes > 0 ? ERR_OK : append(m, HEADER, strlen(HEADER), em);
}

void metrics_close(struct metrics *m) {
    if (m->f != NULL)
        (void)fclose(m->f); /* every row was flushed and checked */
    free(m->path);
    *m = (struct metrics){0};
}

/* ",x", or "," where x was not measured. */
static void add_cell(char *row, size_t *len, double x) {
    int n = isnan(x) ? snprintf(row + *len, MAX_ROW - *len, ",")
                     : snprintf(row + *len, MAX_ROW - *len, ",%.9g", x);
    *len += (size_t)n;
}

enum err metrics_add(struct metrics *m, const struct run_state *s, struct err_msg *em) {
    const struct step_result *r = &s->result;
    char row[MAX_ROW];
    size_t len = (size_t)snprintf(row, sizeof row, "%lld", (long long)s->step);
    const double cells[] = {
        r->train_loss,
        r->train_accuracy,
        r->valid_loss,
        r->valid_accuracy,
        r->full_valid_loss,
        r->full_valid_accuracy,
        r->ff_evaluations > 0 ? (double)r->ff_tau : NAN,
        r->ff_evaluations > 0 ? (double)r->ff_evaluations : NAN,
        r->ff_loss_before,
        r->ff_loss_after,
        r->ff_evaluations > 0 ? run_state_flops_share(s) : NAN,
        r->learning_rate,
        r->grad_norm,
        (double)s->tokens,
    };
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++)
        add_cell(row, &len, cells[i]);
    add_cell(row, &len, run_state_flops(s));
    row[len++] = '\n';
    return append(m, row, len, em);
}

enum err metrics_sync(struct metrics *m, struct err_msg *em) {
    return fsync(fileno(m->f)) == 0 ? ERR_OK : io_error(m, em);
}

enum err metrics_copy(struct metrics *m, const char *path, struct err_msg *em) {
    struct file_map map;
    enum err e = file_map_open(m->path, &map, em);
    if (e != ERR_OK)
        return e;
    e = file_write(path, map.data, map.len, em);
    file_map_close(&map);
    return e;
}
