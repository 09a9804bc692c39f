/* API keys: shown once, stored as a hash, valid until revoked. */
#include "tests/unit/storage/fixture.h"

TestSuite(keys, .init = set_up, .fini = tear_down);

Test(keys, are_valid_for_their_project_until_revoked) {
    char key[64], other[64];
    struct key_row row, second, found;
    int64_t active = 0;
    cr_assert_eq(store_key_create(store, "laptop", "team", key, &row, NULL), ERR_OK);
    cr_assert_eq(store_key_create(store, "ci", "team", other, &second, NULL), ERR_OK);
    cr_expect_eq(strncmp(key, "sk-ffwd-", 8), 0);
    cr_expect_eq(strlen(key), 8 + 43);
    cr_expect_eq(strncmp(key, row.prefix, strlen(row.prefix)), 0);
    cr_expect_str_neq(key, other);
    reopen();
    cr_assert_eq(store_key_check(store, key, &found, NULL), ERR_OK);
    cr_expect_str_eq(found.project, "team");
    cr_expect_str_eq(found.id, row.id);
    key_row_clear(&found);
    cr_assert_eq(store_key_count(store, &active, NULL), ERR_OK);
    cr_expect_eq(active, 2);
    cr_assert_eq(store_key_revoke(store, row.id, NULL), ERR_OK);
    cr_expect_eq(store_key_check(store, key, &found, NULL), ERR_NOT_FOUND);
    cr_expect_null(found.project);
    cr_expect_eq(store_key_check(store, other, &found, NULL), ERR_OK);
    key_row_clear(&found);
    cr_expect_eq(store_key_revoke(store, row.id, NULL), ERR_NOT_FOUND);
    cr_expect_eq(store_key_revoke(store, "key-none", NULL), ERR_NOT_FOUND);
    cr_assert_eq(store_key_count(store, &active, NULL), ERR_OK);
    cr_expect_eq(active, 1);
    key_row_clear(&row);
    key_row_clear(&second);
}

Test(keys, that_differ_in_one_character_are_refused) {
    char key[64];
    struct key_row row, found;
    cr_assert_eq(store_key_create(store, "a", "team", key, &row, NULL), ERR_OK);
    for (size_t i = 0; key[i] != '\0'; i++) {
        char was = key[i];
        key[i] = was == 'x' ? 'y' : 'x';
        cr_expect_eq(store_key_check(store, key, &found, NULL), ERR_NOT_FOUND, "at %zu", i);
        key[i] = was;
    }
    cr_expect_eq(store_key_check(store, "", &found, NULL), ERR_NOT_FOUND);
    cr_expect_eq(store_key_check(store, row.prefix, &found, NULL), ERR_NOT_FOUND);
    key_row_clear(&row);
}

Test(keys, are_not_in_the_database_or_its_log) {
    char key[64];
    struct key_row row, *rows = NULL;
    int n = 0;
    static const char *const files[] = {"ffwd.db", "ffwd.db-wal"};
    cr_assert_eq(store_key_create(store, "a", "team", key, &row, NULL), ERR_OK);
    for (int i = 0; i < 2; i++) {
        char *path = xasprintf("%s/%s", dir, files[i]), *text = NULL;
        size_t len = 0;
        cr_assert_eq(file_read(path, 1 << 24, &text, &len, NULL), ERR_OK);
        cr_expect_null(memmem(text, len, key + 20, strlen(key) - 20));
        free(text);
        free(path);
    }
    cr_assert_eq(store_key_list(store, &rows, &n, NULL), ERR_OK);
    cr_assert_eq(n, 1);
    cr_expect_str_eq(rows[0].name, "a");
    cr_expect_str_eq(rows[0].project, "team");
    cr_expect_eq(strlen(rows[0].prefix), 16);
    key_row_clear(&rows[0]);
    free(rows);
    key_row_clear(&row);
}
