/* choices: which algorithm of cuBLASLt was the fastest for a shape, kept in a file.
 *
 * What:    a table from a shape to the eight words of an algorithm, for one device, driver and
 *          library. Timing is noisy and another algorithm may round otherwise, so what was chosen
 *          once is kept: runs that share the file give the same bytes.
 * Owns:    the table.
 * Threads: one control thread.
 * Errors:  a file that cannot be read or written, or is not one of these: ERR_INPUT, ERR_IO, ….
 *
 * The file is text: a line that names device, driver and library, then a line for each shape:
 * seventeen numbers, a colon, eight words in hexadecimal. A file of another device or library is
 * replaced.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_CHOICES_H
#define FFWD_ENGINE_OPS_CUDA_CHOICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CHOICE_NUMBERS 17
#define CHOICE_WORDS 8

struct choices;

/* identity: one line. A missing file is an empty table. */
enum err choices_open(const char *path, const char *identity, struct choices **out,
                      struct err_msg *em) NODISCARD;
/* NULL: not there. Valid until the next choices_add. */
const uint64_t *choices_find(const struct choices *c, const int64_t shape[CHOICE_NUMBERS]);
/* Of text as choices_text makes it; it has no file. NULL: of another identity, or not such text. */
struct choices *choices_from(const char *text, const char *identity);
/* As in the file; the caller frees. */
char *choices_text(const struct choices *c);
void choices_add(struct choices *c, const int64_t shape[CHOICE_NUMBERS],
                 const uint64_t words[CHOICE_WORDS]);
/* Writes the file, if it has one and something was added. */
enum err choices_save(struct choices *c, struct err_msg *em) NODISCARD;
void choices_free(struct choices *c);

#endif
