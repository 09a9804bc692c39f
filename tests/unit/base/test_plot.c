#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/plot.h"

static const char header[] =
    "step,train_loss,valid_loss,full_valid_loss,ff_tau,ff_evaluations,ff_loss_before,ff_loss_after,"
    "ff_flops_share,learning_rate\n";

static char path[] = "/tmp/ffwd-plot-XXXXXX";
static FILE *csv;
static struct curve c;

static void setup(void) {
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    csv = fdopen(fd, "w");
    cr_assert_not_null(csv);
}

static void teardown(void) {
    (void)fclose(csv);
    (void)unlink(path);
}

TestSuite(plot, .init = setup, .fini = teardown);

static enum err read_text(const char *text, struct err_msg *em) {
    cr_assert_geq(fputs(text, csv), 0);
    cr_assert_eq(fflush(csv), 0);
    return curve_read(path, NULL, &c, em);
}

static char *draw(const char *title) {
    struct buf svg;
    buf_init(&svg, PLOT_BYTES);
    cr_assert_eq(plot_svg(&c, title, &svg, NULL), ERR_OK);
    return buf_take(&svg);
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

Test(plot, rows_become_points) {
    char *text = xasprintf("%s1,4.5,,,,,,,,0.001\n2,4,3.5,3.75,7,5,4,3.5,0.125,0.002\n", header);
    cr_assert_eq(read_text(text, NULL), ERR_OK);
    free(text);
    cr_assert_eq(c.n, 2);
    cr_expect_eq(c.steps, 2);
    cr_expect_eq(c.stages, 1);
    cr_expect_eq(c.simulated, 7.0);
    cr_expect_eq(c.flops_share, 0.125);
    cr_expect_eq(c.point[0].train_loss, 4.5);
    cr_expect(isnan(c.point[0].full_valid_loss));
    cr_expect_eq(c.point[0].stage.step, 0);
    cr_expect_eq(c.point[1].full_valid_loss, 3.75);
    cr_expect_eq(c.point[1].learning_rate, 0.002);
    cr_expect_eq(c.point[1].stage.step, 2);
    cr_expect_eq(c.point[1].stage.loss_after, 3.5);
    char *svg = draw("job");
    cr_expect_not_null(strstr(svg, "step 2: 7 simulated steps, loss 4.0000 to 3.5000, 5 eval"));
    cr_expect_not_null(strstr(svg, "2 steps; Fast Forward: 1 stage, 7 simulated steps, 12.5 %"));
    cr_expect_not_null(strstr(svg, "validation loss 3.7500 at step 2"));
    free(svg);
}

/* 4,000 rows: points of 8 steps each. */
Test(plot, many_rows_are_joined) {
    cr_assert_geq(fputs(header, csv), 0);
    for (int i = 1; i <= 4000; i++)
        cr_assert_gt(fprintf(csv, "%d,%d,,,%s,0.5\n", i, i, i % 8 == 3 ? "9,3,2,1,0.1" : ",,,,"),
                     0);
    cr_assert_eq(read_text("", NULL), ERR_OK);
    cr_expect_eq(c.steps, 4000);
    cr_expect_eq(c.steps_each, 8);
    cr_assert_eq(c.n, 500);
    for (int i = 0; i < c.n; i++) {
        cr_expect_eq(c.point[i].step, 8 * i + 8);
        cr_expect_float_eq(c.point[i].train_loss, 8.0 * i + 4.5, 1e-9);
        cr_expect_eq(c.point[i].stage.step, 8 * i + 3);
    }
    char *svg = draw("job");
    cr_expect_eq(count(svg, "<circle class=\"s\""), 500);
    cr_expect_eq(count(svg, "</circle>"), 500);
    free(svg);
}

Test(plot, the_farthest_stage_is_shown) {
    cr_assert_geq(fputs(header, csv), 0);
    for (int i = 1; i <= 513; i++)
        cr_assert_gt(fprintf(csv, "%d,1,,,%d,3,2,1,0.1,0.5\n", i, i == 2 ? 50 : i), 0);
    cr_assert_eq(read_text("", NULL), ERR_OK);
    cr_expect_eq(c.point[0].stage.tau, 50.0);
    cr_expect_eq(c.point[1].stage.tau, 4.0);
    cr_expect_eq(c.stages, 513);
}

Test(plot, a_line_that_is_being_written_is_left_out) {
    char *text = xasprintf("%s1,4.5,,,,,,,,0.001\n2,4.2", header);
    cr_assert_eq(read_text(text, NULL), ERR_OK);
    free(text);
    cr_expect_eq(c.steps, 1);
}

Test(plot, nothing_yet_is_an_empty_picture) {
    cr_assert_eq(read_text("", NULL), ERR_OK);
    char *svg = draw("a <b> & \"c\" \n\xff");
    cr_expect_not_null(strstr(svg, "<title>a &lt;b&gt; &amp; \"c\" \?\?</title>"));
    cr_expect_not_null(strstr(svg, "</svg>\n"));
    cr_expect_null(strstr(svg, "nan"));
    free(svg);
}

Test(plot, equal_and_odd_values_give_finite_places) {
    char *text =
        xasprintf("%s1,0,,0,0,3,inf,nan,0,0\n2,0,,0,,,,,,0\n3,1e300,,,,,,,,1e-300\n", header);
    cr_assert_eq(read_text(text, NULL), ERR_OK);
    free(text);
    char *svg = draw("job");
    cr_expect_null(strstr(svg, "nan"));
    cr_expect_null(strstr(svg, "inf"));
    free(svg);
}

Test(plot, other_files_are_refused) {
    static const char *const texts[] = {"hello\n", "step,loss\n1,2\n", "step,train_loss\nx,1\n",
                                        "step,train_loss\n0,1\n", "step,train_loss\n1,2 3\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct err_msg em = ERR_MSG_INIT;
        rewind(csv);
        cr_assert_eq(ftruncate(fileno(csv), 0), 0);
        cr_expect_eq(read_text(texts[i], &em), ERR_INPUT, "%s", texts[i]);
        cr_expect_not_null(strstr(em.text, "is not a metrics.csv"));
    }
    struct err_msg em = ERR_MSG_INIT;
    cr_expect_eq(curve_read("/nonexistent/metrics.csv", NULL, &c, &em), ERR_NOT_FOUND);
}

Test(plot, it_stops_when_asked) {
    atomic_bool stop = true;
    char *text = xasprintf("%s1,4.5,,,,,,,,0.001\n", header);
    cr_assert_eq(read_text(text, NULL), ERR_OK);
    free(text);
    cr_expect_eq(curve_read(path, &stop, &c, NULL), ERR_STOPPED);
}
