/* Resume points: whole or passed over, three kept. */
#include "engine/train/resume.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

enum { N = 3000 };

struct fixture {
    char dir[64];
    struct device *dev;
    float *a, *b;
    struct resume_tensor tensors[2];
};

static void open_fixture(struct fixture *f) {
    struct err_msg em = ERR_MSG_INIT;
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/ffwd-resume-XXXXXX");
    cr_assert_not_null(mkdtemp(f->dir));
    cr_assert_eq(device_open("cpu", 1, &f->dev, &em), ERR_OK, "%s", em.text);
    void *p = NULL, *q = NULL;
    cr_assert_eq(f->dev->ops->mem_alloc(f->dev, N * sizeof(float), &p, &em), ERR_OK);
    cr_assert_eq(f->dev->ops->mem_alloc(f->dev, 1 * sizeof(float), &q, &em), ERR_OK);
    f->a = p;
    f->b = q;
    f->tensors[0] = (struct resume_tensor){"adapter", f->a, N};
    f->tensors[1] = (struct resume_tensor){"one", f->b, 1};
}

static void close_fixture(struct fixture *f) {
    struct err_msg em = ERR_MSG_INIT;
    f->dev->ops->mem_free(f->dev, f->a);
    f->dev->ops->mem_free(f->dev, f->b);
    device_close(f->dev);
    cr_assert_eq(file_remove_tree(f->dir, &em), ERR_OK);
}

/* Point of a step whose values depend on the step. */
static void save(struct fixture *f, int64_t step) {
    struct err_msg em = ERR_MSG_INIT;
    float host[N];
    for (int i = 0; i < N; i++)
        host[i] = (float)step + (float)i * 0.25f;
    f->dev->ops->upload(f->dev, f->a, host, sizeof host);
    f->dev->ops->upload(f->dev, f->b, host, sizeof(float));
    json_t *state = json_pack("{sI}", "at", (json_int_t)step);
    cr_assert_eq(resume_save(f->dir, step, state, f->dev, f->tensors, 2, &em), ERR_OK, "%s",
                 em.text);
    json_decref(state);
}

static int64_t newest(struct fixture *f, int *passed_over) {
    struct err_msg em = ERR_MSG_INIT;
    struct resume_point p;
    cr_assert_eq(resume_find(f->dir, &p, &em), ERR_OK, "%s", em.text);
    int64_t step = p.step;
    if (passed_over != NULL)
        *passed_over = p.passed_over;
    if (step >= 0)
        cr_assert_eq(json_integer_value(json_object_get(p.state, "at")), step);
    resume_point_clear(&p);
    return step;
}

static bool has(struct fixture *f, const char *path) {
    char full[128];
    (void)snprintf(full, sizeof full, "%s/%s", f->dir, path);
    return access(full, F_OK) == 0;
}

Test(resume, three_points_are_kept_and_the_newest_is_found) {
    struct fixture f;
    open_fixture(&f);
    cr_assert_eq(newest(&f, NULL), -1);
    for (int64_t step = 8; step <= 12; step++)
        save(&f, step);
    cr_assert_eq(newest(&f, NULL), 12);
    cr_assert(!has(&f, "step-9") && has(&f, "step-10") && has(&f, "step-11"));
    close_fixture(&f);
}

Test(resume, tensors_come_back_bit_for_bit) {
    struct fixture f;
    struct err_msg em = ERR_MSG_INIT;
    struct resume_point p;
    static float host[N];
    open_fixture(&f);
    save(&f, 5);
    f.dev->ops->mem_zero(f.dev, f.a, N * sizeof(float));
    cr_assert_eq(resume_find(f.dir, &p, &em), ERR_OK);
    cr_assert_eq(resume_load(&p, f.dev, f.tensors, 2, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(f.dev->ops->download(f.dev, host, f.a, sizeof host, &em), ERR_OK);
    for (int i = 0; i < N; i++)
        cr_assert(host[i] == 5.0f + (float)i * 0.25f);
    f.tensors[0].n--;
    cr_assert_eq(resume_load(&p, f.dev, f.tensors, 2, &em), ERR_INPUT);
    resume_point_clear(&p);
    close_fixture(&f);
}

/* Damage of any kind at any place leads to the point before. */
Test(resume, damaged_points_are_passed_over) {
    static const char *const files[] = {"state.json", "tensors.safetensors", "manifest.json"};
    struct fixture f;
    struct err_msg em = ERR_MSG_INIT;
    open_fixture(&f);
    for (int file = 0; file < 3; file++)
        for (int how = 0; how < 4; how++) {
            save(&f, 1);
            save(&f, 2);
            char path[128];
            (void)snprintf(path, sizeof path, "%s/step-2/%s", f.dir, files[file]);
            char *text;
            size_t len;
            int passed_over;
            cr_assert_eq(file_read(path, 1 << 20, &text, &len, &em), ERR_OK);
            text[len / 2] = (char)(text[len / 2] ^ 0x20);
            if (how == 0)
                cr_assert_eq(unlink(path), 0);
            else
                cr_assert_eq(file_write(path, text,
                                        how == 1   ? len
                                        : how == 2 ? len / 2
                                                   : 0,
                                        &em),
                             ERR_OK);
            free(text);
            int64_t found = newest(&f, &passed_over);
            cr_assert(found == 1 && passed_over == 1, "%s, damage %d: step %lld", files[file], how,
                      (long long)found);
        }
    cr_assert_eq(resume_drop_after(f.dir, 1, &em), ERR_OK);
    cr_assert(!has(&f, "step-2") && has(&f, "step-1"));
    close_fixture(&f);
}

Test(resume, what_an_interrupted_write_left_is_removed) {
    struct fixture f;
    struct err_msg em = ERR_MSG_INIT;
    char path[128];
    open_fixture(&f);
    save(&f, 4);
    (void)snprintf(path, sizeof path, "%s/tmp-step-5/inner", f.dir);
    cr_assert_eq(file_make_dirs(path, &em), ERR_OK);
    cr_assert_eq(newest(&f, NULL), 4);
    cr_assert(!has(&f, "tmp-step-5"));
    close_fixture(&f);
}
