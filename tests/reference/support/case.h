/* case: one folder of tests/reference/cases, opened for a test.
 *
 * What:    the model on a device, its rows, the expected values, and batches built from rows
 *          the way a trainer packs them.
 * Owns:    everything in struct ref_case; ref_case_close frees it.
 * Threads: one.
 * Errors:  a case that cannot be read fails the test.
 */
#ifndef FFWD_TESTS_REFERENCE_CASE_H
#define FFWD_TESTS_REFERENCE_CASE_H

#include <jansson.h>

#include "engine/model/adapter.h"
#include "engine/model/model.h"

enum { REF_ROWS_MAX = 16 };

struct ref_row {
    int32_t n;
    int32_t *ids, *labels;
};

struct ref_case {
    char dir[256];
    struct device *dev;
    struct model *model;
    struct adapter *adapter; /* NULL until ref_case_adapter */
    json_t *expected;
    struct ref_row rows[REF_ROWS_MAX];
    int n_rows;
};

/* Rows one after the other. */
struct ref_batch {
    struct host_batch host;
    int32_t *ids, *pos, *seq_start, *target_rows, *target_ids;
    uint64_t *keys;
};

/* Names of the cases. */
extern const char *const ref_cases[];
extern const int ref_n_cases;

/* The device of this build: device.c, for the CPU, or tests/cuda/support/devices.c. */
enum err ref_device_open(int threads, struct device **out, struct err_msg *em) NODISCARD;
/* Steps of a trajectory that this device takes: all on the CPU, fewer where a step is slow. */
extern const size_t ref_steps_most;

void ref_case_open(struct ref_case *c, const char *name, enum dtype dtype, int threads);
/* Opens the case's adapter. */
void ref_case_adapter(struct ref_case *c);
void ref_case_close(struct ref_case *c);

/* Rows numbered which[0…n-1]. */
void ref_batch_make(struct ref_batch *b, const struct ref_case *c, const int *which, int n);
void ref_batch_clear(struct ref_batch *b);

/* A pass that holds all rows at once. */
struct pass *ref_pass(struct ref_case *c, bool training);

#endif
