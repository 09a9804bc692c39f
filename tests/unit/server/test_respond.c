/* respond: ranges of RFC 9110 §14.1.2 and file names of RFC 6266. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "server/respond.h"

Test(respond, ranges) {
    static const struct {
        const char *text;
        int64_t size;
        int status;
        int64_t first, last;
    } cases[] = {
        /* the examples of RFC 9110 §14.1.2, over 10000 bytes */
        {"bytes=0-499", 10000, 206, 0, 499},
        {"bytes=500-999", 10000, 206, 500, 999},
        {"bytes=-500", 10000, 206, 9500, 9999},
        {"bytes=9500-", 10000, 206, 9500, 9999},
        {"bytes=0-0,-1", 10000, 0, 0, 0},
        {"bytes=9999-20000", 10000, 206, 9999, 9999},
        {"bytes=10000-", 10000, 416, 0, 0},
        {"bytes=-0", 10000, 416, 0, 0},
        {"bytes=-20000", 10000, 206, 0, 9999},
        {"bytes=0-", 0, 416, 0, 0},
        {"bytes=-1", 0, 416, 0, 0},
        {"bytes=5-4", 10000, 0, 0, 0},
        {"bytes=", 10000, 0, 0, 0},
        {"bytes=-", 10000, 0, 0, 0},
        {"bytes=1", 10000, 0, 0, 0},
        {"bytes=0-99999999999999999999", 10000, 0, 0, 0},
        {"bytes= 0-1", 10000, 0, 0, 0},
        {"items=0-1", 10000, 0, 0, 0},
        {NULL, 10000, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t first = -1, last = -1;
        int status = respond_parse_range(cases[i].text, cases[i].size, &first, &last);
        cr_expect_eq(status, cases[i].status, "%s: %d", cases[i].text, status);
        if (status == 206)
            cr_expect(first == cases[i].first && last == cases[i].last, "%s: %lld-%lld",
                      cases[i].text, (long long)first, (long long)last);
    }
}

Test(respond, disposition) {
    char *d = respond_disposition("na\xc3\xafve \"x\".txt");
    cr_expect_str_eq(d, "attachment; filename=\"na__ve _x_.txt\"; "
                        "filename*=UTF-8''na%C3%AFve%20%22x%22.txt");
    free(d);
}
