/* webhook_sign: signatures of Standard Webhooks.
 *
 * What:    HMAC-SHA256 over "ID.TIMESTAMP.BODY", keyed by the bytes that a secret stands for.
 * Owns:    nothing.
 * Threads: pure functions.
 * Errors:  none.
 */
#ifndef FFWD_SERVER_WEBHOOK_SIGN_H
#define FFWD_SERVER_WEBHOOK_SIGN_H

#include <stdint.h>

#define WEBHOOK_SIGNATURE_SIZE 48 /* "v1," + base64 of 32 bytes and the NUL */

/* secret: "whsec_" + base64, or a raw text, as the receivers' libraries take it. */
void webhook_sign(const char *secret, const char *id, int64_t timestamp, const char *body,
                  char out[WEBHOOK_SIGNATURE_SIZE]);

#endif
