/* family_llama: Llama and the families that are Llama with other keys.
 *
 * What:    constants for engine/model/family.c.
 * Owns, Threads, Errors: none.
 */
#ifndef FFWD_ENGINE_MODEL_FAMILY_LLAMA_H
#define FFWD_ENGINE_MODEL_FAMILY_LLAMA_H

#include "engine/model/family.h"

extern const struct family family_llama, family_mistral, family_qwen2;

#endif
