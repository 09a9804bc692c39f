/* form: a multipart body as the api takes it, spooled to disk while it comes in.
 *
 * What:    text fields in bounded memory, the one file part in a spool under DATA.
 * Owns:    fields and spool; a handler that publishes the spool leaves nothing to remove.
 * Threads: one form, one thread.
 * Errors:  ERR_INPUT for what a client did wrong, ERR_LIMIT for size, ERR_NO_SPACE and ERR_IO from
 *          the disk.
 */
#ifndef FFWD_SERVER_FORM_H
#define FFWD_SERVER_FORM_H

#include "api/api.h"
#include "base/err.h"

struct form;

struct form *form_new(const char *data_dir, const char *boundary, const struct api_form_rule *rule);
enum err form_feed(struct form *f, const char *bytes, size_t n, struct err_msg *em) NODISCARD;
/* Code of the answer after ERR_LIMIT. */
const char *form_limit_code(const struct form *f);
enum err form_finish(struct form *f, struct err_msg *em) NODISCARD;
/* Valid until form_free. */
struct api_form *form_for_api(struct form *f);
/* Descriptor of the spooled file, or -1; *bytes its size. */
int form_file(const struct form *f, int64_t *bytes);
void form_free(struct form *f);

#endif
