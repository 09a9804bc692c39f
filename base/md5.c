/* md5: streaming MD5 (RFC 1321) as lower-case hex. */
#include "base/md5.h"

#include <sodium/utils.h>
#include <string.h>

/* RFC 1321 §3.4: floor(2^32 * |sin(i + 1)|). */
static const uint32_t sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

static uint32_t load(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void store(unsigned char *p, uint64_t value, int n) {
    for (int i = 0; i < n; i++)
        p[i] = (unsigned char)(value >> (8 * i));
}

static void compress(struct md5 *h, const unsigned char *p) {
    static const int turns[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    uint32_t a = h->state[0], b = h->state[1], c = h->state[2], d = h->state[3];
    for (int i = 0; i < 64; i++) {
        uint32_t f;
        int word;
        if (i < 16) {
            f = (b & c) | (~b & d);
            word = i;
        } else if (i < 32) {
            f = (b & d) | (c & ~d);
            word = (5 * i + 1) % 16;
        } else if (i < 48) {
            f = b ^ c ^ d;
            word = (3 * i + 5) % 16;
        } else {
            f = c ^ (b | ~d);
            word = 7 * i % 16;
        }
        uint32_t sum = a + f + sines[i] + load(p + 4 * word);
        int turn = turns[i / 16][i % 4];
        a = d;
        d = c;
        c = b;
        b += sum << turn | sum >> (32 - turn);
    }
    h->state[0] += a;
    h->state[1] += b;
    h->state[2] += c;
    h->state[3] += d;
}

void md5_init(struct md5 *h) {
    *h = (struct md5){.state = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

void md5_add(struct md5 *h, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    size_t held = (size_t)(h->bytes % 64);
    h->bytes += n;
    if (held > 0) {
        size_t wanted = 64 - held, take = n < wanted ? n : wanted;
        memcpy(h->block + held, p, take);
        if (take < wanted)
            return;
        compress(h, h->block);
        p += take;
        n -= take;
    }
    for (; n >= 64; p += 64, n -= 64)
        compress(h, p);
    if (n > 0)
        memcpy(h->block, p, n);
}

void md5_hex(struct md5 *h, char out[MD5_HEX_SIZE]) {
    static const unsigned char padding[64] = {0x80};
    unsigned char length[8], digest[16];
    store(length, h->bytes * 8, 8);
    size_t held = (size_t)(h->bytes % 64);
    md5_add(h, padding, held < 56 ? 56 - held : 120 - held);
    md5_add(h, length, sizeof length);
    for (int i = 0; i < 4; i++)
        store(digest + 4 * i, h->state[i], 4);
    sodium_bin2hex(out, MD5_HEX_SIZE, digest, sizeof digest);
}
