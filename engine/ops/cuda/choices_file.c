/* choices_file: see choices_file.h. */
#include "engine/ops/cuda/choices_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define PREFIX "ffwd-algorithms "
#define VERSION "1 "
#define LOCK_TRIES 200 /* of 5 ms: a process holds the lock for as long as it writes a line */

struct choices_file {
    char *path, *header; /* header: the first line with its newline */
    struct choices *table;
    bool lost;     /* neither read nor written any more */
    bool no_write; /* read, but not written */
    dev_t dev;     /* the file that has been read, up to `read` */
    ino_t ino;
    size_t read;
};

/* ---- what goes wrong ------------------------------------------------------------------------ */

static void say(const struct choices_file *f, const char *what, const char *reason) {
    log_warn("cuda.algorithms", "file=%s %s reason=%s", f->path, what, reason);
}

static void lose(struct choices_file *f, const char *reason) {
    if (!f->lost)
        say(f, "not used:", reason);
    f->lost = true;
}

static void stop_writing(struct choices_file *f, const char *reason) {
    if (!f->no_write)
        say(f, "not written to:", reason);
    f->no_write = true;
}

/* ---- opening -------------------------------------------------------------------------------- */

static bool lock(int fd, int kind) {
    const struct timespec pause = {.tv_nsec = 5000000};
    for (int i = 0; flock(fd, kind | LOCK_NB) != 0; i++) {
        if ((errno != EWOULDBLOCK && errno != EINTR) || i == LOCK_TRIES)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    return true;
}

static int try_open(struct choices_file *f, int flags) {
    return open(f->path, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
}

/* Locked, a regular file of a size that is read; -1: not there, or lost. */
static int open_locked(struct choices_file *f, bool write, struct stat *st) {
    int fd = try_open(f, write ? O_RDWR | O_CREAT : O_RDONLY);
    if (fd < 0 && write && (errno == EACCES || errno == EPERM || errno == EROFS)) {
        stop_writing(f, strerror(errno));
        return -1;
    }
    if (fd < 0) {
        if (errno != ENOENT || write)
            lose(f, errno == ELOOP ? "it is a symbolic link" : strerror(errno));
        return -1;
    }
    if (!lock(fd, write ? LOCK_EX : LOCK_SH))
        lose(f, errno == EWOULDBLOCK ? "another process holds its lock" : strerror(errno));
    else if (fstat(fd, st) != 0)
        lose(f, strerror(errno));
    else if (!S_ISREG(st->st_mode))
        lose(f, "it is no regular file");
    else if ((size_t)st->st_size > CHOICES_FILE_MOST)
        lose(f, "it is too large to be a file of algorithms");
    if (!f->lost)
        return fd;
    close(fd);
    return -1;
}

/* ---- reading -------------------------------------------------------------------------------- */

/* [at, at + n) as a string; NULL: it cannot be read. */
static char *read_piece(int fd, size_t at, size_t n) {
    char *text = xmalloc(n + 1);
    for (size_t done = 0; done < n;) {
        errno = 0;
        ssize_t got = pread(fd, text + done, n - done, (off_t)(at + done));
        if (got <= 0 && errno != EINTR) {
            free(text);
            return NULL;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    text[n] = '\0';
    return text;
}

enum state { GOOD, BEGIN_ANEW, FOREIGN };

/* What the file's beginning says of it. An empty file, or a header that was cut off, is to be
 * written anew like that of another identity. */
static enum state check_header(const struct choices_file *f, const char *text) {
    size_t n = strlen(f->header), have = strlen(text);
    if (have >= n && memcmp(text, f->header, n) == 0)
        return GOOD;
    if (strncmp(text, PREFIX, sizeof PREFIX - 1) == 0 || strncmp(f->header, text, have) == 0)
        return BEGIN_ANEW;
    return FOREIGN;
}

/* Takes the whole lines of text; *used: their bytes. False: one is none. */
static bool take_lines(struct choices_file *f, char *text, size_t *used) {
    *used = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (!choices_add_line(f->table, line))
            return false;
        *used = (size_t)(end + 1 - text);
    }
    return true;
}

/* The part of the file from `from` on. */
static enum state read_from(struct choices_file *f, int fd, size_t from, size_t size) {
    size_t used = 0;
    char *text = read_piece(fd, from, size - from);
    if (!text) {
        lose(f, strerror(errno));
        return FOREIGN;
    }
    bool good = strlen(text) == size - from && take_lines(f, text, &used);
    free(text);
    f->read = from + used;
    return good ? GOOD : BEGIN_ANEW;
}

/* What has come since it was read last; all of it where it is another file now, or was begun anew
 * by somebody else. */
static enum state read_new(struct choices_file *f, int fd, const struct stat *st) {
    size_t size = (size_t)st->st_size, header = strlen(f->header);
    char *text = read_piece(fd, 0, size < header ? size : header);
    enum state state = text ? check_header(f, text) : FOREIGN;
    bool same = st->st_dev == f->dev && st->st_ino == f->ino && size >= f->read && f->read > 0;
    free(text);
    f->dev = st->st_dev;
    f->ino = st->st_ino;
    if (state == FOREIGN)
        lose(f, text ? "it is no file of algorithms" : strerror(errno));
    if (state != GOOD)
        return state;
    if (same && read_from(f, fd, f->read, size) == GOOD)
        return GOOD;
    return f->lost ? FOREIGN : read_from(f, fd, header, size);
}

/* Looks into the file, and leaves it as it is whatever it finds. */
static void look(struct choices_file *f) {
    struct stat st;
    int fd = f->lost ? -1 : open_locked(f, false, &st);
    if (fd < 0)
        return;
    (void)read_new(f, fd, &st);
    close(fd);
}

/* ---- writing -------------------------------------------------------------------------------- */

/* The file's first `at` bytes, and then these. */
static bool write_at(struct choices_file *f, int fd, size_t at, const char *bytes, size_t n) {
    bool ok = ftruncate(fd, (off_t)at) == 0;
    for (size_t done = 0; ok && done < n;) {
        errno = 0;
        ssize_t put = pwrite(fd, bytes + done, n - done, (off_t)(at + done));
        ok = put > 0 || errno == EINTR;
        done += put > 0 ? (size_t)put : 0;
    }
    if (ok) {
        f->read = at + n;
        return true;
    }
    stop_writing(f, strerror(errno));
    (void)!ftruncate(fd, (off_t)at); /* a part of a line is no line */
    return false;
}

/* All that is known: whoever looks next finds a whole file. */
static bool begin_anew(struct choices_file *f, int fd) {
    char *known = choices_text(f->table), *lines = strchr(known, '\n') + 1;
    char *text = xasprintf("%s%s", f->header, lines);
    bool ok = write_at(f, fd, 0, text, strlen(text));
    free(text);
    free(known);
    return ok;
}

static void add_line(struct choices_file *f, int fd, const int64_t shape[CHOICE_NUMBERS],
                     const uint64_t words[CHOICE_WORDS]) {
    char line[CHOICE_LINE_MAX];
    size_t n = choices_line(line, shape, words);
    if (f->read + n > CHOICES_FILE_MOST)
        stop_writing(f, "it is full");
    else
        (void)write_at(f, fd, f->read, line, n);
}

/* Under the lock: a choice that another process has added since counts. */
static void write_choice(struct choices_file *f, const int64_t shape[CHOICE_NUMBERS],
                         const uint64_t words[CHOICE_WORDS]) {
    struct stat st;
    int fd = open_locked(f, true, &st);
    if (fd < 0)
        return;
    enum state state = read_new(f, fd, &st);
    if (state == BEGIN_ANEW && st.st_size > 0)
        say(f, "begun anew:", "it is of another device or version, or damaged");
    bool ready = state == GOOD || (state == BEGIN_ANEW && begin_anew(f, fd));
    if (ready && !choices_find(f->table, shape))
        add_line(f, fd, shape, words);
    close(fd);
}

/* ---- the table ------------------------------------------------------------------------------ */

struct choices_file *choices_file_open(const char *path, const char *identity) {
    struct choices_file *f = xcalloc(1, sizeof *f);
    f->path = xstrdup(path);
    f->header = xasprintf(PREFIX VERSION "%s\n", identity);
    f->table = choices_new(identity);
    look(f);
    return f;
}

void choices_file_close(struct choices_file *f) {
    if (!f)
        return;
    free(f->path);
    free(f->header);
    choices_free(f->table);
    free(f);
}

const uint64_t *choices_file_find(struct choices_file *f, const int64_t shape[CHOICE_NUMBERS]) {
    struct stat st;
    const uint64_t *words = choices_find(f->table, shape);
    if (words || f->lost || stat(f->path, &st) != 0)
        return words;
    if (st.st_dev != f->dev || st.st_ino != f->ino || (size_t)st.st_size != f->read)
        look(f);
    return choices_find(f->table, shape);
}

const uint64_t *choices_file_put(struct choices_file *f, const int64_t shape[CHOICE_NUMBERS],
                                 const uint64_t words[CHOICE_WORDS]) {
    if (!f->lost && !f->no_write)
        write_choice(f, shape, words);
    choices_add(f->table, shape, words);
    return choices_find(f->table, shape);
}
