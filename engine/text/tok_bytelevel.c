/* tok_bytelevel: GPT-2's printable stand-ins for the 256 bytes. */
#include "engine/text/tok_bytelevel.h"

/* The bytes without a printable form, in order: 0…0x20, 0x7F…0xA0, 0xAD. */
static uint32_t stand_in(unsigned char b) {
    if (b <= 0x20)
        return 0x100u + b;
    if (b >= 0x7F && b <= 0xA0)
        return 0x121u + (b - 0x7Fu);
    return b == 0xAD ? 0x143u : b;
}

void bytelevel_encode(const char *bytes, size_t n, struct text *out) {
    for (size_t i = 0; i < n; i++)
        text_add_cp(out, stand_in((unsigned char)bytes[i]));
}

int bytelevel_byte(uint32_t cp) {
    if (cp >= 0x100 && cp <= 0x120)
        return (int)(cp - 0x100);
    if (cp >= 0x121 && cp <= 0x142)
        return (int)(cp - 0x121 + 0x7F);
    if (cp == 0x143)
        return 0xAD;
    if (cp > 0xFF || stand_in((unsigned char)cp) != cp)
        return -1;
    return (int)cp;
}
