/* md5: the test suite of RFC 1321, and pieces that do not fit its blocks. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/md5.h"

/* RFC 1321, appendix A.5. */
static const char *const vectors[][2] = {
    {"", "d41d8cd98f00b204e9800998ecf8427e"},
    {"a", "0cc175b9c0f1b6a831c399e269772661"},
    {"abc", "900150983cd24fb0d6963f7d28e17f72"},
    {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
    {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
    {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
     "d174ab98d277d9f5a5611c2c9f419d9f"},
    {"1234567890123456789012345678901234567890123456789012345678901234567890"
     "1234567890",
     "57edf4a22be3c955ac49da2e2107b67a"},
};

Test(md5, published_vectors) {
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct md5 h;
        char hex[MD5_HEX_SIZE];
        md5_init(&h);
        md5_add(&h, vectors[i][0], strlen(vectors[i][0]));
        md5_hex(&h, hex);
        cr_expect_str_eq(hex, vectors[i][1]);
    }
}

Test(md5, pieces_of_any_size_are_the_whole) {
    const char *text = vectors[6][0];
    size_t n = strlen(text);
    for (size_t piece = 1; piece <= n; piece++) {
        struct md5 h;
        char hex[MD5_HEX_SIZE];
        md5_init(&h);
        for (size_t i = 0; i < n; i += piece)
            md5_add(&h, text + i, n - i < piece ? n - i : piece);
        md5_hex(&h, hex);
        cr_expect_str_eq(hex, vectors[6][1], "pieces of %zu", piece);
    }
}

/* A million times "a"; the value is that of md5sum (coreutils). */
Test(md5, many_blocks) {
    struct md5 h;
    char hex[MD5_HEX_SIZE], piece[1000];
    memset(piece, 'a', sizeof piece);
    md5_init(&h);
    for (int i = 0; i < 1000; i++)
        md5_add(&h, piece, sizeof piece);
    md5_hex(&h, hex);
    cr_expect_str_eq(hex, "7707d6ae4e027c70eea2a935c2296f21");
}
