/* cgroup: see cgroup.h. */
#include "engine/ops/cpu/cgroup.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* Up to two numbers at the start of root/name; how many there are. */
static int read_numbers(const char *root, const char *name, long long numbers[2]) {
    char path[512];
    int n = snprintf(path, sizeof path, "%s/%s", root, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    n = fscanf(f, "%lld %lld", &numbers[0], &numbers[1]);
    fclose(f);
    return n < 0 ? 0 : n;
}

/* Microseconds of processor time in each period; false: no limit. */
static bool read_quota(const char *root, long long *quota, long long *period) {
    long long v[2], per[2];
    if (read_numbers(root, "cpu.max", v) == 2) {
        *quota = v[0];
        *period = v[1];
        return true;
    }
    if (read_numbers(root, "cpu/cpu.cfs_quota_us", v) < 1 ||
        read_numbers(root, "cpu/cpu.cfs_period_us", per) < 1)
        return false;
    *quota = v[0];
    *period = per[0];
    return true;
}

int cgroup_processors(const char *root) {
    long long quota, period;
    if (!read_quota(root, &quota, &period) || quota <= 0 || period <= 0)
        return INT_MAX;
    long long whole = quota / period + (quota % period > 0);
    return whole < INT_MAX ? (int)whole : INT_MAX;
}

size_t cgroup_memory(const char *root) {
    long long v[2];
    if (read_numbers(root, "memory.max", v) < 1 &&
        read_numbers(root, "memory/memory.limit_in_bytes", v) < 1)
        return SIZE_MAX;
    return v[0] > 0 ? (size_t)v[0] : SIZE_MAX;
}
