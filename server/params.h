/* params: header values of the form `value; name=token; name="quoted"`.
 *
 * What:    media types and their parameters (Content-Type, Content-Disposition).
 * Owns:    what it returns belongs to the caller.
 * Threads: pure functions.
 * Errors:  false where the parameter is absent or malformed.
 */
#ifndef FFWD_SERVER_PARAMS_H
#define FFWD_SERVER_PARAMS_H

#include <stdbool.h>

/* Whether the part before the first ';' is `type`, in any case. value may be NULL. */
bool params_media_type_is(const char *value, const char *type);
/* Whether value is application/json or anything ending in +json. */
bool params_is_json(const char *value);
/* *out: new string, unquoted. */
bool params_get(const char *value, const char *name, char **out);
/* The form name*=UTF-8''percent-encoded (RFC 8187). *out: new string. */
bool params_get_extended(const char *value, const char *name, char **out);

/* Decodes %XX in place (and '+' as a space with plus); the text has no malformed escape. */
void params_percent_decode(char *text, bool plus);

#endif
