/* batcher: rows to packed batches. */
#include "engine/train/batcher.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void batcher_init(struct batcher *b, int32_t capacity, int32_t max_rows, bool packing) {
    size_t tokens = (size_t)capacity, rows = (size_t)max_rows;
    *b = (struct batcher){
        .capacity = capacity,
        .max_rows = max_rows,
        .packing = packing,
        .rows = xcalloc(rows, sizeof *b->rows),
        .lengths = xcalloc(rows, sizeof *b->lengths),
        .ids = xcalloc(tokens, sizeof *b->ids),
        .pos = xcalloc(tokens, sizeof *b->pos),
        .target_rows = xcalloc(tokens, sizeof *b->target_rows),
        .target_ids = xcalloc(tokens, sizeof *b->target_ids),
        .keys = xcalloc(tokens, sizeof *b->keys),
        .seq_start = xcalloc(rows + 1, sizeof *b->seq_start),
        .bin_lengths = xcalloc(rows, sizeof *b->bin_lengths),
    };
}

void batcher_clear(struct batcher *b) {
    packing_clear(&b->bins);
    ids_clear(&b->row_ids);
    ids_clear(&b->row_labels);
    free(b->rows);
    free(b->lengths);
    free(b->ids);
    free(b->pos);
    free(b->target_rows);
    free(b->target_ids);
    free(b->keys);
    free(b->seq_start);
    free(b->bin_lengths);
    *b = (struct batcher){0};
}

void batcher_begin(struct batcher *b, struct dataset *ds, const int32_t *rows, int n) {
    b->ds = ds;
    b->n_rows = n;
    b->next_bin = 0;
    memcpy(b->rows, rows, (size_t)n * sizeof *rows);
    for (int i = 0; i < n; i++)
        b->lengths[i] = dataset_row_tokens(ds, rows[i]);
    packing_clear(&b->bins);
    packing_make(b->lengths, n, b->packing ? b->capacity : 0, &b->bins);
}

/* Appends one row to the batch being laid out. */
static enum err add_row(struct batcher *b, int index, struct host_batch *out, struct err_msg *em) {
    enum err e = dataset_read(b->ds, b->rows[index], &b->row_ids, &b->row_labels, em);
    if (e != ERR_OK)
        return e;
    int32_t n = (int32_t)b->row_ids.len, first = out->n_tokens;
    if (b->row_ids.len != (size_t)b->lengths[index] || n > b->capacity - first)
        return err_set(em, ERR_CONFLICT,
                       "row %d has %zu tokens now and had %d when the file was checked: the data "
                       "set or the tokenizer changed while the job was running",
                       b->rows[index], b->row_ids.len, b->lengths[index]);
    for (int32_t i = 0; i < n; i++) {
        b->ids[first + i] = b->row_ids.data[i];
        b->pos[first + i] = i;
        b->keys[first + i] = (uint64_t)index << 32 | (uint32_t)i;
        if (i > 0 && b->row_labels.data[i] != LABEL_IGNORE) {
            b->target_rows[out->n_targets] = first + i - 1;
            b->target_ids[out->n_targets++] = b->row_labels.data[i];
        }
    }
    b->seq_start[out->n_seqs] = first;
    b->bin_lengths[out->n_seqs++] = n;
    out->n_tokens = first + n;
    b->seq_start[out->n_seqs] = out->n_tokens;
    return ERR_OK;
}

enum err batcher_next(struct batcher *b, struct host_batch *out, bool *more, struct err_msg *em) {
    *more = b->next_bin < b->bins.n_bins;
    if (!*more)
        return ERR_OK;
    *out = (struct host_batch){
        .ids = b->ids,
        .pos = b->pos,
        .seq_start = b->seq_start,
        .target_rows = b->target_rows,
        .target_ids = b->target_ids,
        .keys = b->keys,
    };
    int bin = b->next_bin++;
    for (int i = b->bins.bin_start[bin]; i < b->bins.bin_start[bin + 1]; i++) {
        enum err e = add_row(b, b->bins.order[i], out, em);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

int64_t batcher_tokens(const struct batcher *b) {
    int64_t sum = 0;
    for (int i = 0; i < b->n_rows; i++)
        sum += b->lengths[i];
    return sum;
}

int64_t batcher_targets(const struct batcher *b) {
    int64_t sum = 0;
    for (int i = 0; i < b->n_rows; i++)
        sum += dataset_row_trained(b->ds, b->rows[i]);
    return sum;
}
