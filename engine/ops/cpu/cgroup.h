/* cgroup: what a container may use of the machine.
 *
 * What:    the limits of this process's control group, as Linux shows them under /sys/fs/cgroup:
 *          version 2 (cgroup-v2.rst: cpu.max, memory.max), or version 1 (cpu.cfs_quota_us and
 *          cpu.cfs_period_us, memory.limit_in_bytes).
 * Owns:    nothing.
 * Threads: pure functions of the files.
 * Errors:  a file that is not there or says nothing is no limit.
 */
#ifndef FFWD_ENGINE_OPS_CPU_CGROUP_H
#define FFWD_ENGINE_OPS_CPU_CGROUP_H

#include <stddef.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

/* Processors' worth of time, rounded up, at least 1; INT_MAX: no limit. */
int cgroup_processors(const char *root);
/* Bytes; SIZE_MAX: no limit. */
size_t cgroup_memory(const char *root);

#endif
