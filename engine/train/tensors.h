/* tensors: f32 device buffers as a safetensors file, written and read piece by piece.
 *
 * What:    the file of a resume point. Any safetensors reader opens it; tensors_read takes only
 *          what tensors_write wrote for the same names and sizes.
 * Owns:    nothing after return.
 * Threads: one control thread.
 * Errors:  disk errors; ERR_INPUT where names or sizes differ.
 */
#ifndef FFWD_ENGINE_TRAIN_TENSORS_H
#define FFWD_ENGINE_TRAIN_TENSORS_H

#include "engine/train/resume.h"

enum err tensors_write(const char *path, struct device *dev, const struct resume_tensor *tensors,
                       int n, struct err_msg *em) NODISCARD;
enum err tensors_read(const char *path, struct device *dev, const struct resume_tensor *tensors,
                      int n, struct err_msg *em) NODISCARD;

#endif
