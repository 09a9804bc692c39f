/* chat_rows: the conversation of one row, checked.
 *
 * What:    reads {"messages":[…], "tools":[…]?} as OpenAI's fine-tuning format defines it, into
 *          plain structs that the template renderers walk over.
 * Owns:    struct chat owns its strings and arguments; it borrows nothing but `tools`, which stays
 *          valid as long as the row. Free with chat_clear.
 * Threads: no shared state.
 * Errors:  ERR_INPUT naming the path, e.g. `messages[1].role`, also as em->param.
 */
#ifndef FFWD_ENGINE_TEXT_CHAT_ROWS_H
#define FFWD_ENGINE_TEXT_CHAT_ROWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* `developer` is read as system, `function` as tool. */
enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT, CHAT_TOOL };

struct chat_call {
    const char *name;  /* borrowed from the row */
    json_t *arguments; /* an object, owned */
};

struct chat_message {
    enum chat_role role;
    char *content; /* UTF-8 with a NUL; "" where the row has none; text parts are concatenated */
    size_t len;    /* bytes of content */
    bool weighted; /* false: weight 0 */
    struct chat_call *calls;
    size_t n_calls;
};

struct chat {
    struct chat_message *messages;
    size_t n;
    const json_t *tools; /* a non-empty array, or NULL */
};

/* needs_assistant: a conversation without an assistant message is refused. *out needs chat_clear
 * after ERR_OK only. */
enum err chat_read(const json_t *row, bool needs_assistant, struct chat *out,
                   struct err_msg *em) NODISCARD;
void chat_clear(struct chat *c);

/* "system", "user", "assistant" or "tool". */
const char *chat_role_name(enum chat_role role);

#endif
