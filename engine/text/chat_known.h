/* chat_known: templates whose text was compared word for word (private to engine/text/chat*.c).
 *
 * What:    a list of fingerprints; a template on it is rendered exactly, another one of the same
 *          family probably.
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  none.
 */
#ifndef FFWD_ENGINE_TEXT_CHAT_KNOWN_H
#define FFWD_ENGINE_TEXT_CHAT_KNOWN_H

#include <stdbool.h>

bool chat_text_known(const char *text);

#endif
