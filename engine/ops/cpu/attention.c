/* attention: see attention.h. */
#include "engine/ops/cpu/attention.h"

void *piece(struct pieces *p, int64_t bytes) {
    void *at = p->base ? p->base + p->used : NULL;
    p->used += (size_t)(bytes + 63) / 64 * 64;
    return at;
}

const struct blocks *attention_blocks(const struct cpu *c, enum dtype dtype) {
    return dtype == DTYPE_BF16 && c->choice->bf16_attention ? c->k->bf16 : c->k->f32;
}

int64_t block_bytes(const struct blocks *e) {
    return BLOCK_UNIT * BLOCK_UNIT * (int64_t)dtype_size(e->dtype);
}

int64_t attention_keys_bytes(const struct cpu *c, const struct op_shapes *most, int64_t blocks) {
    int64_t kv_heads = most->keys / most->head_dim;
    return kv_heads * blocks * blocks_of(most->head_dim) *
           block_bytes(attention_blocks(c, most->dtype));
}

void attention_pack(const struct blocks *e, struct head_rows h, int64_t first, int64_t count,
                    enum tile_form form, int64_t step, char *dst) {
    struct tensor t = head_tensor(h, first, count);
    struct tile_block b = {.dtype = t.dtype, .stride = t.stride, .rows = count};
    for (int64_t col = 0; col < h.head_dim; col += BLOCK_UNIT, dst += step) {
        b.cols = h.head_dim - col < BLOCK_UNIT ? h.head_dim - col : BLOCK_UNIT;
        b.data = (const char *)t.data + col * (int64_t)dtype_size(t.dtype);
        e->pack(dst, &b, form);
    }
}

void attention_store(const struct cpu *c, const struct blocks *e, struct head_rows h, int64_t first,
                     int64_t count, const float *panel, const float *factor, float *rows) {
    struct tensor to = head_tensor(h, first, count);
    int64_t width = blocks_of(h.head_dim) * BLOCK_UNIT;
    e->turn(rows, panel, width, factor);
    for (int64_t i = 0; i < count; i++)
        cpu_write(c, h.t, row_at(to, i), rows + i * width, h.head_dim);
}

void attention_mask(const struct attention *a, const struct blocks *e, int64_t block,
                    struct range keys, float *s) {
    int64_t window = a->window > 0 ? a->window : INT32_MAX;
    for (int64_t k = keys.first; k < keys.end; k++, s += BLOCK_UNIT * BLOCK_UNIT) {
        int64_t behind = (block - k) * BLOCK_UNIT;
        if (k == block || behind + BLOCK_UNIT > window)
            e->mask(s, (int32_t)behind, (int32_t)window);
    }
}
