/* multipart: RFC 7578 bodies, cut anywhere. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/multipart.h"

/* What a parser said, as one text. */
struct record {
    struct buf text;
};

static enum err begin(void *arg, const struct multipart_part *part, struct err_msg *em) {
    struct record *r = arg;
    (void)em;
    return buf_addf(&r->text, "<%s|%s>", part->name, part->filename != NULL ? part->filename : "-");
}

static enum err data(void *arg, const void *bytes, size_t n, struct err_msg *em) {
    (void)em;
    cr_assert_gt(n, 0);
    return buf_add(&((struct record *)arg)->text, bytes, n);
}

static enum err end(void *arg, struct err_msg *em) {
    (void)em;
    return buf_addf(&((struct record *)arg)->text, "</>");
}

/* Feeds the body in pieces of `step` bytes. NULL: refused. */
static char *parse(const char *boundary, const char *body, size_t n, size_t step) {
    struct record r;
    struct multipart m;
    struct err_msg em = ERR_MSG_INIT;
    buf_init(&r.text, 1 << 20);
    const struct multipart_sink sink = {.arg = &r, .begin = begin, .data = data, .end = end};
    multipart_init(&m, boundary, &sink);
    enum err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < n; i += step)
        e = multipart_feed(&m, body + i, n - i < step ? n - i : step, &em);
    if (e == ERR_OK)
        e = multipart_finish(&m, &em);
    cr_assert(e == ERR_OK || em.text[0] != '\0');
    multipart_clear(&m);
    char *text = e == ERR_OK ? buf_take(&r.text) : NULL;
    buf_clear(&r.text);
    return text;
}

static void expect(const char *body, size_t n, const char *want) {
    for (size_t step = 1; step <= n + 1; step++) {
        char *got = parse("AaB03x", body, n, step);
        if (want == NULL)
            cr_assert_null(got, "step %zu: %s", step, got);
        else
            cr_assert(got != NULL && strcmp(got, want) == 0, "step %zu: %s", step,
                      got != NULL ? got : "refused");
        free(got);
    }
}
#define EXPECT(body, want) expect(body, sizeof body - 1, want)
#define NAME(n) "Content-Disposition: form-data; name=\"" n "\"\r\n"

Test(multipart, parts_cut_anywhere) {
    EXPECT("--AaB03x\r\n" NAME(
               "purpose") "\r\nfine-tune\r\n--AaB03x\r\n"
                          "Content-Disposition: form-data; name=\"file\"; filename=\"a b.txt\"\r\n"
                          "Content-Type: text/plain\r\n\r\none\r\ntwo\r\n--AaB03x--\r\n",
           "<purpose|->fine-tune</><file|a b.txt>one\r\ntwo</>");
}

Test(multipart, data_that_looks_like_a_boundary) {
    EXPECT("--AaB03x\r\n" NAME("f") "\r\n\r\n--AaB03\r\n--AaB03y\r\r\n-\r\n--AaB03x--",
           "<f|->\r\n--AaB03\r\n--AaB03y\r\r\n-</>");
}

Test(multipart, empty_data_preamble_epilogue_and_padding) {
    EXPECT("ignored\r\n--AaB03x \t\r\n" NAME("f") "\r\n\r\n--AaB03x--\r\nalso ignored", "<f|-></>");
}

Test(multipart, names) {
    EXPECT("--AaB03x\r\ncontent-disposition:form-data;filename=x.y ; name=f\r\n\r\n\r\n--AaB03x--",
           "<f|x.y></>");
    EXPECT("--AaB03x\r\nContent-Disposition: form-data; name=f; filename=\"a\\\"b;c\\d\"\r\n\r\n"
           "\r\n--AaB03x--",
           "<f|a\"b;c\\d></>");
    EXPECT("--AaB03x\r\nContent-Disposition: form-data; name=f; filename=\"x\"; "
           "filename*=UTF-8''na%C3%AFve.txt\r\n\r\n\r\n--AaB03x--",
           "<f|na\xc3\xafve.txt></>");
}

Test(multipart, malformed_bodies_are_refused) {
    EXPECT("", NULL);
    EXPECT("--AaB03x", NULL);
    EXPECT("--AaB03x\r\n" NAME("f") "\r\nx", NULL);
    EXPECT("--AaB03x\r\n" NAME("f") "\r\nx\r\n--AaB03x\r\n", NULL);
    EXPECT("--AaB03x-\r\n", NULL);
    EXPECT("--AaB03xy\r\n", NULL);
    EXPECT("--AaB03x\n" NAME("f") "\r\nx\r\n--AaB03x--", NULL);
    EXPECT("--AaB03x\r\n\r\nx\r\n--AaB03x--", NULL);
    EXPECT("--AaB03x\r\nContent-Type: text/plain\r\n\r\nx\r\n--AaB03x--", NULL);
    EXPECT("--AaB03x\r\n" NAME("f") NAME("g") "\r\nx\r\n--AaB03x--", NULL);
    EXPECT("--AaB03x\r\nContent-Disposition: attachment; name=f\r\n\r\nx\r\n--AaB03x--", NULL);
    EXPECT("--AaB03x\r\n" NAME("f") "Content-Transfer-Encoding: base64\r\n\r\nx\r\n--AaB03x--",
           NULL);
    EXPECT("--AaB03x\r\n" NAME("f") "a\nb: c\r\n\r\nx\r\n--AaB03x--", NULL);
    EXPECT("--AaB03x\r\n" NAME("f\0g") "\r\nx\r\n--AaB03x--", NULL);
    EXPECT("--AaB03x\r\n" NAME("f") " folded: x\r\n\r\nx\r\n--AaB03x--", NULL);
}

Test(multipart, headers_have_a_limit) {
    char *body = xcalloc(1, 20001);
    memset(body, 'h', 20000);
    memcpy(body, "--AaB03x\r\n", 10);
    cr_assert_null(parse("AaB03x", body, 20000, 1000));
    free(body);
}

Test(multipart, boundaries) {
    static const struct {
        const char *type, *want;
        enum err e;
    } cases[] = {
        {"multipart/form-data; boundary=AaB03x", "AaB03x", ERR_OK},
        {"Multipart/Form-Data;charset=utf-8;boundary=\"a b'()+_,-./:=?\"", "a b'()+_,-./:=?",
         ERR_OK},
        {"multipart/form-data", NULL, ERR_INPUT},
        {"multipart/form-data; boundary=", NULL, ERR_INPUT},
        {"multipart/form-data; boundary=\"\"", NULL, ERR_INPUT},
        {"multipart/form-data; boundary=\"a ", NULL, ERR_INPUT},
        {"multipart/form-data; boundary=\"a \"", NULL, ERR_INPUT},
        {"multipart/form-data; boundary=a\"b", NULL, ERR_INPUT},
        {"multipart/form-data; boundary="
         "01234567890123456789012345678901234567890123456789012345678901234567890",
         NULL, ERR_INPUT},
        {"multipart/mixed; boundary=a", NULL, ERR_UNSUPPORTED},
        {"application/json", NULL, ERR_UNSUPPORTED},
        {NULL, NULL, ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char boundary[MULTIPART_BOUNDARY_MAX + 1] = "";
        enum err e = multipart_boundary(cases[i].type, boundary, NULL);
        cr_expect_eq(e, cases[i].e, "%s", cases[i].type);
        if (e == ERR_OK)
            cr_expect_str_eq(boundary, cases[i].want);
    }
}
