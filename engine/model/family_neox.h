/* family_neox: GPT-NeoX (Pythia).
 *
 * What:    constants for engine/model/family.c.
 * Owns, Threads, Errors: none.
 */
#ifndef FFWD_ENGINE_MODEL_FAMILY_NEOX_H
#define FFWD_ENGINE_MODEL_FAMILY_NEOX_H

#include "engine/model/family.h"

extern const struct family family_neox;

#endif
