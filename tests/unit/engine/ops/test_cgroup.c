/* Limits of a container, from folders laid out as Linux lays out both versions of control groups.
 */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "engine/ops/cpu/cgroup.h"

static char root[] = "/tmp/ffwd-test-cgroup-XXXXXX";

static void setup(void) {
    static const char *const folders[] = {"cpu", "memory"};
    char path[128];
    cr_assert_not_null(mkdtemp(root));
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", root, folders[i]);
        cr_assert_eq(mkdir(path, 0700), 0);
    }
}

static void teardown(void) {
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", root);
    cr_assert_eq(system(command), 0);
}

static void put(const char *name, const char *text) {
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", root, name);
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

TestSuite(cgroup, .init = setup, .fini = teardown);

Test(cgroup, no_files_are_no_limits) {
    cr_expect_eq(cgroup_processors(root), INT_MAX);
    cr_expect_eq(cgroup_memory(root), SIZE_MAX);
    cr_expect_eq(cgroup_processors("/nowhere"), INT_MAX);
}

Test(cgroup, processors_of_version_2_are_rounded_up) {
    static const struct {
        const char *text;
        int want;
    } cases[] = {{"max 100000\n", INT_MAX},
                 {"200000 100000\n", 2},
                 {"150000 100000\n", 2},
                 {"1000 100000\n", 1},
                 {"50000 50000\n", 1},
                 {"6400000 100000\n", 64},
                 {"", INT_MAX},
                 {"200000\n", INT_MAX},
                 {"0 100000\n", INT_MAX},
                 {"100000 0\n", INT_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put("cpu.max", cases[i].text);
        cr_expect_eq(cgroup_processors(root), cases[i].want, "%s: %d", cases[i].text,
                     cgroup_processors(root));
    }
}

Test(cgroup, processors_of_version_1) {
    put("cpu/cpu.cfs_quota_us", "-1\n");
    cr_expect_eq(cgroup_processors(root), INT_MAX);
    put("cpu/cpu.cfs_period_us", "100000\n");
    cr_expect_eq(cgroup_processors(root), INT_MAX);
    put("cpu/cpu.cfs_quota_us", "250000\n");
    cr_expect_eq(cgroup_processors(root), 3);
}

Test(cgroup, memory_of_both_versions) {
    put("memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    cr_expect_eq(cgroup_memory(root), 9223372036854771712u);
    put("memory/memory.limit_in_bytes", "1073741824\n");
    cr_expect_eq(cgroup_memory(root), (size_t)1 << 30);
    put("memory.max", "2147483648\n");
    cr_expect_eq(cgroup_memory(root), (size_t)2 << 30);
}

Test(cgroup, memory_without_a_limit) {
    put("memory.max", "max\n");
    cr_expect_eq(cgroup_memory(root), SIZE_MAX);
}
