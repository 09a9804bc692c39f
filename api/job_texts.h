/* job_texts: texts of jobs that have ended, as they were last shown.
 *
 * What:    a job that has ended is shown the same way until its row changes, which hardly ever
 *          happens. A page of jobs is then put together from texts that are there.
 * Owns:    at most the bytes it was made for, and a table for them.
 * Threads: the loop thread only.
 * Errors:  none; what does not fit is not kept.
 */
#ifndef FFWD_API_JOB_TEXTS_H
#define FFWD_API_JOB_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct job_texts;

struct job_texts *job_texts_new(size_t most_bytes);
void job_texts_free(struct job_texts *t); /* may be NULL */

/* seq: the job's number in the store. whole: its text alone, not the one in a list. The text is
 * good until the next call with this struct; NULL: there is none. */
const char *job_texts_find(const struct job_texts *t, int64_t seq, bool whole, size_t *len);
void job_texts_keep(struct job_texts *t, int64_t seq, bool whole, const char *text, size_t len);
/* Its row has changed. */
void job_texts_drop(struct job_texts *t, int64_t seq);

#endif
