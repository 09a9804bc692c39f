/* fingerprint: what a run depends on, so that a resumed run can tell that it still is the same.
 *
 * What:    hashes of data files, model and adapter folders; and the comparison of two configuration
 *          objects.
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  those of reading; ERR_CONFLICT with the path of the first value that differs.
 */
#ifndef FFWD_ENGINE_TRAIN_FINGERPRINT_H
#define FFWD_ENGINE_TRAIN_FINGERPRINT_H

#include <jansson.h>

#include "base/err.h"
#include "base/sha256.h"

/* SHA-256 over names, sizes and contents of a folder's *.json, *.jinja and *.safetensors files, in
 * order of their names. Of files above 256 MiB the first 8 MiB and 64 pieces of 1 MiB, evenly
 * spaced, stand for the whole: reading all of a large model at each start would take minutes. */
enum err fingerprint_folder(const char *dir, char out[SHA256_HEX_SIZE],
                            struct err_msg *em) NODISCARD;

/* ERR_OK if both are equal; else ERR_CONFLICT with em->param = path of the difference and a text
 * that shows both values. */
enum err fingerprint_compare(const json_t *then, const json_t *now, struct err_msg *em) NODISCARD;

#endif
