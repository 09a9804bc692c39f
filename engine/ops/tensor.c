/* tensor: element types, views of matrices, the layout of LoRA beside a linear. */
#include "engine/ops/ops.h"

size_t dtype_size(enum dtype dtype) {
    return dtype == DTYPE_F32 ? 4 : 2;
}

const char *dtype_name(enum dtype dtype) {
    switch (dtype) {
    case DTYPE_F32:
        return "f32";
    case DTYPE_BF16:
        return "bf16";
    case DTYPE_F16:
        return "f16";
    }
    return "unknown";
}

struct tensor tensor_columns(struct tensor t, int64_t first, int64_t cols) {
    t.data = (char *)t.data + first * (int64_t)dtype_size(t.dtype);
    t.cols = cols;
    return t;
}

struct tensor tensor_rows(struct tensor t, int64_t first, int64_t rows) {
    t.data = (char *)t.data + first * t.stride * (int64_t)dtype_size(t.dtype);
    t.rows = rows;
    return t;
}

int64_t tensor_stride(enum dtype dtype, int64_t cols) {
    int64_t line = 64 / (int64_t)dtype_size(dtype);
    int64_t lines = (cols + line - 1) / line;
    return (lines % 2 ? lines : lines + 1) * line;
}

struct lora_plan lora_plan_make(const struct lora *lora, int n_parts, int64_t in) {
    struct lora_plan p = {0};
    for (int i = 0; lora && i < n_parts; i++) {
        p.first[i] = p.rank;
        if (lora->rank[i] == 0)
            continue;
        struct lora_group *last = p.n_groups > 0 ? &p.group[p.n_groups - 1] : NULL;
        if (last && last->offset + (size_t)(last->rank * in) == lora->a[i])
            last->rank += lora->rank[i];
        else
            p.group[p.n_groups++] = (struct lora_group){p.rank, lora->rank[i], lora->a[i]};
        p.rank += lora->rank[i];
    }
    return p;
}
