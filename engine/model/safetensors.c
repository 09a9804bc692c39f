/* safetensors: reading. The header is scanned by hand so that every refusal names its byte. */
#include "engine/model/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/model/json_scan.h"

static const struct {
    const char *name;
    unsigned bits;
} dtypes[] = {
    /* in the format's order */
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
};

/* A tensor while the header is being checked. */
struct entry {
    struct safetensor view;
    char *name;
    uint64_t begin, end; /* bytes from the start of the data */
    size_t at;           /* byte of the file where its name stands */
};

struct safetensors {
    struct file_map map;
    char *path;
    struct entry *entries; /* in the order of names */
    size_t count, cap;
};

int safetensors_dtype_order(const char *dtype) {
    for (int i = 0; i < (int)(sizeof dtypes / sizeof dtypes[0]); i++)
        if (strcmp(dtypes[i].name, dtype) == 0)
            return i;
    return -1;
}

unsigned safetensors_dtype_bits(const char *dtype) {
    int order = safetensors_dtype_order(dtype);
    return order < 0 ? 0 : dtypes[order].bits;
}

/* ---- the header's grammar ------------------------------------------------------------------ */

static enum err scan_shape(struct json_scan *s, struct safetensor *t) {
    TRY(json_scan_byte(s, '['));
    for (t->rank = 0; !json_scan_accept(s, ']'); t->rank++) {
        if (t->rank > 0)
            TRY(json_scan_byte(s, ','));
        if (t->rank == LIMIT_TENSOR_RANK)
            return json_scan_fail(s, "a shape has more than %d dimensions", LIMIT_TENSOR_RANK);
        TRY(json_scan_u64(s, &t->shape[t->rank]));
    }
    return ERR_OK;
}

static enum err scan_field(struct json_scan *s, struct entry *e, unsigned *seen) {
    char key[16], dtype[16];
    TRY(json_scan_string(s, key, sizeof key, NULL));
    TRY(json_scan_byte(s, ':'));
    unsigned bit;
    if (strcmp(key, "dtype") == 0) {
        bit = 1;
        TRY(json_scan_string(s, dtype, sizeof dtype, NULL));
        int order = safetensors_dtype_order(dtype);
        if (order < 0)
            return json_scan_fail(s, "dtype \"%s\" is not one of the format", dtype);
        e->view.dtype = dtypes[order].name;
    } else if (strcmp(key, "shape") == 0) {
        bit = 2;
        TRY(scan_shape(s, &e->view));
    } else if (strcmp(key, "data_offsets") == 0) {
        bit = 4;
        TRY(json_scan_byte(s, '['));
        TRY(json_scan_u64(s, &e->begin));
        TRY(json_scan_byte(s, ','));
        TRY(json_scan_u64(s, &e->end));
        TRY(json_scan_byte(s, ']'));
    } else {
        return json_scan_fail(s, "a tensor has the unknown key \"%s\"", key);
    }
    if (*seen & bit)
        return json_scan_fail(s, "a tensor has the key \"%s\" twice", key);
    *seen |= bit;
    return ERR_OK;
}

/* {"dtype":…,"shape":[…],"data_offsets":[b,e]}, the keys in any order. */
static enum err scan_entry(struct json_scan *s, struct entry *e) {
    unsigned seen = 0;
    TRY(json_scan_byte(s, '{'));
    for (int i = 0; !json_scan_accept(s, '}'); i++) {
        if (i > 0)
            TRY(json_scan_byte(s, ','));
        TRY(scan_field(s, e, &seen));
    }
    if (seen != 7)
        return json_scan_fail(s, "tensor \"%.200s\" lacks its %s", e->name,
                              !(seen & 1)   ? "dtype"
                              : !(seen & 2) ? "shape"
                                            : "data_offsets");
    uint64_t bits = safetensors_dtype_bits(e->view.dtype);
    for (int i = 0; i < e->view.rank; i++)
        if (__builtin_mul_overflow(bits, e->view.shape[i], &bits))
            return json_scan_fail(s, "the size of tensor \"%.200s\" overflows", e->name);
    if (bits % 8 != 0)
        return json_scan_fail(s, "tensor \"%.200s\" does not fill whole bytes", e->name);
    if (e->end < e->begin || e->end - e->begin != bits / 8)
        return json_scan_fail(s,
                              "tensor \"%.200s\" needs %llu bytes by its dtype and shape, but its "
                              "data_offsets are [%llu,%llu]",
                              e->name, (unsigned long long)(bits / 8), (unsigned long long)e->begin,
                              (unsigned long long)e->end);
    e->view.bytes = (size_t)(bits / 8);
    return ERR_OK;
}

static enum err scan_metadata(struct json_scan *s) {
    if (json_scan_null(s))
        return ERR_OK;
    TRY(json_scan_byte(s, '{'));
    for (int i = 0; !json_scan_accept(s, '}'); i++) {
        if (i > 0)
            TRY(json_scan_byte(s, ','));
        TRY(json_scan_string(s, NULL, 0, NULL));
        TRY(json_scan_byte(s, ':'));
        TRY(json_scan_string(s, NULL, 0, NULL));
    }
    return ERR_OK;
}

static struct entry *entry_add(struct safetensors *st, const char *name, size_t at) {
    if (st->count == st->cap) {
        st->cap = st->cap ? st->cap * 2 : 64;
        st->entries = xreallocarray(st->entries, st->cap, sizeof *st->entries);
    }
    struct entry *e = &st->entries[st->count++];
    *e = (struct entry){.name = xstrdup(name), .at = at};
    return e;
}

static enum err scan_header(struct safetensors *st, struct json_scan *s) {
    char name[LIMIT_TENSOR_NAME + 1];
    bool metadata = false;
    TRY(json_scan_utf8(s));
    if (s->p == s->end || *s->p != '{')
        return json_scan_fail(s, "the header does not start with '{'");
    TRY(json_scan_byte(s, '{'));
    for (int i = 0; !json_scan_accept(s, '}'); i++) {
        size_t at;
        if (i > 0)
            TRY(json_scan_byte(s, ','));
        TRY(json_scan_string(s, name, sizeof name, &at));
        TRY(json_scan_byte(s, ':'));
        if (strcmp(name, "__metadata__") == 0) {
            if (metadata)
                return json_scan_fail(s, "\"__metadata__\" is there twice");
            metadata = true;
            TRY(scan_metadata(s));
            continue;
        }
        if (st->count == LIMIT_TENSORS)
            return json_scan_fail(s, "more than %d tensors", LIMIT_TENSORS);
        TRY(scan_entry(s, entry_add(st, name, at)));
    }
    return json_scan_end(s);
}

/* ---- checks over all tensors ---------------------------------------------------------------- */

static int by_offset(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c != 0 ? c : (x->at > y->at) - (x->at < y->at);
}

/* The data must be covered from its first to its last byte, each byte once: a file can hold
 * nothing that a reader does not see. */
static enum err check_cover(struct safetensors *st, size_t data_at, struct err_msg *em) {
    uint64_t size = st->map.len - data_at, next = 0;
    if (st->count > 0)
        qsort(st->entries, st->count, sizeof *st->entries, by_offset);
    for (size_t i = 0; i < st->count; i++) {
        struct entry *e = &st->entries[i];
        if (e->begin != next)
            return err_set(em, ERR_INPUT,
                           "%s: byte %zu: tensor \"%.200s\" starts at data offset %llu, but the "
                           "one before it ends at %llu (%s)",
                           st->path, e->at, e->name, (unsigned long long)e->begin,
                           (unsigned long long)next, e->begin > next ? "a hole" : "an overlap");
        if (e->end > size)
            return err_set(em, ERR_INPUT,
                           "%s: byte %zu: tensor \"%.200s\" ends at data offset %llu, but the file "
                           "has %llu bytes of data; it is cut short",
                           st->path, e->at, e->name, (unsigned long long)e->end,
                           (unsigned long long)size);
        e->view.data = st->map.data + data_at + e->begin;
        next = e->end;
    }
    if (next != size)
        return err_set(em, ERR_INPUT, "%s: byte %llu: %llu bytes of data belong to no tensor",
                       st->path, (unsigned long long)(data_at + next),
                       (unsigned long long)(size - next));
    return ERR_OK;
}

static enum err check_names(struct safetensors *st, struct err_msg *em) {
    if (st->count > 0)
        qsort(st->entries, st->count, sizeof *st->entries, by_name);
    for (size_t i = 0; i < st->count; i++) {
        struct entry *e = &st->entries[i];
        if (i > 0 && strcmp(e->name, e[-1].name) == 0)
            return err_set(em, ERR_INPUT, "%s: byte %zu: tensor \"%.200s\" is there twice",
                           st->path, e->at, e->name);
        e->view.name = e->name;
    }
    return ERR_OK;
}

static enum err check_file(struct safetensors *st, struct err_msg *em) {
    const unsigned char *d = st->map.data;
    if (st->map.len < 8)
        return err_set(em, ERR_INPUT, "%s: byte %zu: the file ends within the header's length",
                       st->path, st->map.len);
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | d[i];
    if (n > LIMIT_SAFETENSORS_HEADER)
        return err_set(em, ERR_INPUT,
                       "%s: byte 0: a header of %llu bytes; at most %u are allowed (is this a "
                       "safetensors file?)",
                       st->path, (unsigned long long)n, LIMIT_SAFETENSORS_HEADER);
    if (n > st->map.len - 8)
        return err_set(em, ERR_INPUT,
                       "%s: byte 0: a header of %llu bytes does not fit in a file of %zu", st->path,
                       (unsigned long long)n, st->map.len);
    struct json_scan s = {.start = d, .p = d + 8, .end = d + 8 + n, .path = st->path, .em = em};
    TRY(scan_header(st, &s));
    TRY(check_cover(st, (size_t)n + 8, em));
    return check_names(st, em);
}

enum err safetensors_open(const char *path, struct safetensors **out, struct err_msg *em) {
    struct safetensors *st = xcalloc(1, sizeof *st);
    st->path = xstrdup(path);
    enum err e = file_map_open(path, &st->map, em);
    if (e == ERR_OK)
        e = check_file(st, em);
    if (e != ERR_OK) {
        safetensors_close(st);
        st = NULL;
    }
    *out = st;
    return e;
}

void safetensors_close(struct safetensors *st) {
    if (st == NULL)
        return;
    for (size_t i = 0; i < st->count; i++)
        free(st->entries[i].name);
    free(st->entries);
    file_map_close(&st->map);
    free(st->path);
    free(st);
}

const char *safetensors_path(const struct safetensors *st) {
    return st->path;
}

size_t safetensors_count(const struct safetensors *st) {
    return st->count;
}

const struct safetensor *safetensors_at(const struct safetensors *st, size_t i) {
    return &st->entries[i].view;
}

const struct safetensor *safetensors_find(const struct safetensors *st, const char *name) {
    size_t lo = 0, hi = st->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(name, st->entries[mid].name);
        if (c == 0)
            return &st->entries[mid].view;
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}
