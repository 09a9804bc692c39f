/* Choices of algorithms: the table, its text, and the file that processes share. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/ops/cuda/choices_file.h"

#define HEADER "ffwd-algorithms 1 device=A driver=1\n"

static char dir[64], path[96];

static void setup(void) {
    (void)snprintf(dir, sizeof dir, "/tmp/ffwd-test-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    (void)snprintf(path, sizeof path, "%s/algorithms", dir);
}

static void teardown(void) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(file_remove_tree(dir, &em), ERR_OK, "%s", em.text);
}

TestSuite(choices, .init = setup, .fini = teardown);

/* The i-th shape, and words for it by somebody whose mark is `by`. */
static const int64_t *shape(int64_t i) {
    static int64_t s[CHOICE_NUMBERS];
    s[0] = i, s[1] = i % 7, s[2] = -1000 - i, s[CHOICE_NUMBERS - 1] = INT64_MAX;
    return s;
}

static const uint64_t *words(int64_t i, uint64_t by) {
    static uint64_t w[CHOICE_WORDS];
    w[0] = (uint64_t)i, w[1] = by, w[CHOICE_WORDS - 1] = UINT64_MAX;
    return w;
}

static void check(const uint64_t *found, int64_t i, uint64_t by) {
    cr_assert_not_null(found, "shape %lld is not there", (long long)i);
    cr_assert_eq(memcmp(found, words(i, by), CHOICE_WORDS * sizeof *found), 0);
}

/* ---- the table ------------------------------------------------------------------------------ */

Test(choices, are_found_again_and_never_changed) {
    enum { MANY = 5000 };
    struct choices *c = choices_new("device=A driver=1");
    cr_assert_null(choices_find(c, shape(0)));
    for (int64_t i = 0; i < MANY; i++)
        choices_add(c, shape(i), words(i, 1));
    for (int64_t i = 0; i < MANY; i++)
        choices_add(c, shape(i), words(i, 2));
    char *text = choices_text(c);
    choices_free(c);
    cr_assert_null(choices_from(text, "device=A driver=2"));
    c = choices_from(text, "device=A driver=1");
    cr_assert_not_null(c);
    for (int64_t i = 0; i < MANY; i++)
        check(choices_find(c, shape(i)), i, 1);
    cr_assert_null(choices_find(c, shape(MANY)));
    choices_free(c);
    free(text);
}

Test(choices, are_not_taken_from_text_that_is_none) {
    static const char *const bad[] = {"",
                                      "\n",
                                      "y\n",
                                      "x\n1 2 3\n",
                                      "x\n1 2 3: 4\n",
                                      "x\n1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17: 1 2 3\n",
                                      "x\n1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17: 1 2 3 4 5 6 "
                                      "7 8 9\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_null(choices_from(bad[i], "x"), "%s", bad[i]);
}

/* ---- the file ------------------------------------------------------------------------------- */

static struct choices_file *open_file(void) {
    return choices_file_open(path, "device=A driver=1");
}

static char *contents(size_t *n) {
    struct err_msg em = ERR_MSG_INIT;
    char *text;
    cr_assert_eq(file_read(path, CHOICES_FILE_MOST, &text, n, &em), ERR_OK, "%s", em.text);
    return text;
}

static void write_contents(const char *bytes, size_t n) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(file_write(path, bytes, n, &em), ERR_OK, "%s", em.text);
}

static int lines(void) {
    char *text = contents(NULL);
    int n = 0;
    for (const char *at = text; *at; at++)
        n += *at == '\n';
    free(text);
    return n;
}

/* A process puts shapes [first, last). */
static void put(int64_t first, int64_t last, uint64_t by) {
    struct choices_file *f = open_file();
    for (int64_t i = first; i < last; i++)
        check(choices_file_put(f, shape(i), words(i, by)), i, by);
    choices_file_close(f);
}

static void check_file(int64_t first, int64_t last, uint64_t by) {
    struct choices_file *f = open_file();
    for (int64_t i = first; i < last; i++)
        check(choices_file_find(f, shape(i)), i, by);
    cr_assert_null(choices_file_find(f, shape(last)));
    choices_file_close(f);
}

Test(choices, come_back_from_the_file) {
    struct stat st;
    struct choices_file *f = open_file();
    cr_assert_null(choices_file_find(f, shape(0)));
    choices_file_close(f);
    cr_assert_neq(stat(path, &st), 0, "a file for nothing");
    put(0, 3, 1);
    put(3, 5, 1);
    check_file(0, 5, 1);
    cr_assert_eq(lines(), 6);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0600);
}

/* Two that have the file open at the same time: what one adds the other sees, and the first choice
 * of a shape is everybody's. */
Test(choices, of_the_first_count) {
    struct choices_file *a = open_file(), *b = open_file();
    check(choices_file_put(a, shape(0), words(0, 1)), 0, 1);
    check(choices_file_put(b, shape(0), words(0, 2)), 0, 1);
    check(choices_file_put(b, shape(1), words(1, 2)), 1, 2);
    check(choices_file_find(a, shape(1)), 1, 2);
    check(choices_file_put(a, shape(1), words(1, 1)), 1, 2);
    choices_file_close(a);
    choices_file_close(b);
    cr_assert_eq(lines(), 3);
}

enum { PROCESSES = 6, SHARED = 150 };

/* What one of several processes does and gets, once nobody can write to `start` any more. */
static void share(uint64_t by, int start, int to) {
    uint64_t got[SHARED];
    (void)!read(start, got, 1);
    struct choices_file *f = open_file();
    for (int64_t i = 0; i < SHARED; i++)
        got[i] = choices_file_put(f, shape(i), words(i, by))[1];
    choices_file_close(f);
    _exit(write(to, got, sizeof got) == (ssize_t)sizeof got ? 0 : 1);
}

Test(choices, of_processes_at_the_same_time_agree) {
    int ends[PROCESSES][2], start[2];
    uint64_t got[PROCESSES][SHARED];
    cr_assert_eq(pipe(start), 0);
    for (int p = 0; p < PROCESSES; p++) {
        cr_assert_eq(pipe(ends[p]), 0);
        if (fork() == 0) {
            close(start[1]);
            share((uint64_t)p + 1, start[0], ends[p][1]);
        }
    }
    close(start[1]);
    for (int p = 0, status; p < PROCESSES; p++) {
        cr_assert_eq(read(ends[p][0], got[p], sizeof got[p]), (ssize_t)sizeof got[p]);
        cr_assert_eq(memcmp(got[p], got[0], sizeof got[0]), 0, "process %d has its own", p);
        (void)wait(&status);
        cr_assert_eq(status, 0);
    }
    struct choices_file *f = open_file();
    for (int64_t i = 0; i < SHARED; i++)
        check(choices_file_find(f, shape(i)), i, got[0][i]);
    choices_file_close(f);
    cr_assert_eq(lines(), SHARED + 1);
}

/* Wherever a process was killed while it wrote, what stands before is kept, and the next one adds
 * to it. */
Test(choices, are_kept_up_to_where_a_process_was_killed) {
    size_t n, header = strlen(HEADER);
    put(0, 3, 1);
    char *whole = contents(&n);
    cr_assert_eq(strncmp(whole, HEADER, header), 0, "%s", whole);
    size_t each = (n - header) / 3;
    for (size_t cut = 0; cut <= n; cut++) {
        int64_t kept = cut < header ? 0 : (int64_t)((cut - header) / each);
        write_contents(whole, cut);
        check_file(0, kept, 1);
        put(kept, kept + 2, 7);
        cr_assert_eq(lines(), kept + 3, "cut at %zu", cut);
        struct choices_file *f = open_file();
        for (int64_t i = 0; i < kept + 2; i++)
            check(choices_file_find(f, shape(i)), i, i < kept ? 1 : 7);
        choices_file_close(f);
    }
    free(whole);
}

/* Of another device, driver or version, or with a line that is none: begun anew, with what is known
 * from before that line, once there is something to write. */
Test(choices, in_a_file_of_another_device_or_a_damaged_one_are_begun_anew) {
    static const char *const bad[] = {"ffwd-algorithms 1 device=B driver=1\n",
                                      "ffwd-algorithms 2 something else\nand more\n",
                                      HEADER "1 2 3: 4\n", HEADER "\n", HEADER "x"};
    size_t n;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_contents(bad[i], strlen(bad[i]));
        put(0, 2, 1);
        check_file(0, 2, 1);
        cr_assert_eq(lines(), 3);
    }
    char *whole = contents(&n);
    char *damaged = xmalloc(2 * n);
    memcpy(damaged, whole, n);
    memcpy(damaged + n, "1 2\n", 4);
    damaged[strlen(HEADER) + 4] = '\0'; /* in the first line */
    write_contents(damaged, n + 4);
    put(0, 2, 2);
    check_file(0, 2, 2);
    memcpy(damaged, whole, n);
    write_contents(damaged, n + 4);
    put(2, 3, 1);
    check_file(0, 3, 1);
    free(damaged);
    free(whole);
}

/* Begun anew under the feet of one that has read more of it. */
Test(choices, are_read_again_where_the_file_is_another) {
    struct choices_file *f = open_file();
    for (int64_t i = 0; i < 3; i++)
        (void)choices_file_put(f, shape(i), words(i, 1));
    cr_assert_eq(unlink(path), 0);
    put(3, 5, 2);
    check(choices_file_find(f, shape(3)), 3, 2);
    check(choices_file_put(f, shape(4), words(4, 1)), 4, 2);
    check(choices_file_put(f, shape(5), words(5, 1)), 5, 1);
    check(choices_file_find(f, shape(0)), 0, 1);
    choices_file_close(f);
    f = open_file();
    check(choices_file_find(f, shape(4)), 4, 2);
    check(choices_file_find(f, shape(5)), 5, 1);
    cr_assert_null(choices_file_find(f, shape(0)));
    choices_file_close(f);
}

/* ---- files that are not used ---------------------------------------------------------------- */

static int logged, log_end;

/* What is logged goes to a file from here on; returns how many lines of it say `text`. */
static void log_to_file(void) {
    char name[128];
    (void)snprintf(name, sizeof name, "%s/log", dir);
    log_end = dup(2);
    logged = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    cr_assert_geq(dup2(logged, 2), 0);
}

static int log_lines(const char *text) {
    static char all[65536];
    ssize_t n = pread(logged, all, sizeof all - 1, 0);
    cr_assert_geq(dup2(log_end, 2), 0);
    close(logged);
    close(log_end);
    cr_assert_geq(n, 0);
    all[n] = '\0';
    int found = 0;
    for (const char *at = all; (at = strstr(at, text)) != NULL; at++)
        found++;
    return found;
}

/* The file is left alone, which is said once; choices are kept in memory. */
static void check_unused(const char *why) {
    log_to_file();
    struct choices_file *f = open_file();
    for (int64_t i = 0; i < 3; i++) {
        cr_assert_null(choices_file_find(f, shape(i)));
        check(choices_file_put(f, shape(i), words(i, 1)), i, 1);
        check(choices_file_find(f, shape(i)), i, 1);
    }
    choices_file_close(f);
    cr_assert_eq(log_lines("cuda.algorithms"), 1, "%s", why);
}

Test(choices, leave_what_is_no_such_file_alone) {
    static const char *const texts[] = {"Chapter 1\nIt was", "device=A driver=1\n", "\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        write_contents(texts[i], strlen(texts[i]));
        check_unused(texts[i]);
        char *text = contents(NULL);
        cr_assert_str_eq(text, texts[i]);
        free(text);
    }
}

Test(choices, follow_no_link_and_open_no_pipe_or_folder) {
    char to[128];
    struct stat st;
    (void)snprintf(to, sizeof to, "%s/target", dir);
    cr_assert_eq(symlink(to, path), 0);
    check_unused("link");
    cr_assert_neq(stat(to, &st), 0, "the link was followed");
    unlink(path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    check_unused("pipe");
    unlink(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    check_unused("folder");
    (void)rmdir(path);
    (void)snprintf(path, sizeof path, "/proc/ffwd/algorithms");
    check_unused("no folder");
}

Test(choices, do_not_read_an_enormous_file) {
    write_contents(HEADER, strlen(HEADER));
    cr_assert_eq(truncate(path, (off_t)CHOICES_FILE_MOST + 1), 0);
    check_unused("enormous");
    cr_assert_eq(file_size(path), (int64_t)CHOICES_FILE_MOST + 1);
}

/* Whoever holds the lock for ever stops nobody for longer than a second, and once. */
Test(choices, do_not_wait_for_ever) {
    put(0, 1, 1);
    int fd = open(path, O_RDONLY);
    cr_assert_eq(flock(fd, LOCK_EX), 0);
    (void)alarm(10);
    check_unused("locked");
    close(fd);
    check_file(0, 1, 1);
}

/* A disk that is full in the middle of a line leaves no part of it. */
Test(choices, are_written_whole_or_not_at_all) {
    put(0, 2, 1);
    size_t n;
    char *before = contents(&n);
    free(before);
    const struct rlimit small = {n + 20, RLIM_INFINITY};
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    struct choices_file *f = open_file();
    for (int64_t i = 2; i < 5; i++)
        check(choices_file_put(f, shape(i), words(i, 1)), i, 1);
    check(choices_file_find(f, shape(0)), 0, 1);
    choices_file_close(f);
    cr_assert_eq(file_size(path), (int64_t)n);
    check_file(0, 2, 1);
}

/* One that may be read and not written is used, and what is missing in it kept in memory. */
Test(choices, of_a_file_that_may_not_be_written_are_used) {
    put(0, 2, 1);
    cr_assert_eq(chmod(path, 0400), 0);
    cr_assert_eq(chmod(dir, 0755), 0);
    if (geteuid() == 0) {
        cr_assert_eq(chown(path, 65534, 65534), 0);
        cr_assert_eq(seteuid(65534), 0);
    }
    struct choices_file *f = open_file();
    check(choices_file_find(f, shape(1)), 1, 1);
    check(choices_file_put(f, shape(2), words(2, 1)), 2, 1);
    check(choices_file_put(f, shape(3), words(3, 1)), 3, 1);
    check(choices_file_find(f, shape(2)), 2, 1);
    choices_file_close(f);
    check_file(0, 2, 1);
    if (getuid() == 0)
        cr_assert_eq(seteuid(0), 0);
}
