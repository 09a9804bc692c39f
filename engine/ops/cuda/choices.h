/* choices: which algorithm of cuBLASLt was chosen for a shape.
 *
 * What:    a table from a shape to the eight words of an algorithm, for one device, driver and
 *          library, and its form as text. Timing is noisy and another algorithm may round
 *          otherwise, so what was chosen once is kept: in a job's resume points, and in a file that
 *          processes share (choices_file.h).
 * Owns:    the table.
 * Threads: one control thread.
 * Errors:  none; text that is not of this form is refused.
 *
 * The text is a line that names device, driver and library, then a line for each shape: seventeen
 * numbers, a colon, eight words in hexadecimal.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_CHOICES_H
#define FFWD_ENGINE_OPS_CUDA_CHOICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHOICE_NUMBERS 17
#define CHOICE_WORDS 8

struct choices;

/* Empty; identity: one line. */
struct choices *choices_new(const char *identity);
/* Of text as choices_text makes it. NULL: of another identity, or not such text. */
struct choices *choices_from(const char *text, const char *identity);
/* The caller frees. */
char *choices_text(const struct choices *c);
void choices_free(struct choices *c);

/* NULL: not there. Valid until something is added. */
const uint64_t *choices_find(const struct choices *c, const int64_t shape[CHOICE_NUMBERS]);
/* A shape that is there already stays as it is. */
void choices_add(struct choices *c, const int64_t shape[CHOICE_NUMBERS],
                 const uint64_t words[CHOICE_WORDS]);
/* The same from a line of the text, without its newline; false: not of this form. */
bool choices_add_line(struct choices *c, const char *line);
/* Such a line with its newline; returns its length. */
#define CHOICE_LINE_MAX 512
size_t choices_line(char line[CHOICE_LINE_MAX], const int64_t shape[CHOICE_NUMBERS],
                    const uint64_t words[CHOICE_WORDS]);

#endif
