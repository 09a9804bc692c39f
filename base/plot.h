/* plot: a run as a picture.
 *
 * What:    draws a curve (curve.h) as SVG: losses and what each Fast Forward stage did to them, the
 *          simulated steps of each stage, the learning rate, over the optimizer steps. It needs no
 *          script, follows the viewer's light or dark colours and says each stage's numbers where
 *          the pointer rests.
 * Owns:    nothing.
 * Threads: safe.
 * Errors:  ERR_LIMIT if the buffer is too small: PLOT_BYTES always suffice.
 */
#ifndef FFWD_BASE_PLOT_H
#define FFWD_BASE_PLOT_H

#include "base/buf.h"
#include "base/curve.h"

#define PLOT_BYTES (1u << 20)

/* title: any text; it is escaped, and cut where it is long. */
enum err plot_svg(const struct curve *c, const char *title, struct buf *out,
                  struct err_msg *em) NODISCARD;

#endif
