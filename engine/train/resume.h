/* resume: resume points, OUT/resume/step-N/.
 *
 * What:    a resume point is a folder with state.json (any JSON object), tensors.safetensors (f32)
 *          and manifest.json (bytes and SHA-256 of the other two). It is written under another
 *          name, synced and renamed, so that it is whole or absent; one that does not match its
 *          manifest is passed over.
 * Owns:    nothing but what struct resume_point holds; free with resume_point_clear.
 * Threads: one writer per folder.
 * Errors:  ERR_NO_SPACE and ERR_IO from the disk; points written earlier stay as they are.
 */
#ifndef FFWD_ENGINE_TRAIN_RESUME_H
#define FFWD_ENGINE_TRAIN_RESUME_H

#include <jansson.h>
#include <stdint.h>

#include "engine/ops/ops.h"

#define RESUME_KEPT 3 /* points that stay */

/* f32 values in device memory. */
struct resume_tensor {
    const char *name;
    float *data;
    size_t n;
};

/* Writes the point of a step, replacing one of the same step, and removes all but the newest
 * RESUME_KEPT. resume_dir (OUT/resume) must exist. */
enum err resume_save(const char *resume_dir, int64_t step, const json_t *state, struct device *dev,
                     const struct resume_tensor *tensors, int n_tensors,
                     struct err_msg *em) NODISCARD;

struct resume_point {
    int64_t step; /* -1: there is none */
    char *dir;
    json_t *state;
    int passed_over; /* newer points that were not whole */
};
void resume_point_clear(struct resume_point *p);

/* The newest whole point; removes what interrupted writes left behind. A missing folder is a folder
 * without points. */
enum err resume_find(const char *resume_dir, struct resume_point *out,
                     struct err_msg *em) NODISCARD;
/* Reads tensors of exactly these names and sizes. */
enum err resume_load(const struct resume_point *p, struct device *dev,
                     const struct resume_tensor *tensors, int n_tensors,
                     struct err_msg *em) NODISCARD;
/* Removes points of later steps: they were passed over, and must not count among those kept. */
enum err resume_drop_after(const char *resume_dir, int64_t step, struct err_msg *em) NODISCARD;

#endif
