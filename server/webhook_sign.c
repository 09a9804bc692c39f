/* webhook_sign: signatures of Standard Webhooks
 * (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md). */
#include "server/webhook_sign.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "whsec_"

void webhook_sign(const char *secret, const char *id, int64_t timestamp, const char *body,
                  char out[WEBHOOK_SIGNATURE_SIZE]) {
    unsigned char key[256], mac[crypto_auth_hmacsha256_BYTES];
    char head[128], text[sodium_base64_ENCODED_LEN(crypto_auth_hmacsha256_BYTES,
                                                   sodium_base64_VARIANT_ORIGINAL)];
    size_t n = 0;
    const char *coded = secret + strlen(PREFIX);
    crypto_auth_hmacsha256_state state;
    if (strncmp(secret, PREFIX, strlen(PREFIX)) == 0 &&
        sodium_base642bin(key, sizeof key, coded, strlen(coded), NULL, &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) == 0)
        crypto_auth_hmacsha256_init(&state, key, n);
    else
        crypto_auth_hmacsha256_init(&state, (const unsigned char *)secret, strlen(secret));
    int head_len = snprintf(head, sizeof head, "%.64s.%lld.", id, (long long)timestamp);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)head,
                                  (unsigned long long)head_len);
    crypto_auth_hmacsha256_update(&state, (const unsigned char *)body, strlen(body));
    crypto_auth_hmacsha256_final(&state, mac);
    sodium_bin2base64(text, sizeof text, mac, sizeof mac, sodium_base64_VARIANT_ORIGINAL);
    (void)snprintf(out, WEBHOOK_SIGNATURE_SIZE, "v1,%s", text);
    sodium_memzero(key, sizeof key);
    sodium_memzero(&state, sizeof state);
}
