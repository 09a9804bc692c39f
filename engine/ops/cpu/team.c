/* team: see team.h.
 *
 * `state` holds (run number << 32 | next item). An item is claimed by compare-and-swap on it, and
 * the run's fields are read before: a claim that succeeds proves that they belong to that run. So
 * a thread that wakes late finds nothing and is never waited for. Between runs the item part is
 * CLOSED, which no number of items reaches.
 */
#include "engine/ops/cpu/team.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <xmmintrin.h>

#include "base/mem.h"
#include "engine/ops/cpu/cgroup.h"

#define CLOSED 0xffffffffu
#define LINE 64                   /* of the cache */
#define SUBNORMAL_AS_ZERO 0x8040u /* MXCSR: flush to zero, denormals are zero */
/* How long a thread waits awake: longer than from one operation to the next, or than another thread
 * is at its last item, where each thread has a core; else the others want it. */
#define SPINS 20000 /* half a millisecond to one */
#define SPINS_SHARED 1000

typedef void team_fn(void *arg, int64_t item, int worker);

struct member {
    struct team *team;
    pthread_t thread;
    int worker;
};

struct team {
    int n, spins;
    struct member *members; /* [n]; the first is the caller */
    char apart[LINE]; /* what threads claim items by and what they add to have lines of their own */
    atomic_uint_fast64_t state;
    _Atomic(team_fn *) fn;
    _Atomic(void *) arg;
    atomic_int_fast64_t n_items;
    atomic_bool stop;
    char apart_too[LINE];
    atomic_int_fast64_t n_done;
    atomic_int sleepers;
    atomic_bool waiting;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
};

static void pause_briefly(void) {
    __builtin_ia32_pause();
}

/* Says that a thread's items of a run of n_items are done. */
static void add_done(struct team *t, int64_t done, int64_t n_items) {
    if (done == 0 || atomic_fetch_add(&t->n_done, done) + done != n_items ||
        !atomic_load(&t->waiting))
        return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->done);
    pthread_mutex_unlock(&t->lock);
}

/* Takes items of the current run until none is left. */
static void work(struct team *t, int worker) {
    int64_t done = 0;
    for (;;) {
        uint_fast64_t s = atomic_load(&t->state);
        int64_t item = (int64_t)(s & CLOSED);
        int64_t n_items = atomic_load(&t->n_items);
        team_fn *fn = atomic_load(&t->fn);
        void *arg = atomic_load(&t->arg);
        if (item >= n_items) {
            add_done(t, done, n_items);
            return;
        }
        if (!atomic_compare_exchange_weak(&t->state, &s, s + 1))
            continue;
        fn(arg, item, worker);
        done++;
    }
}

static bool run_changed(struct team *t, uint_fast64_t seen) {
    return atomic_load(&t->state) >> 32 != seen || atomic_load(&t->stop);
}

static void *member_main(void *arg) {
    struct member *m = arg;
    struct team *t = m->team;
    uint_fast64_t seen = 0;
    omp_set_num_threads(1);
    _mm_setcsr(_mm_getcsr() | SUBNORMAL_AS_ZERO);
    while (!atomic_load(&t->stop)) {
        for (int i = 0; i < t->spins && !run_changed(t, seen); i++)
            pause_briefly();
        if (!run_changed(t, seen)) {
            pthread_mutex_lock(&t->lock);
            atomic_fetch_add(&t->sleepers, 1);
            while (!run_changed(t, seen))
                pthread_cond_wait(&t->wake, &t->lock);
            atomic_fetch_sub(&t->sleepers, 1);
            pthread_mutex_unlock(&t->lock);
        }
        seen = atomic_load(&t->state) >> 32;
        work(t, m->worker);
    }
    return NULL;
}

/* The processors this process may run on, or fewer where it is given the time of fewer: threads
 * that wait awake would use it up. */
static int cores(void) {
    cpu_set_t set;
    int most = cgroup_processors(CGROUP_ROOT), n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        n = CPU_COUNT(&set);
    return n < most ? n : most;
}

struct team *team_new(int threads) {
    struct team *t = xcalloc(1, sizeof *t);
    if (threads < 1)
        threads = cores();
    t->spins = threads <= cores() ? SPINS : SPINS_SHARED;
    if (threads > TEAM_MAX_THREADS)
        threads = TEAM_MAX_THREADS;
    t->members = xcalloc((size_t)threads, sizeof *t->members);
    atomic_init(&t->state, CLOSED);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    pthread_cond_init(&t->done, NULL);
    for (t->n = 1; t->n < threads; t->n++) {
        struct member *m = &t->members[t->n];
        *m = (struct member){.team = t, .worker = t->n};
        if (pthread_create(&m->thread, NULL, member_main, m) != 0)
            break;
    }
    return t;
}

void team_free(struct team *t) {
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->stop, true);
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->lock);
    for (int i = 1; i < t->n; i++)
        pthread_join(t->members[i].thread, NULL);
    pthread_cond_destroy(&t->done);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->lock);
    free(t->members);
    free(t);
}

int team_size(const struct team *t) {
    return t->n;
}

static void wait_for_others(struct team *t, int64_t n_items) {
    for (int i = 0; i < t->spins; i++) {
        if (atomic_load(&t->n_done) == n_items)
            return;
        pause_briefly();
    }
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->waiting, true);
    while (atomic_load(&t->n_done) != n_items)
        pthread_cond_wait(&t->done, &t->lock);
    atomic_store(&t->waiting, false);
    pthread_mutex_unlock(&t->lock);
}

void team_run(struct team *t, int64_t n_items, team_fn *fn, void *arg) {
    int omp_threads = omp_get_max_threads();
    unsigned float_mode = _mm_getcsr();
    omp_set_num_threads(1); /* oneDNN inside an item must not start threads of its own */
    _mm_setcsr(float_mode | SUBNORMAL_AS_ZERO);
    if (t->n == 1 || n_items <= 1) {
        for (int64_t i = 0; i < n_items; i++)
            fn(arg, i, 0);
    } else {
        uint_fast64_t run = (atomic_load(&t->state) >> 32) + 1;
        atomic_store(&t->n_done, 0);
        atomic_store(&t->fn, fn);
        atomic_store(&t->arg, arg);
        atomic_store(&t->n_items, n_items);
        atomic_store(&t->state, run << 32);
        if (atomic_load(&t->sleepers) > 0) {
            pthread_mutex_lock(&t->lock);
            pthread_cond_broadcast(&t->wake);
            pthread_mutex_unlock(&t->lock);
        }
        work(t, 0);
        wait_for_others(t, n_items);
        atomic_store(&t->state, run << 32 | CLOSED);
    }
    _mm_setcsr(float_mode);
    omp_set_num_threads(omp_threads);
}
