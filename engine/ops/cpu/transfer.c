/* transfer: fetch and send of ops.h, where host and device are one: memory to fill, and a copy. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/ops/cpu/cpu.h"

struct fetch {
    size_t bytes;
    char host[];
};

enum err cpu_fetch_new(struct device *dev, size_t bytes, struct fetch **out, struct err_msg *em) {
    (void)dev, (void)em;
    *out = xmalloc(sizeof **out + bytes);
    (*out)->bytes = bytes;
    return ERR_OK;
}

void cpu_fetch_free(struct device *dev, struct fetch *f) {
    (void)dev;
    free(f);
}

void cpu_fetch_begin(struct device *dev, struct fetch *f, size_t at, const void *src,
                     size_t bytes) {
    (void)dev;
    memcpy(f->host + at, src, bytes);
}

enum err cpu_fetch_end(struct device *dev, struct fetch *f, const void **out, struct err_msg *em) {
    (void)dev, (void)em;
    *out = f->host;
    return ERR_OK;
}

struct send {
    size_t bytes;
    char host[];
};

enum err cpu_send_new(struct device *dev, size_t bytes, struct send **out, struct err_msg *em) {
    (void)dev, (void)em;
    *out = xcalloc(1, sizeof **out + bytes);
    (*out)->bytes = bytes;
    return ERR_OK;
}

void cpu_send_free(struct device *dev, struct send *s) {
    (void)dev;
    free(s);
}

void *cpu_send_open(struct device *dev, struct send *s) {
    (void)dev;
    return s->host;
}

void cpu_send_begin(struct device *dev, struct send *s) {
    (void)dev, (void)s;
}

void cpu_send_end(struct device *dev, struct send *s, void *dst) {
    (void)dev;
    memcpy(dst, s->host, s->bytes);
}

size_t cpu_send_bytes(struct device *dev, size_t bytes) {
    (void)dev, (void)bytes;
    return 0;
}
