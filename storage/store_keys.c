/* store_keys: API keys. A key is 32 random bytes; only its SHA-256 and its first characters are
 * kept, so the database gives no key away. (A fast hash is right for a secret of 256 random bits.)
 */
#include "storage/store_internal.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/sha256.h"

#define KEY_PREFIX "sk-ffwd-"
#define KEY_BYTES 32
#define KEY_SHOWN 16 /* characters kept for people and for look-up: 48 random bits */
#define COLUMNS "id, name, project, prefix, created_at, revoked_at"

void key_row_clear(struct key_row *k) {
    free(k->name);
    free(k->project);
    free(k->prefix);
    *k = (struct key_row){0};
}

static void read_row(sqlite3_stmt *q, struct key_row *k) {
    *k = (struct key_row){
        .name = store__text(q, 1),
        .project = store__text(q, 2),
        .prefix = store__text(q, 3),
        .created_at = sqlite3_column_int64(q, 4),
        .revoked_at = sqlite3_column_int64(q, 5),
    };
    store__id(q, 0, k->id);
}

static void hash_key(const char *key, char hex[SHA256_HEX_SIZE]) {
    struct sha256 h;
    sha256_init(&h);
    sha256_add(&h, key, strlen(key));
    sha256_hex(&h, hex);
}

static void make_key(char key[64]) {
    unsigned char random[KEY_BYTES];
    char text[sodium_base64_ENCODED_LEN(KEY_BYTES, sodium_base64_VARIANT_URLSAFE_NO_PADDING)];
    randombytes_buf(random, sizeof random);
    sodium_bin2base64(text, sizeof text, random, sizeof random,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    (void)snprintf(key, 64, KEY_PREFIX "%s", text);
    sodium_memzero(random, sizeof random);
    sodium_memzero(text, sizeof text);
}

enum err store_key_create(struct store *s, const char *name, const char *project, char key[64],
                          struct key_row *out, struct err_msg *em) {
    *out = (struct key_row){0};
    if (project == NULL || project[0] == '\0')
        return err_set(em, ERR_INPUT, "a key needs a project");
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    char hex[SHA256_HEX_SIZE];
    make_key(key);
    hash_key(key, hex);
    *out = (struct key_row){
        .name = xstrdup(name),
        .project = xstrdup(project),
        .prefix = xstrndup(key, KEY_SHOWN),
        .created_at = clock_unix(),
    };
    store_new_id("key-", out->id);
    e = store__run(s, em, NULL,
                   "INSERT INTO keys(id, name, project, prefix, sha256, created_at) "
                   "VALUES (?, ?, ?, ?, ?, ?)",
                   "sssssi", out->id, name, project, out->prefix, hex, out->created_at);
    e = store__end(s, e, em);
    if (e != ERR_OK) {
        key_row_clear(out);
        sodium_memzero(key, 64);
    }
    return e;
}

enum err store_key_list(struct store *s, struct key_row **rows, int *n, struct err_msg *em) {
    sqlite3_stmt *q = NULL;
    bool row = true;
    *rows = NULL;
    *n = 0;
    enum err e = store__query(s, em, &q, "SELECT " COLUMNS " FROM keys ORDER BY seq", "");
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        *rows = store__grow(*rows, *n, sizeof **rows);
        read_row(q, &(*rows)[(*n)++]);
    }
    for (int i = 0; e != ERR_OK && i < *n; i++)
        key_row_clear(&(*rows)[i]);
    if (e != ERR_OK) {
        free(*rows);
        *rows = NULL;
        *n = 0;
    }
    return e;
}

enum err store_key_revoke(struct store *s, const char *id, struct err_msg *em) {
    enum err e = store_begin(s, em);
    if (e != ERR_OK)
        return e;
    int changes = 0;
    e = store__run(s, em, &changes,
                   "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at = 0", "si", id,
                   clock_unix());
    if (e == ERR_OK && changes == 0)
        e = err_set(em, ERR_NOT_FOUND, "no key %s is in use", id);
    return store__end(s, e, em);
}

enum err store_key_check(struct store *s, const char *key, struct key_row *out,
                         struct err_msg *em) {
    char hex[SHA256_HEX_SIZE], prefix[KEY_SHOWN + 1];
    sqlite3_stmt *q = NULL;
    bool row = true, found = false;
    *out = (struct key_row){0};
    hash_key(key, hex);
    (void)snprintf(prefix, sizeof prefix, "%s", key);
    enum err e = store__query(s, em, &q,
                              "SELECT " COLUMNS ", sha256 FROM keys WHERE prefix = ?1 AND "
                              "revoked_at = 0",
                              "s", prefix);
    while (e == ERR_OK && (e = store__next(s, q, &row, em)) == ERR_OK && row) {
        const void *stored = sqlite3_column_text(q, 6);
        bool same = sqlite3_column_bytes(q, 6) == SHA256_HEX_SIZE - 1 &&
                    sodium_memcmp(stored, hex, SHA256_HEX_SIZE - 1) == 0;
        if (same && !found) {
            read_row(q, out);
            found = true;
        }
    }
    if (e != ERR_OK)
        key_row_clear(out);
    else if (!found)
        e = err_set(em, ERR_NOT_FOUND, "the API key is not valid");
    return e;
}

enum err store_key_count(struct store *s, int64_t *active, struct err_msg *em) {
    *active = 0;
    return store__integer(s, em, active, "SELECT count(*) FROM keys WHERE revoked_at = 0", "");
}
