/* cmd_plot: `ffwd plot`, a run as a picture. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/plot.h"
#include "engine/cli/cli.h"
#include "engine/cli/options.h"

static const char help_text[] =
    "usage: ffwd plot [--out FILE.svg] [--title TEXT] PATH\n"
    "\n"
    "Draws a run as SVG: losses, Fast Forward stages and learning rate over its steps.\n"
    "\n"
    "  PATH          a metrics.csv, an adapter's folder, or the --out folder of a job that runs\n"
    "                or has ended\n"
    "  --out FILE    where to write it (default: standard output)\n"
    "  --title TEXT  its heading (default: PATH)\n";

static bool is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static enum err write_out(const char *path, const struct buf *svg, struct err_msg *em) {
    if (path != NULL)
        return file_write(path, svg->data, svg->len, em);
    if (fwrite(svg->data, 1, svg->len, stdout) != svg->len || fflush(stdout) != 0)
        return err_set(em, ERR_IO, "cannot write to standard output");
    return ERR_OK;
}

static enum err draw(const char *path, const char *title, const char *out, struct err_msg *em) {
    struct curve *c = xmalloc(sizeof *c);
    struct buf svg;
    char *csv = is_dir(path) ? curve_file(path) : xstrdup(path);
    buf_init(&svg, PLOT_BYTES);
    enum err e = curve_read(csv, NULL, c, em);
    if (e == ERR_OK)
        e = plot_svg(c, title != NULL ? title : path, &svg, em);
    if (e == ERR_OK)
        e = write_out(out, &svg, em);
    buf_clear(&svg);
    free(csv);
    free(c);
    return e;
}

struct plot_options {
    const char *out, *title, *path;
    bool help;
};

static enum err read_options(int argc, char **argv, struct plot_options *o, struct err_msg *em) {
    const struct cli_option options[] = {
        {.name = "--out", .text = &o->out},
        {.name = "--title", .text = &o->title},
    };
    const char *last = argv[argc - 1];
    bool named = argc > 1 && last[0] != '-';
    enum err e = cli_options_read(named ? argc - 1 : argc, argv, options,
                                  sizeof options / sizeof options[0], &o->help, em);
    if (e != ERR_OK || o->help)
        return e;
    if (!named)
        return err_set(em, ERR_USAGE, "the last argument names what to draw");
    o->path = last;
    return ERR_OK;
}

int cmd_plot(int argc, char **argv) {
    struct err_msg em = ERR_MSG_INIT;
    struct plot_options o = {0};
    enum err e = read_options(argc, argv, &o, &em);
    if (e == ERR_OK && o.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (e == ERR_OK)
        e = draw(o.path, o.title, o.out, &em);
    return cli_report("plot", e, &em);
}
