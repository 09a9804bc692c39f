/* Webhooks: signatures, the schedule, and which addresses are of the internet. */
#include <criterion/criterion.h>
#include <string.h>

#include "server/address.h"
#include "server/webhook_sign.h"
#include "server/webhooks.h"

/* The example that the Standard Webhooks libraries share. */
Test(webhooks, signature_is_the_published_one) {
    char out[WEBHOOK_SIGNATURE_SIZE];
    webhook_sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek",
                 1614265330, "{\"test\": 2432232314}", out);
    cr_expect_str_eq(out, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

/* 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h, each up to a fifth longer. */
Test(webhooks, schedule_with_jitter) {
    static const int64_t want[] = {5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400};
    for (int64_t i = 0; i < WEBHOOK_ATTEMPTS - 1; i++) {
        cr_expect_eq(webhooks_delay(i + 1, 0), want[i]);
        int64_t least = INT64_MAX, most = 0;
        for (uint32_t random = 0; random < 200000; random += 7) {
            int64_t delay = webhooks_delay(i + 1, random);
            least = delay < least ? delay : least;
            most = delay > most ? delay : most;
        }
        cr_expect_eq(least, want[i]);
        cr_expect(most >= want[i] + want[i] / 6 && most <= want[i] + want[i] / 5);
    }
    cr_expect_eq(webhooks_delay(100, 0), 86400);
}

static struct in6_addr address(const char *text) {
    struct address_range range;
    cr_assert(address_range_parse(text, &range), "%s", text);
    return range.base;
}

static const char *const inside[] = {
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
};
static const char *const outside[] = {
    "1.1.1.1",         "8.8.8.8",          "9.255.255.255",        "11.0.0.0",
    "100.63.255.255",  "100.128.0.0",      "126.255.255.255",      "128.0.0.1",
    "169.253.255.255", "172.15.255.255",   "172.32.0.0",           "192.167.255.255",
    "192.169.0.0",     "198.17.255.255",   "198.20.0.0",           "223.255.255.255",
    "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8", "2001:4860:4860::8888", "2606:4700::1111",
    "2a00::1",
};

Test(address, only_the_internet_is_public) {
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        struct in6_addr a = address(inside[i]);
        cr_expect(!address_is_public(&a), "%s", inside[i]);
    }
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        struct in6_addr a = address(outside[i]);
        cr_expect(address_is_public(&a), "%s", outside[i]);
    }
}

Test(address, ranges_hold_what_they_say) {
    static const struct {
        const char *range, *in, *out;
    } cases[] = {
        {"10.0.0.0/8", "10.255.255.255", "11.0.0.0"},
        {"10.1.2.3", "10.1.2.3", "10.1.2.4"},
        {"192.168.4.0/22", "192.168.7.255", "192.168.8.0"},
        {"192.168.4.128/25", "192.168.4.128", "192.168.4.127"},
        {"0.0.0.0/0", "255.255.255.255", "::1"},
        {"fd00::/8", "fdff::1", "fc00::1"},
        {"::/0", "10.0.0.1", NULL},
        {"::1", "::1", "::2"},
    };
    static const char *const wrong[] = {
        "",         "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x",
        "10.0.0/8", "fd00::/129",  "host",      "1.2.3.4/ 8",  "::1%eth0"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct address_range range;
        cr_assert(address_range_parse(cases[i].range, &range), "%s", cases[i].range);
        struct in6_addr in = address(cases[i].in);
        cr_expect(address_in_range(&in, &range), "%s", cases[i].range);
        if (cases[i].out == NULL)
            continue;
        struct in6_addr out = address(cases[i].out);
        cr_expect(!address_in_range(&out, &range), "%s", cases[i].range);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct address_range range;
        cr_expect(!address_range_parse(wrong[i], &range), "%s", wrong[i]);
    }
}
