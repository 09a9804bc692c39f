/* md5: streaming MD5 as lower-case hex.
 *
 * What:    the checksum that clients may send with a completed upload. It finds accidents only;
 *          whatever has to stand against intent uses SHA-256.
 * Owns:    nothing; the state is the caller's.
 * Threads: one state, one thread.
 * Errors:  none.
 */
#ifndef FFWD_BASE_MD5_H
#define FFWD_BASE_MD5_H

#include <stddef.h>
#include <stdint.h>

#define MD5_HEX_SIZE 33 /* 32 digits and the NUL */

struct md5 {
    uint32_t state[4];
    uint64_t bytes;
    unsigned char block[64]; /* the bytes % 64 that wait for the rest of their block */
};

void md5_init(struct md5 *h);
void md5_add(struct md5 *h, const void *bytes, size_t n);
void md5_hex(struct md5 *h, char out[MD5_HEX_SIZE]);

#endif
