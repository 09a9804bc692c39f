/* tok_merge: the merges of byte-pair encoding, applied in time linear in the word.
 *
 * What:    the table pair → (rank, new id) and the loop that always applies the merge of lowest
 *          rank, leftmost first. Short words are scanned; long ones keep one list of positions per
 *          rank, so that a word of ten million characters is no harder per character.
 * Owns:    struct merges its tables; struct merge_scratch its work space.
 * Threads: the table is read-only after filling; a scratch belongs to one thread.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_TEXT_TOK_MERGE_H
#define FFWD_ENGINE_TEXT_TOK_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct merge {
    int32_t left, right, made;
};
struct merge_slot {
    uint64_t pair; /* left << 32 | right; UINT64_MAX: free */
    uint32_t rank;
    int32_t made;
};
struct merges {
    struct merge *by_rank; /* [n] */
    size_t n;
    struct merge_slot *slot; /* [n_slots], a power of two */
    size_t n_slots;
    uint64_t seed;
};

/* n: how many merges will be added. */
void merges_init(struct merges *m, size_t n);
/* The rank is the number of merges added before. A pair given again replaces the earlier one. */
void merges_add(struct merges *m, struct merge merge);
void merges_clear(struct merges *m);

/* Zero-initialise; clear with merge_scratch_clear. */
struct merge_scratch {
    int32_t *id;           /* [cap] symbols of the word; merge_word leaves the tokens here */
    int32_t *left, *right; /* [cap] neighbours, for long words */
    uint32_t *rank;        /* [cap] of the pair that starts here, for short words */
    size_t cap;
    struct long_word *queue; /* made with the first long word */
};
/* Room for n symbols. */
void merge_scratch_reserve(struct merge_scratch *s, size_t n);
void merge_scratch_clear(struct merge_scratch *s);

/* Fills `joints` with the pairs of single symbols that some merge can join across, so that a long
 * word may be cut wherever a pair is not among them. False, and nothing filled, where a token can
 * begin or end with different symbols. n_ids: ids are below. */
bool merges_joints(const struct merges *m, size_t n_ids, struct merges *joints);

/* Merges s->id[0…n) (n < 2^31 - 1); returns the number of tokens left there. joints may be NULL. */
size_t merge_word(const struct merges *m, const struct merges *joints, struct merge_scratch *s,
                  size_t n);

/* For tok_merge_long.c. NULL if the pair has no merge. */
const struct merge_slot *merges_find(const struct merges *m, int32_t left, int32_t right);
/* id: [n], somewhere in s->id. */
size_t merge_long_word(const struct merges *m, struct merge_scratch *s, int32_t *id, size_t n);
void merge_long_free(struct long_word *q);

#endif
