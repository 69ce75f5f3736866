/* A team of threads that share out one short piece of work after the other, for one message at a time.
 *
 * The caller works too, and takes whatever the others have not begun: a helper that wakes up late costs nothing. Helpers
 * look for work without pause while a message is computed (a third of a millisecond) and a little longer, for the next
 * message may follow at once, and to wake from sleep can take as long as a message does. Then they sleep.
 *
 * A round of work is cut into as many shares as there are threads: cores that are far apart need a fifth of a microsecond
 * to agree on who takes what, and with an item for each panel of outputs they did little else. A round is published in
 * one number, so that nobody can take a share of a round whose work it has not seen: 32 bits name the round, 16 say how
 * many shares it has, 16 say which one is next.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#define PATIENCE 1000
#define LINGER_NS 500000

typedef void (*Task)(const void *work, int item);

typedef struct {
    _Atomic uint64_t ticket;
    _Atomic int done;
    Task task;
    const void *work;
    int items, share; /* in all, and in each share but the last */

    _Atomic int awake; /* a message is being computed */
    int ends, helpers;
    pthread_mutex_t owner, lock;
    pthread_cond_t wake;
    pthread_t threads[63];
} Team;

/* Wait a moment; after a while of it, let another thread have the core, which may be the one that is waited for. */
static inline void relax(int *patience) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    if (--*patience < 0) sched_yield();
}

/* Take shares of the round that is on until none is left. */
static void take_part(Team *team) {
    uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    while ((ticket & 0xffff) < (ticket >> 16 & 0xffff)) {
        const Task task = team->task;
        const void *work = team->work;
        if (atomic_compare_exchange_weak_explicit(
                &team->ticket, &ticket, ticket + 1, memory_order_acq_rel, memory_order_acquire)) {
            const int first = (int)(ticket & 0xffff) * team->share, left = team->items - first;
            for (int i = 0; i < (left < team->share ? left : team->share); i++) task(work, first + i);
            atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
            ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
        }
    }
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Wait a little for the next message, awake. Returns whether it came. */
static int lingered(Team *team) {
    int patience = PATIENCE;
    for (const int64_t until = now_ns() + LINGER_NS; now_ns() < until; relax(&patience))
        if (atomic_load_explicit(&team->awake, memory_order_acquire)) return 1;
    return 0;
}

static void *help(void *given) {
    Team *team = given;
    for (;;) {
        pthread_mutex_lock(&team->lock);
        while (!atomic_load(&team->awake) && !team->ends) pthread_cond_wait(&team->wake, &team->lock);
        const int ends = team->ends;
        pthread_mutex_unlock(&team->lock);
        if (ends) return NULL;
        do {
            for (int patience = PATIENCE; atomic_load_explicit(&team->awake, memory_order_relaxed); relax(&patience))
                take_part(team);
        } while (lingered(team));
    }
}

/* Do `items` pieces of work, together with the team if there is one; returns when all are done. */
static void share(Team *team, Task task, const void *work, int items) {
    if (!team) {
        for (int item = 0; item < items; item++) task(work, item);
        return;
    }
    team->task = task;
    team->work = work;
    team->items = items;
    team->share = (items + team->helpers) / (team->helpers + 1);
    const int shares = (items + team->share - 1) / team->share;
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    const uint64_t round = (atomic_load_explicit(&team->ticket, memory_order_relaxed) >> 32) + 1;
    atomic_store_explicit(&team->ticket, round << 32 | (uint64_t)shares << 16, memory_order_release);
    take_part(team);
    for (int patience = PATIENCE; atomic_load_explicit(&team->done, memory_order_acquire) < shares;) relax(&patience);
}

/* Call the helpers; NULL if they work for another caller now. */
static Team *called(Team *team) {
    if (!team || pthread_mutex_trylock(&team->owner)) return NULL;
    pthread_mutex_lock(&team->lock);
    atomic_store(&team->awake, 1);
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
    return team;
}

static void dismissed(Team *team) {
    if (!team) return;
    atomic_store(&team->awake, 0);
    pthread_mutex_unlock(&team->owner);
}

/* A team of `threads`, the caller included; NULL for one, or if none can be had. */
Team *team_new(int threads) {
    Team *team = threads > 1 && threads <= 64 ? calloc(1, sizeof(Team)) : NULL;
    if (!team) return NULL;
    pthread_mutex_init(&team->owner, NULL);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->wake, NULL);
    while (team->helpers < threads - 1 &&
           !pthread_create(&team->threads[team->helpers], NULL, help, team)) team->helpers++;
    return team;
}

void team_free(Team *team) {
    if (!team) return;
    pthread_mutex_lock(&team->lock);
    team->ends = 1;
    pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->lock);
    for (int i = 0; i < team->helpers; i++) pthread_join(team->threads[i], NULL);
    free(team);
}
