/* processor: what this machine's processor can do.
 *
 * What:    the best instruction set of kernels.h that processor and kernel allow.
 * Owns:    nothing; the first call asks the kernel for the tile registers.
 * Threads: any.
 * Errors:  none: what is not allowed is not the answer.
 */
#ifndef FFWD_ENGINE_OPS_CPU_PROCESSOR_H
#define FFWD_ENGINE_OPS_CPU_PROCESSOR_H

#include "engine/ops/cpu/kernels.h"

enum isa processor_isa(void);

#endif
