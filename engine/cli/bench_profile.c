/* bench_profile: see bench_profile.h. */
#include "engine/cli/bench_profile.h"

#include <stdio.h>

struct row {
    const char *label;
    double calls, ms, share, gflops, gbytes, bound_ms;
};

static struct row make_row(const struct profile_entry *e, double steps, double seconds,
                           const struct bench_bounds *bounds) {
    double arithmetic = e->flops / bounds->flops, traffic = e->bytes / bounds->bytes;
    return (struct row){.label = e->label,
                        .calls = (double)e->calls / steps,
                        .ms = 1e3 * e->seconds / steps,
                        .share = e->seconds / seconds,
                        .gflops = e->flops / e->seconds / 1e9,
                        .gbytes = e->bytes / e->seconds / 1e9,
                        .bound_ms = 1e3 * (arithmetic > traffic ? arithmetic : traffic) / steps};
}

static void print_row(const struct row *r) {
    fprintf(stderr, "%-32s %6.0f %10.2f %6.1f%% %9.1f %8.1f %10.2f %6.0f%%\n", r->label, r->calls,
            r->ms, 100 * r->share, r->gflops, r->gbytes, r->bound_ms,
            r->ms > 0 ? 100 * r->bound_ms / r->ms : 0.0);
}

static json_t *row_json(const struct row *r) {
    return json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "operation", r->label, "calls",
                     r->calls, "ms", r->ms, "share", r->share, "gflops", r->gflops, "gbytes_per_s",
                     r->gbytes, "bound_ms", r->bound_ms);
}

json_t *bench_profile_report(struct profile *p, int64_t steps, double seconds,
                             const struct bench_bounds *bounds) {
    size_t n;
    const struct profile_entry *entries = profile_entries(p, &n);
    double in_operations = 0, n_steps = (double)steps;
    json_t *rows = json_array();
    fprintf(stderr, "one step %.1f ms; products alone %.0f GFLOP/s, memory %.1f GB/s\n",
            1e3 * seconds / n_steps, bounds->flops / 1e9, bounds->bytes / 1e9);
    fprintf(stderr, "%-32s %6s %10s %7s %9s %8s %10s %7s\n", "operation", "calls", "ms", "share",
            "GFLOP/s", "GB/s", "bound ms", "of it");
    for (size_t i = 0; i < n; i++) {
        struct row r = make_row(&entries[i], n_steps, seconds, bounds);
        in_operations += entries[i].seconds;
        print_row(&r);
        json_array_append_new(rows, row_json(&r));
    }
    double left = seconds - in_operations;
    struct row rest = {
        .label = "everything else", .ms = 1e3 * left / n_steps, .share = left / seconds};
    print_row(&rest);
    json_array_append_new(rows, row_json(&rest));
    return rows;
}
