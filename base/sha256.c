/* sha256: streaming SHA-256 as hex. */
#include "base/sha256.h"

#include <errno.h>
#include <sodium/utils.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

#define PIECE (1u << 18)

void sha256_init(struct sha256 *h) {
    crypto_hash_sha256_init(&h->state);
}

void sha256_add(struct sha256 *h, const void *bytes, size_t n) {
    crypto_hash_sha256_update(&h->state, bytes, n);
}

void sha256_hex(struct sha256 *h, char out[SHA256_HEX_SIZE]) {
    unsigned char digest[crypto_hash_sha256_BYTES];
    crypto_hash_sha256_final(&h->state, digest);
    sodium_bin2hex(out, SHA256_HEX_SIZE, digest, sizeof digest);
}

enum err sha256_file(const char *path, char out[SHA256_HEX_SIZE], struct err_msg *em) {
    FILE *f = fopen(path, "rbe");
    if (f == NULL)
        return err_set_errno(em, errno, "cannot open %s", path);
    struct sha256 h;
    sha256_init(&h);
    unsigned char *piece = xmalloc(PIECE);
    for (size_t n; (n = fread(piece, 1, PIECE, f)) > 0;)
        sha256_add(&h, piece, n);
    enum err e = ferror(f) ? err_set_errno(em, errno, "cannot read %s", path) : ERR_OK;
    free(piece);
    (void)fclose(f);
    if (e == ERR_OK)
        sha256_hex(&h, out);
    return e;
}
