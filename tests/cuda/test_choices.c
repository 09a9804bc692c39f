/* Algorithms of products: the file of choices, and what becomes of it on the device. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/ops/cuda/choices.h"
#include "engine/ops/cuda/cuda.h"
#include "tests/cuda/emulation/emulation.h"
#include "tests/reference/support/case.h"

static char path[64];

static void setup(void) {
    (void)snprintf(path, sizeof path, "/tmp/ffwd-test-XXXXXX");
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    unlink(path);
}

static void teardown(void) {
    unlink(path);
}

TestSuite(choices, .init = setup, .fini = teardown);

static struct choices *open_choices(const char *identity) {
    struct err_msg em = ERR_MSG_INIT;
    struct choices *c;
    cr_assert_eq(choices_open(path, identity, &c, &em), ERR_OK, "%s", em.text);
    return c;
}

Test(choices, come_back_from_the_file) {
    const int64_t a[CHOICE_NUMBERS] = {1, 2, 3, -4}, b[CHOICE_NUMBERS] = {1, 2, INT64_MAX};
    const uint64_t x[CHOICE_WORDS] = {1, UINT64_MAX, 3}, y[CHOICE_WORDS] = {0x1234567890abcdefu};
    struct err_msg em = ERR_MSG_INIT;
    struct choices *c = open_choices("device=A driver=1");
    cr_assert_null(choices_find(c, a));
    choices_add(c, a, x);
    choices_add(c, b, y);
    cr_assert_eq(choices_save(c, &em), ERR_OK, "%s", em.text);
    choices_free(c);
    c = open_choices("device=A driver=1");
    cr_assert_eq(memcmp(choices_find(c, a), x, sizeof x), 0);
    cr_assert_eq(memcmp(choices_find(c, b), y, sizeof y), 0);
    choices_free(c);
    c = open_choices("device=A driver=2"); /* another driver: none of them counts */
    cr_assert_null(choices_find(c, a));
    choices_free(c);
}

Test(choices, a_damaged_file_is_named_with_its_line) {
    static const char *const bad[] = {"x\n1 2 3\n", "x\n\n1 2 3: 4\n",
                                      "x\n1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17: 1 2 3\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        struct choices *c;
        cr_assert_eq(file_write(path, bad[i], strlen(bad[i]), &em), ERR_OK);
        cr_assert_eq(choices_open(path, "x", &c, &em), ERR_INPUT);
        cr_assert(strstr(em.text, "line 2") && strstr(em.text, path), "%s", em.text);
        cr_assert_null(c);
    }
}

/* A training step of a golden case; returns the proposals asked for, and the gradient's digest. */
static long train_once(uint64_t *digest) {
    static const int all[] = {0, 1, 2, 3, 4, 5};
    const struct dropout off = {0};
    struct ref_case c;
    struct ref_batch b;
    struct err_msg em = ERR_MSG_INIT;
    long before = emulated_proposals;
    ref_case_open(&c, "qwen2", DTYPE_BF16, 1);
    ref_case_adapter(&c);
    struct pass *p = ref_pass(&c, true);
    ref_batch_make(&b, &c, all, c.n_rows);
    float *nll = xcalloc((size_t)b.host.n_targets, sizeof *nll);
    cr_assert_eq(pass_train(p, &b.host, 1.0f, &off, nll, NULL, &em), ERR_OK, "%s", em.text);
    struct adapter_mem *mem = adapter_mem(c.adapter);
    uint32_t *g = xcalloc(mem->n, sizeof *g);
    cr_assert_eq(c.dev->ops->download(c.dev, g, mem->g, mem->n * sizeof *g, &em), ERR_OK);
    *digest = 0;
    for (size_t i = 0; i < mem->n; i++)
        *digest = (*digest ^ g[i]) * 0x100000001B3ull;
    free(g);
    free(nll);
    ref_batch_clear(&b);
    pass_free(p);
    ref_case_close(&c);
    return emulated_proposals - before;
}

/* The second proposal is the faster one of the emulated library: it is chosen, written down and
 * used again without asking; what is computed stays the same. */
Test(choices, the_fastest_is_kept_and_used_again) {
    uint64_t plain, first, second;
    long untimed = train_once(&plain);
    cr_assert_eq(setenv("FFWD_CUDA_ALGORITHMS", path, 1), 0);
    long asked = train_once(&first);
    cr_assert_eq(asked, untimed);
    cr_assert_eq(first, plain, "timing changed the result");
    struct err_msg em = ERR_MSG_INIT;
    char *text;
    cr_assert_eq(file_read(path, 1 << 20, &text, NULL, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(strncmp(text, "device=emulated device driver=13000 cublaslt=130000\n", 52), 0);
    cr_assert(strstr(text, " 2000000 1 0 0\n"), "%s", text);
    free(text);
    cr_assert_eq(train_once(&second), 0, "the library was asked again");
    cr_assert_eq(second, plain);
}
