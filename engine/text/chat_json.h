/* chat_json: JSON as a chat template's `tojson` filter writes it.
 *
 * What:    the text of Python's json.dumps(value, ensure_ascii=False): keys in their order, ", "
 *          and ": " between (with indent: a line each), floats as repr() writes them.
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  only those of the buffer (ERR_LIMIT).
 */
#ifndef FFWD_ENGINE_TEXT_CHAT_JSON_H
#define FFWD_ENGINE_TEXT_CHAT_JSON_H

#include <jansson.h>

#include "base/buf.h"

/* Appends value to b. indent: spaces a level, 0 for one line. */
enum err chat_json_write(const json_t *value, int indent, struct buf *b) NODISCARD;

#endif
