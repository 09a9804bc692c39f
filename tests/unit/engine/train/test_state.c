/* The state survives JSON bit for bit; configurations are compared by path. */
#include "engine/train/state.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "engine/train/fingerprint.h"

Test(state, comes_back_from_json_as_it_was) {
    struct run_state s, back;
    struct err_msg em = ERR_MSG_INIT;
    run_state_init(&s);
    s.step = 131;
    s.phase = PHASE_STAGE;
    s.tokens = (int64_t)1 << 60;
    s.flops_training = 1.0 / 3.0 * 1e18;
    s.best_full_loss = 0.1;
    s.result.train_loss = 2.0 / 7.0;
    s.result.ff_tau = 17;
    s.cadence.next = 48;
    s.rate_found = 0.003;
    s.rate_settled = 1;
    s.cadence.spent = 1e15 / 7.0;
    s.trend.n = 5;
    s.trend.squares = 1.0 / 3.0;
    json_t *o = run_state_to_json(&s);
    char *text = json_dumps(o, 0);
    json_t *read = json_loads(text, 0, NULL);
    cr_assert_eq(run_state_from_json(read, &back, &em), ERR_OK, "%s", em.text);
    cr_assert_eq(back.step, 131);
    cr_assert_eq(back.phase, PHASE_STAGE);
    cr_assert_eq(back.tokens, s.tokens);
    cr_assert_eq(memcmp(&back.flops_training, &s.flops_training, sizeof(double)), 0);
    cr_assert_eq(memcmp(&back.result.train_loss, &s.result.train_loss, sizeof(double)), 0);
    cr_assert_eq(back.result.ff_tau, 17);
    cr_assert_eq(back.cadence.next, 48);
    cr_assert_eq(back.rate_found, 0.003);
    cr_assert_eq(back.rate_settled, 1);
    cr_assert_eq(back.cadence.spent, s.cadence.spent);
    cr_assert_eq(back.trend.n, 5);
    cr_assert_eq(back.trend.squares, s.trend.squares);
    cr_assert(isnan(back.cadence.loss) && isnan(back.trend.lowest));
    cr_assert(isnan(back.result.full_valid_loss) && isnan(back.first_full_loss));
    json_object_del(read, "updates");
    cr_assert_eq(run_state_from_json(read, &back, &em), ERR_INPUT);
    cr_assert_not_null(strstr(em.text, "updates"));
    free(text);
    json_decref(o);
    json_decref(read);
}

static enum err compare(const char *a, const char *b, struct err_msg *em) {
    json_t *x = json_loads(a, 0, NULL), *y = json_loads(b, 0, NULL);
    err_clear(em);
    enum err e = fingerprint_compare(x, y, em);
    json_decref(x);
    json_decref(y);
    return e;
}

Test(fingerprint, names_the_first_difference) {
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(compare("{\"a\":{\"b\":1,\"c\":null}}", "{\"a\":{\"c\":null,\"b\":1}}", &em),
                 ERR_OK);
    cr_assert_eq(compare("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":2}}", &em), ERR_CONFLICT);
    cr_assert_str_eq(em.param, "a.b");
    cr_assert_str_eq(em.text, "a.b was 1 and is 2");
    cr_assert_eq(compare("{\"a\":{}}", "{\"a\":{\"new\":[1]}}", &em), ERR_CONFLICT);
    cr_assert_str_eq(em.text, "a.new was absent and is [1]");
    cr_assert_eq(compare("{\"a\":true}", "{}", &em), ERR_CONFLICT);
}
