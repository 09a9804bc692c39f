/* attention: see attention.h. */
#include "engine/ops/cpu/attention.h"

#include <string.h>

const struct blocks *attention_blocks(const struct cpu *c, enum dtype dtype) {
    return dtype == DTYPE_BF16 && c->native_bf16 && c->k->bf16 ? c->k->bf16 : c->k->f32;
}

/* Rows of one head. */
static struct tensor head_rows(struct tensor t, int64_t head, int64_t head_dim, int64_t first,
                               int64_t count) {
    return tensor_rows(tensor_columns(t, head * head_dim, head_dim), first, count);
}

void attention_load(const struct cpu *c, const struct blocks *e, struct tensor t, int64_t head,
                    int64_t head_dim, int64_t first, int64_t count, void *dst) {
    struct tensor from = head_rows(t, head, head_dim, first, count);
    int64_t size = (int64_t)dtype_size(e->dtype), width = block_round(head_dim) * size;
    int64_t filled = head_dim * size;
    char *row = dst;
    for (int64_t i = 0; i < count; i++, row += width) {
        if (from.dtype == e->dtype)
            memcpy(row, row_at(from, i), (size_t)filled);
        else
            cpu_widen(c, from.dtype, row_at(from, i), head_dim, (float *)(void *)row);
        memset(row + filled, 0, (size_t)(width - filled));
    }
    memset(row, 0, (size_t)((block_round(count) - count) * width));
}

void attention_store(const struct cpu *c, struct tensor t, int64_t head, int64_t head_dim,
                     int64_t first, int64_t count, const float *src) {
    struct tensor to = head_rows(t, head, head_dim, first, count);
    for (int64_t i = 0; i < count; i++)
        cpu_narrow(c, to.dtype, row_at(to, i), src + i * block_round(head_dim), head_dim);
}
