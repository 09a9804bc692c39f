/* primitives: matrix products by oneDNN's primitives, made once for each shape.
 *
 * What:    a cache of matmul primitives, and frozen matrices reordered once into the blocks that
 *          the primitives read (AVX-512, AVX512-BF16, AMX).
 * Owns:    the primitives and one stream for each worker; a packed matrix belongs to the caller.
 * Threads: any worker of a run. oneDNN's threads are held at one by the team.
 * Errors:  what the library cannot do is false or NULL, and the caller takes another way.
 */
#ifndef FFWD_ENGINE_OPS_CPU_PRIMITIVES_H
#define FFWD_ENGINE_OPS_CPU_PRIMITIVES_H

#include "engine/ops/cpu/gemm.h"

/* Sizes of a product are multiples of this: few shapes are then enough for any number of rows. */
#define PRIMITIVE_UNIT 32

struct primitives;

/* NULL if the library refuses. */
struct primitives *primitives_new(int workers);
void primitives_free(struct primitives *p);

/* Holds the library to an instruction set. The first call in a process decides. */
void primitives_limit(enum isa isa);

/* Whether the processor has bf16 products (AVX512-BF16 or more; the library would emulate them on
 * less), and whether its f32 primitives read packed matrices (AVX-512). */
bool primitives_claim_bf16(void);
bool primitives_pack_f32(void);

/* As gemm, with m, n, k multiples of PRIMITIVE_UNIT and a and b of one type. */
bool primitives_run(struct cpu *c, int worker, int64_t m, int64_t n, int64_t k, struct operand a,
                    struct operand b, float *out, int64_t ldc, bool accumulate);

/* op(b) [k, n] for products of up to m_max rows; NULL if such products are not possible. */
struct packed *primitives_pack(struct cpu *c, int worker, int64_t m_max, int64_t n, int64_t k,
                               struct operand b);
/* Bytes of the data of such a packed matrix; 0 where that would be NULL. */
size_t primitives_packed_bytes(struct cpu *c, int64_t m_max, int64_t n, int64_t k,
                               enum dtype dtype);
/* Back to a dense [k, n] matrix. */
bool primitives_unpack(struct cpu *c, int worker, const struct packed *w, int64_t n, int64_t k,
                       enum dtype dtype, void *to);
void packed_free(struct packed *w);

#endif
