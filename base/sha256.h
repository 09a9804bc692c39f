/* sha256: streaming SHA-256 as lower-case hex.
 *
 * What:    fingerprints of files, data sets, checkpoints and API keys (libsodium's implementation).
 * Owns:    nothing; the state is the caller's.
 * Threads: one state, one thread.
 * Errors:  only those of reading a file.
 */
#ifndef FFWD_BASE_SHA256_H
#define FFWD_BASE_SHA256_H

#include <sodium/crypto_hash_sha256.h>

#include "base/err.h"

#define SHA256_HEX_SIZE 65 /* 64 digits and the NUL */

struct sha256 {
    crypto_hash_sha256_state state;
};

void sha256_init(struct sha256 *h);
void sha256_add(struct sha256 *h, const void *bytes, size_t n);
void sha256_hex(struct sha256 *h, char out[SHA256_HEX_SIZE]);
/* All of a file, read in pieces. */
enum err sha256_file(const char *path, char out[SHA256_HEX_SIZE], struct err_msg *em) NODISCARD;

#endif
