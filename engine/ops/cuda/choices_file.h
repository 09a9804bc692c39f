/* choices_file: choices of algorithms that processes share.
 *
 * What:    a file of choices for one device, driver and library. Of a shape the first choice
 *          counts, whichever process made it, so that runs that share the file give the same bytes.
 * Owns:    what has been read of it.
 * Threads: one control thread; any number of processes.
 * Errors:  none. What keeps the file from being read or written is logged once, and from then on
 *          choices are this process's alone.
 *
 * The file is text: "ffwd-algorithms 1 " and the identity, then the lines of choices.h. It is only
 * ever added to, under a lock, a line at a time; a last line without its newline, of a process that
 * was killed, is cut off. A file of another version or identity, or with a line that is none, is
 * begun anew. What does not begin like such a file, is no regular file, is a symbolic link, or is
 * larger than CHOICES_FILE_MOST is left as it is and not used; one that may not be written is read.
 */
#ifndef FFWD_ENGINE_OPS_CUDA_CHOICES_FILE_H
#define FFWD_ENGINE_OPS_CUDA_CHOICES_FILE_H

#include "engine/ops/cuda/choices.h"

#define CHOICES_FILE_MOST ((size_t)16 << 20)

struct choices_file;

/* The file is read; it need not be there. identity: one line. */
struct choices_file *choices_file_open(const char *path, const char *identity);
void choices_file_close(struct choices_file *f);
/* NULL: not there, after another look at the file where it has grown. Valid until the next call. */
const uint64_t *choices_file_find(struct choices_file *f, const int64_t shape[CHOICE_NUMBERS]);
/* Adds a choice; returns what counts: these words, or those of a process that came first. Valid
 * until the next call. */
const uint64_t *choices_file_put(struct choices_file *f, const int64_t shape[CHOICE_NUMBERS],
                                 const uint64_t words[CHOICE_WORDS]);

#endif
