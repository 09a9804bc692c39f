/* The body of a create request: defaults, ranges, and the path of every wrong field. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>

#include "base/job_request.h"

static enum err parse(const char *text, unsigned flags, struct job_request *r, struct err_msg *em) {
    json_t *body = json_loads(text, JSON_DECODE_ANY, NULL);
    cr_assert_not_null(body, "test body is not JSON: %s", text);
    enum err e = job_request_parse(body, flags, r, em);
    json_decref(body);
    return e;
}

Test(job_request, has_the_documented_defaults) {
    struct job_request r;
    struct err_msg em = ERR_MSG_INIT;
    cr_assert_eq(
        parse("{\"model\":\"m\",\"training_file\":\"file-1\"}", JOB_REQUEST_CREATE, &r, &em),
        ERR_OK, "%s", em.text);
    cr_assert_str_eq(r.model, "m");
    cr_assert(r.n_epochs.is_auto && r.batch_size.is_auto && r.learning_rate_multiplier.is_auto);
    cr_assert_eq(r.lora.rank, 16);
    cr_assert_float_eq(r.lora.alpha, 32.0, 0);
    cr_assert(r.fast_forward.enabled);
    cr_assert_eq(r.fast_forward.interval, 6);
    cr_assert_eq(r.fast_forward.validation_examples, 32);
    cr_assert_eq(r.fast_forward.max_steps, 1000);
    cr_assert_float_eq(r.training.warmup_ratio, 0.03, 1e-12);
    cr_assert(r.training.packing && r.training.shuffle);
    job_request_clear(&r);
}

Test(job_request, alpha_follows_the_rank_unless_given) {
    struct job_request r;
    cr_assert_eq(parse("{\"lora\":{\"rank\":8}}", 0, &r, NULL), ERR_OK);
    cr_assert_float_eq(r.lora.alpha, 16.0, 0);
    job_request_clear(&r);
    cr_assert_eq(parse("{\"lora\":{\"alpha\":5,\"rank\":8}}", 0, &r, NULL), ERR_OK);
    cr_assert_float_eq(r.lora.alpha, 5.0, 0);
    job_request_clear(&r);
}

Test(job_request, null_optionals_are_absent) {
    struct job_request r;
    struct err_msg em = ERR_MSG_INIT;
    const char *body =
        "{\"model\":\"m\",\"training_file\":\"f\",\"suffix\":null,\"seed\":null,\"metadata\":null,"
        "\"validation_file\":null,\"method\":null,\"integrations\":null,\"hyperparameters\":null}";
    cr_assert_eq(parse(body, JOB_REQUEST_CREATE, &r, &em), ERR_OK, "%s", em.text);
    cr_assert_null(r.suffix);
    cr_assert_not(r.has_seed);
    job_request_clear(&r);
}

Test(job_request, both_places_of_the_hyperparameters_are_read) {
    struct job_request r;
    const char *old = "{\"hyperparameters\":{\"n_epochs\":3,\"batch_size\":\"auto\"}}";
    const char *new = "{\"method\":{\"type\":\"supervised\",\"supervised\":{\"hyperparameters\":"
                      "{\"n_epochs\":4.0,\"learning_rate_multiplier\":0.5}}}}";
    cr_assert_eq(parse(old, 0, &r, NULL), ERR_OK);
    cr_assert_float_eq(r.n_epochs.value, 3, 0);
    cr_assert(r.batch_size.is_auto);
    job_request_clear(&r);
    cr_assert_eq(parse(new, 0, &r, NULL), ERR_OK);
    cr_assert_float_eq(r.n_epochs.value, 4, 0);
    cr_assert_float_eq(r.learning_rate_multiplier.value, 0.5, 0);
    job_request_clear(&r);
}

#define METHOD(numbers)                                                                            \
    "\"method\":{\"type\":\"supervised\",\"supervised\":{\"hyperparameters\":" numbers "}}"

/* In either order: the file's last word does not win. */
Test(job_request, both_places_of_the_hyperparameters_must_agree) {
    static const struct {
        const char *body;
        bool good;
    } cases[] = {
        {"{\"hyperparameters\":{\"n_epochs\":3}," METHOD("{\"n_epochs\":4}") "}", false},
        {"{" METHOD("{\"n_epochs\":4}") ",\"hyperparameters\":{\"n_epochs\":3}}", false},
        {"{" METHOD("{\"n_epochs\":4}") ",\"hyperparameters\":{\"n_epochs\":\"auto\"}}", false},
        {"{\"hyperparameters\":{\"batch_size\":2}," METHOD("{\"batch_size\":\"auto\"}") "}", false},
        {"{\"hyperparameters\":{\"learning_rate_multiplier\":1}," METHOD(
             "{\"learning_rate_multiplier\":1.5}") "}",
         false},
        {"{\"hyperparameters\":{\"n_epochs\":3}," METHOD("{\"n_epochs\":3.0}") "}", true},
        {"{" METHOD("{\"n_epochs\":3}") ",\"hyperparameters\":{\"n_epochs\":null}}", true},
        {"{\"hyperparameters\":{\"n_epochs\":3}," METHOD("{\"batch_size\":\"auto\"}") "}", true},
        {"{\"hyperparameters\":{\"n_epochs\":3,\"batch_size\":\"auto\"}," METHOD(
             "{\"batch_size\":\"auto\"}") "}",
         true},
        {"{\"hyperparameters\":{\"n_epochs\":3},\"method\":{\"type\":\"supervised\"}}", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job_request r;
        struct err_msg em = ERR_MSG_INIT;
        enum err e = parse(cases[i].body, 0, &r, &em);
        cr_expect_eq(e == ERR_OK, cases[i].good, "%s: %s", cases[i].body, em.text);
        if (!cases[i].good)
            cr_expect_str_eq(em.param, "hyperparameters", "%s", cases[i].body);
        else
            cr_expect(r.n_epochs.is_auto || r.n_epochs.value == 3, "%s", cases[i].body);
        job_request_clear(&r);
    }
}

Test(job_request, extensions_are_read_back_as_written) {
    struct job_request a, b;
    const char *body = "{\"lora\":{\"rank\":4,\"target_modules\":[\"q_proj\"],\"use_rslora\":true},"
                       "\"fast_forward\":{\"search\":\"linear\",\"interval\":9},"
                       "\"training\":{\"max_steps\":7,\"lr_schedule\":\"cosine\",\"packing\":false,"
                       "\"early_stopping\":{\"patience\":2,\"min_delta\":0.25},"
                       "\"target_loss\":1.5,\"learning_rate\":0.002}}";
    cr_assert_eq(parse(body, 0, &a, NULL), ERR_OK);
    json_t *first = job_request_extensions(&a);
    cr_assert_eq(job_request_parse(first, 0, &b, NULL), ERR_OK);
    json_t *second = job_request_extensions(&b);
    cr_assert(json_equal(first, second));
    cr_assert_eq(b.training.patience, 2);
    cr_assert_float_eq(b.training.learning_rate.value, 0.002, 1e-12);
    json_decref(first);
    json_decref(second);
    job_request_clear(&a);
    job_request_clear(&b);
}

/* Limits count characters: 64 of two bytes each. */
#define E8 "\303\251\303\251\303\251\303\251\303\251\303\251\303\251\303\251"
#define E64 E8 E8 E8 E8 E8 E8 E8 E8

Test(job_request, characters_count_not_bytes) {
    static const char *const good[] = {
        "{\"suffix\":\"" E64 "\"}", "{\"metadata\":{\"" E64 "\":\"x\"}}",
        "{\"metadata\":{\"k\":\"" E64 E64 E64 E64 E64 E64 E64 E64 "\"}}"};
    for (size_t i = 0; i < 3; i++) {
        struct job_request r;
        struct err_msg em = ERR_MSG_INIT;
        json_t *body = json_loads(good[i], 0, NULL);
        cr_assert_eq(job_request_parse(body, 0, &r, &em), ERR_OK, "%s", em.text);
        job_request_clear(&r);
        json_decref(body);
    }
}

static const struct {
    const char *body, *param;
} wrong[] = {
    {"[]", ""},
    {"{}", "model"},
    {"{\"model\":\"m\"}", "training_file"},
    {"{\"model\":1,\"training_file\":\"f\"}", "model"},
    {"{\"model\":\"\",\"training_file\":\"f\"}", "model"},
    {"{\"modle\":\"m\"}", "modle"},
    {"{\"seed\":-1}", "seed"},
    {"{\"seed\":2147483648}", "seed"},
    {"{\"seed\":1.5}", "seed"},
    {"{\"suffix\":\"a/b\"}", "suffix"},
    {"{\"model\":\"m\",\"training_file\":\"f\",\"suffix\":\"ckpt-step-1\"}", "suffix"},
    {"{\"metadata\":[]}", "metadata"},
    {"{\"metadata\":{\"k\":1}}", "metadata.k"},
    {"{\"suffix\":\"" E64 "\303\251\"}", "suffix"},
    {"{\"metadata\":{\"k\":\"" E64 E64 E64 E64 E64 E64 E64 E64 "x\"}}", "metadata.k"},
    {"{\"priority\":101}", "priority"},
    {"{\"dry_run\":\"yes\"}", "dry_run"},
    {"{\"integrations\":[{\"type\":\"wandb\"}]}", "integrations"},
    {"{\"method\":{\"type\":\"dpo\"}}", "method.type"},
    {"{\"method\":{}}", "method.type"},
    {"{\"method\":{\"type\":\"supervised\",\"dpo\":{}}}", "method.dpo"},
    {"{\"hyperparameters\":{\"n_epochs\":0}}", "hyperparameters.n_epochs"},
    {"{\"hyperparameters\":{\"n_epochs\":101}}", "hyperparameters.n_epochs"},
    {"{\"hyperparameters\":{\"batch_size\":\"big\"}}", "hyperparameters.batch_size"},
    {"{\"hyperparameters\":{\"learning_rate_multiplier\":0}}",
     "hyperparameters.learning_rate_multiplier"},
    {"{\"method\":{\"type\":\"supervised\",\"supervised\":{\"hyperparameters\":{\"lr\":1}}}}",
     "method.supervised.hyperparameters.lr"},
    {"{\"lora\":{\"rank\":0}}", "lora.rank"},
    {"{\"lora\":{\"rank\":513}}", "lora.rank"},
    {"{\"lora\":{\"alpha\":0}}", "lora.alpha"},
    {"{\"lora\":{\"dropout\":1}}", "lora.dropout"},
    {"{\"lora\":{\"target_modules\":\"all\"}}", "lora.target_modules"},
    {"{\"lora\":{\"target_modules\":[]}}", "lora.target_modules"},
    {"{\"lora\":{\"use_dora\":1}}", "lora.use_dora"},
    {"{\"lora\":7}", "lora"},
    {"{\"fast_forward\":{\"search\":\"golden\"}}", "fast_forward.search"},
    {"{\"fast_forward\":{\"interval\":0}}", "fast_forward.interval"},
    {"{\"training\":{\"learning_rate\":\"high\"}}", "training.learning_rate"},
    {"{\"training\":{\"learning_rate\":2}}", "training.learning_rate"},
    {"{\"training\":{\"max_seq_len\":1}}", "training.max_seq_len"},
    {"{\"training\":{\"early_stopping\":{}}}", "training.early_stopping.patience"},
    {"{\"training\":{\"early_stopping\":{\"patience\":0}}}", "training.early_stopping.patience"},
    {"{\"training\":{\"warmup_ratio\":1.01}}", "training.warmup_ratio"},
};

Test(job_request, names_the_path_of_each_wrong_field) {
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct job_request r;
        struct err_msg em = ERR_MSG_INIT;
        enum err e = parse(wrong[i].body, JOB_REQUEST_CREATE, &r, &em);
        cr_expect_neq(e, ERR_OK, "accepted: %s", wrong[i].body);
        cr_expect_str_eq(em.param, wrong[i].param, "%s: param is '%s'", wrong[i].body, em.param);
        cr_expect(em.text[0] != '\0', "%s: no message", wrong[i].body);
    }
}
