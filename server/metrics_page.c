/* metrics: writing of Prometheus' text format, and what the system knows of the process. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "server/metrics_internal.h"

#define PAGE_MAX (4u << 20)
#define LINE_MAX_BYTES 1024

void metrics__begin(struct page_text *p) {
    buf_init(&p->out, PAGE_MAX);
}

char *metrics__end(struct page_text *p) {
    return buf_take(&p->out);
}

void metrics__line(struct page_text *p, const char *fmt, ...) {
    char line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (n > 0 && n < (int)sizeof line && buf_add(&p->out, line, (size_t)n) == ERR_OK)
        (void)!buf_add(&p->out, "\n", 1);
}

void metrics__head(struct page_text *p, const char *name, const char *type, const char *help) {
    metrics__line(p, "# HELP %s %s", name, help);
    metrics__line(p, "# TYPE %s %s", name, type);
}

void metrics__gauge(struct page_text *p, const char *name, const char *help, double value) {
    metrics__head(p, name, "gauge", help);
    if (isfinite(value))
        metrics__line(p, "%s %.17g", name, value);
    else
        metrics__line(p, "%s %s", name, isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf");
}

void metrics__counter(struct page_text *p, const char *name, const char *help, uint64_t value) {
    metrics__head(p, name, "counter", help);
    metrics__line(p, "%s %llu", name, (unsigned long long)value);
}

/* ---- the process ---------------------------------------------------------------------------- */

static int count_open_files(void) {
    DIR *d = opendir("/proc/self/fd");
    int n = -3; /* ".", ".." and the folder itself */
    if (d == NULL)
        return 0;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void write_memory(struct page_text *p) {
    char text[128];
    long long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%*d %lld", &pages) == 1)
        metrics__gauge(p, "process_resident_memory_bytes", "Resident memory of the server.",
                       (double)pages * (double)sysconf(_SC_PAGESIZE));
}

static void write_disk(struct page_text *p, const char *data_dir) {
    struct statvfs disk;
    if (statvfs(data_dir, &disk) != 0)
        return;
    double unit = (double)disk.f_frsize;
    metrics__gauge(p, "ffwd_disk_free_bytes", "Free to the server where its data is.",
                   unit * (double)disk.f_bavail);
    metrics__gauge(p, "ffwd_disk_used_bytes", "Used on that disk, by anyone.",
                   unit * (double)(disk.f_blocks - disk.f_bfree));
}

void metrics__process(struct page_text *p, const char *data_dir) {
    struct rusage used;
    struct rlimit files;
    write_disk(p, data_dir);
    write_memory(p);
    metrics__gauge(p, "process_open_fds", "Open files of the server.", count_open_files());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        metrics__gauge(p, "process_max_fds", "Most files it may open.", (double)files.rlim_cur);
    if (getrusage(RUSAGE_SELF, &used) == 0) {
        double seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                         (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
        metrics__head(p, "process_cpu_seconds_total", "counter", "CPU time of the server.");
        metrics__line(p, "process_cpu_seconds_total %.6f", seconds);
    }
}
