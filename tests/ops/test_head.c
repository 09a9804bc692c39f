/* The loss head: negative log likelihood, arg max and the input's gradient, by chunks. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "tests/ops/support/reference.h"
#include "tests/ops/support/scene.h"

struct head_case {
    int64_t rows, in, vocab, pad;
    double scale; /* of the weights: how peaked the probabilities are */
    int64_t none; /* every so many rows one has no target; 0: all have one */
};

static const struct head_case cases[] = {
    {1, 4, 2, 0, 1.0, 0},       {3, 8, 7, 2, 4.0, 0},     {37, 24, 513, 0, 1.0, 0},
    {5, 16, 1200, 1, 8.0, 0},   {600, 8, 300, 0, 1.0, 0}, {70, 200, 131, 0, 0.1, 0},
    {300, 96, 1056, 0, 0.5, 0}, {1, 8, 70, 0, 1.0, 1},    {90, 24, 1056, 1, 1.0, 3},
};

static struct linear *make_head(struct scene *s, struct mat w) {
    struct linear_spec spec = {.in = w.cols, .n_parts = 1};
    struct linear *lin;
    struct err_msg em = ERR_MSG_INIT;
    spec.part[0].weight = scene_host_values(s, w, s->dtype);
    spec.part[0].weight_dtype = s->dtype;
    spec.part[0].out = w.rows;
    cr_assert_eq(s->ops->linear_new(s->dev, &spec, s->dtype, &lin, &em), ERR_OK);
    return lin;
}

static void check_loss(struct scene *s, const float *nll, struct mat want, const uint8_t *right,
                       const uint8_t *correct) {
    int64_t n = want.cols;
    uint8_t *got = scene_host(s, (size_t)n);
    struct err_msg em = ERR_MSG_INIT;
    /* f32 accumulation in both types: nll differs by no more than f32 rounding of the logits */
    scene_check(s, "nll", scene_get_f32(s, nll, 1, n), want, 3e-6);
    cr_assert_eq(s->ops->download(s->dev, got, correct, (size_t)n, &em), ERR_OK);
    cr_assert_eq(memcmp(got, right, (size_t)n), 0, "%s: arg max", s->label);
}

/* What is known of rows that have no target. */
static void take_targets(const struct head_case *c, int32_t *targets, uint8_t *right,
                         struct mat nll, struct mat dx) {
    for (int64_t i = 0; c->none > 0 && i < c->rows; i += c->none) {
        targets[i] = -1;
        right[i] = 0;
        nll.v[i] = 0;
        memset(mat_at(dx, i, 0), 0, (size_t)dx.cols * sizeof *dx.v);
    }
}

static void run_case(struct scene *s, const void *arg) {
    const struct head_case *c = arg;
    const float scale = 0.125f;
    struct mat x = scene_random(s, c->rows, c->in, 1.0, s->dtype);
    struct mat w = scene_random(s, c->vocab, c->in, c->scale, s->dtype);
    struct mat nll = scene_mat(s, 1, c->rows), dx = scene_mat(s, c->rows, c->in);
    int32_t *targets = scene_host(s, (size_t)c->rows * sizeof *targets);
    uint8_t *right = scene_host(s, (size_t)c->rows);
    for (int64_t i = 0; i < c->rows; i++)
        targets[i] = (int32_t)scene_below(s, c->vocab);
    ref_head_loss(x, w, targets, 0.125, nll, right, (struct mat){0});
    ref_head_loss(x, w, targets, 0.125, nll, NULL, dx);
    take_targets(c, targets, right, nll, dx);
    struct linear *head = make_head(s, w);
    const float *scale_d = scene_upload(s, &scale, sizeof scale);
    struct tensor xd = scene_put(s, x, c->pad, s->dtype);
    struct tensor dxd = scene_tensor(s, c->rows, c->in, c->pad, s->dtype);
    int32_t *targets_d = scene_upload(s, targets, (size_t)c->rows * sizeof *targets);
    float *nll_d = scene_device(s, (size_t)c->rows * sizeof *nll_d);
    uint8_t *correct = scene_device(s, (size_t)c->rows);
    s->ops->head_loss(s->dev, head, xd, targets_d, NULL, nll_d, correct, NULL);
    check_loss(s, nll_d, nll, right, correct);
    s->ops->head_loss(s->dev, head, xd, targets_d, scale_d, nll_d, correct, &dxd);
    check_loss(s, nll_d, nll, right, correct);
    scene_check_tensor(s, "dx", dxd, dx, 2 * limit_of(s->dtype));
    scene_check_padding(s, "dx", dxd);
    /* in place */
    s->ops->head_loss(s->dev, head, xd, targets_d, scale_d, nll_d, correct, &xd);
    scene_check_tensor(s, "dx in place", xd, dx, 2 * limit_of(s->dtype));
    s->ops->linear_free(s->dev, head);
}

Test(head, agrees_with_the_reference) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        each_device(run_case, &cases[i]);
}

static void run_ties(struct scene *s, const void *arg) {
    (void)arg;
    /* all rows of w are equal: every logit is the same, and the lowest index is the arg max */
    struct mat x = scene_random(s, 3, 4, 1.0, s->dtype), w = scene_mat(s, 1100, 4);
    for (int64_t i = 0; i < w.rows * w.cols; i++)
        w.v[i] = 0.5;
    int32_t targets[3] = {0, 1, 1099};
    uint8_t right[3] = {1, 0, 0};
    struct mat nll = scene_mat(s, 1, 3);
    ref_head_loss(x, w, targets, 1.0, nll, NULL, (struct mat){0});
    struct linear *head = make_head(s, w);
    float *nll_d = scene_device(s, 3 * sizeof *nll_d);
    uint8_t *correct = scene_device(s, 3);
    s->ops->head_loss(s->dev, head, scene_put(s, x, 0, s->dtype),
                      scene_upload(s, targets, sizeof targets), NULL, nll_d, correct, NULL);
    check_loss(s, nll_d, nll, right, correct);
    s->ops->linear_free(s->dev, head);
}

Test(head, lowest_index_wins_ties) {
    each_device(run_ties, NULL);
}

/* A logit that is no number must show in the loss: training then ends as diverged. */
static void run_nan(struct scene *s, const void *arg) {
    (void)arg;
    struct mat x = scene_random(s, 2, 4, 1.0, s->dtype), w = scene_random(s, 700, 4, 1.0, s->dtype);
    *mat_at(w, 600, 1) = NAN;
    int32_t targets[2] = {0, 699};
    struct linear *head = make_head(s, w);
    float *nll_d = scene_device(s, 2 * sizeof *nll_d);
    uint8_t *correct = scene_device(s, 2);
    s->ops->head_loss(s->dev, head, scene_put(s, x, 0, s->dtype),
                      scene_upload(s, targets, sizeof targets), NULL, nll_d, correct, NULL);
    struct mat nll = scene_get_f32(s, nll_d, 1, 2);
    cr_assert(isnan(nll.v[0]) && isnan(nll.v[1]), "%s: %g, %g", s->label, nll.v[0], nll.v[1]);
    s->ops->linear_free(s->dev, head);
}

Test(head, a_logit_that_is_no_number_is_seen) {
    each_device(run_nan, NULL);
}

/* The same of a loss that is infinite: the logit of the target is. */
static void run_infinite(struct scene *s, const void *arg) {
    (void)arg;
    const float scale = 1.0f;
    struct mat x = scene_random(s, 2, 4, 1.0, s->dtype), w = scene_random(s, 300, 4, 1.0, s->dtype);
    *mat_at(x, 0, 0) = 1;
    *mat_at(x, 1, 0) = 0.5;
    *mat_at(w, 200, 0) = -INFINITY;
    int32_t targets[2] = {200, 7};
    struct linear *head = make_head(s, w);
    float *nll_d = scene_device(s, 2 * sizeof *nll_d);
    uint8_t *correct = scene_device(s, 2);
    struct tensor dx = scene_tensor(s, 2, 4, 0, s->dtype);
    s->ops->head_loss(s->dev, head, scene_put(s, x, 0, s->dtype),
                      scene_upload(s, targets, sizeof targets),
                      scene_upload(s, &scale, sizeof scale), nll_d, correct, &dx);
    struct mat got = scene_get(s, dx);
    cr_assert_not(isfinite(scene_get_f32(s, nll_d, 1, 2).v[0]));
    for (int64_t i = 1; i < 4; i++)
        cr_assert(isnan(*mat_at(got, 0, i)), "%s: %g", s->label, *mat_at(got, 0, i));
    s->ops->linear_free(s->dev, head);
}

Test(head, a_loss_that_is_not_finite_makes_its_gradient_so) {
    each_device(run_infinite, NULL);
}

struct slope {
    struct mat x, w, nll;
    int32_t targets[5];
};

static double loss(void *arg) {
    struct slope *d = arg;
    double sum = 0;
    ref_head_loss(d->x, d->w, d->targets, 1.0, d->nll, NULL, (struct mat){0});
    for (int64_t i = 0; i < d->nll.cols; i++)
        sum += d->nll.v[i];
    return sum;
}

Test(head, reference_agrees_with_differences) {
    struct scene s = {.dtype = DTYPE_F32, .label = "reference", .random = 7};
    struct slope d = {.targets = {0, 3, 6, 3, 1}};
    d.x = scene_random(&s, 5, 6, 1.0, DTYPE_F32);
    d.w = scene_random(&s, 7, 6, 1.0, DTYPE_F32);
    d.nll = scene_mat(&s, 1, 5);
    struct mat dx = scene_mat(&s, 5, 6);
    ref_head_loss(d.x, d.w, d.targets, 1.0, d.nll, NULL, dx);
    scene_check_slope(&s, "x", loss, &d, d.x, dx, 30);
    scene_clear(&s);
}
