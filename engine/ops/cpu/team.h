/* team: a few threads that share the items of one piece of work.
 *
 * What:    team_run calls a function once for every item 0 … n-1, on the calling thread and the
 *          team's own. Which thread takes an item is not fixed; so that results do not depend on
 *          the number of threads, an item must write only what is its own. Inside an item subnormal
 *          f32 numbers are taken as zero, as bf16 instructions always do: elsewhere one of them
 *          costs a hundred cycles. The caller's own floating-point mode comes back after.
 * Owns:    its threads, from team_new to team_free.
 * Threads: one caller at a time.
 * Errors:  threads that cannot be started are done without; team_size says how many there are.
 */
#ifndef FFWD_ENGINE_OPS_CPU_TEAM_H
#define FFWD_ENGINE_OPS_CPU_TEAM_H

#include <stdint.h>

#define TEAM_MAX_THREADS 256
#define TEAM_MAX_ITEMS ((int64_t)1 << 31)

struct team;

/* threads: in all, the caller's included, 1 … TEAM_MAX_THREADS; 0: as many as there are processors
 * that this process may run on, and no more than its control group has the time of. */
struct team *team_new(int threads);
void team_free(struct team *team);
int team_size(const struct team *team);

/* worker: 0 for the caller, 1 … team_size - 1 for the others; no two run at once with the same
 * number. n_items < TEAM_MAX_ITEMS. Returns when all items are done. */
void team_run(struct team *team, int64_t n_items, void (*fn)(void *arg, int64_t item, int worker),
              void *arg);

#endif
