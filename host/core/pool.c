/* Helpers work on one loop at a time. Between loops a helper spins for 50 µs, then sleeps: stages of a layer
   and steps of decoding follow each other within that time, and longer spinning would take processors from
   other programs. `team` counts the helpers that work on the current loop and those that may still join. The
   caller closes the loop when no index is left, so that it does not wait for a helper that was scheduled too
   late. */
#include "core/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    MEMBER = 1,
    MEMBERS = (1 << 13) - 1, /* mask of the count of members */
    ASLEEP = 1 << 13,        /* the caller sleeps until the last member is done */
    SEAT = 1 << 14,          /* times the number of helpers that may still join */
};
_Static_assert(ATTEND_MAX_THREADS <= MEMBERS && (int64_t)ATTEND_MAX_THREADS * SEAT < INT32_MAX,
               "a team's members and seats fit");

/* In nanoseconds: how long to spin, more than waking a thread takes; the least work per thread; the work that
   a thread takes at a time if indices are small. */
static const int64_t moment = 50000;
static const double worth = 10000, portion = 2000;

typedef struct helper {
    attend_pool *pool;
    pthread_t thread;
    int number;
} helper;

struct attend_pool {
    int threads, started; /* started: helper threads */
    unsigned forks;       /* the process's count of forks when they were started */
    int64_t patience;     /* nanoseconds to spin */
    /* The open loop. */
    attend_pool_body *body;
    void *job;
    int64_t count, step;
    _Alignas(64) _Atomic int64_t next;
    _Alignas(64) _Atomic uint32_t team;
    _Alignas(64) _Atomic uint32_t round; /* number of loops; helpers wait for it to change */
    _Atomic uint32_t sleepers;
    _Atomic bool ends;
    helper helpers[];
};

/* ---- forks: a child process has no helpers ---- */

static _Atomic unsigned forks;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void count_fork(void) { atomic_fetch_add(&forks, 1); }
static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

/* ---- waiting ---- */

static void sleep_while(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}
static void wake(_Atomic uint32_t *word, int threads)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void pause_briefly(void)
{
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

/* Spins for `patience` nanoseconds; whether (*word & mask) changed as `leaves` says. */
static bool changes_soon(_Atomic uint32_t *word, uint32_t mask, uint32_t value, bool leaves, int64_t patience)
{
    const int64_t end = now() + patience;
    do {
        for (int i = 0; i < 32; i++) {
            if (((atomic_load_explicit(word, memory_order_acquire) & mask) != value) == leaves) return true;
            pause_briefly();
        }
    } while (now() < end);
    return false;
}

int attend_processors(void)
{
    int processors = 0;
    for (int most = 1024; processors == 0 && most <= 1 << 20; most *= 4) { /* EINVAL: the mask is longer */
        cpu_set_t *set = CPU_ALLOC(most);
        if (!set) break;
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(most), set) == 0)
            processors = CPU_COUNT_S(CPU_ALLOC_SIZE(most), set);
        CPU_FREE(set);
    }
    return processors > 0 ? processors : 1;
}

/* ---- a loop ---- */

static void take_part(attend_pool *p, int thread)
{
    for (;;) {
        const int64_t first = atomic_fetch_add_explicit(&p->next, p->step, memory_order_relaxed);
        for (int64_t i = first; i < first + p->step; i++) {
            if (i >= p->count) return;
            p->body(p->job, i, thread);
        }
    }
}

static bool join(attend_pool *p)
{
    uint32_t team = atomic_load_explicit(&p->team, memory_order_relaxed);
    while (team >= SEAT)
        if (atomic_compare_exchange_weak_explicit(&p->team, &team, team - SEAT + MEMBER, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static void leave(attend_pool *p)
{
    const uint32_t before = atomic_fetch_sub_explicit(&p->team, MEMBER, memory_order_release);
    if ((before & (MEMBERS | ASLEEP)) == (MEMBER | ASLEEP)) wake(&p->team, 1);
}

/* Wakes two sleeping helpers if the loop has room for them. Each helper that joins wakes two more, so that
   all are woken in a logarithmic number of steps. */
static void call_others(attend_pool *p)
{
    const uint32_t team = atomic_load_explicit(&p->team, memory_order_relaxed), seats = team / SEAT,
                   sleepers = atomic_load(&p->sleepers);
    const uint32_t awake =
        (uint32_t)p->started - sleepers - (team & MEMBERS); /* and without work: they come by themselves */
    if (sleepers > 0 && (int32_t)(seats - awake) > 0) wake(&p->round, 2);
}

static uint32_t next_round(attend_pool *p, uint32_t seen)
{
    uint32_t round;
    if (!changes_soon(&p->round, UINT32_MAX, seen, true, p->patience)) {
        atomic_fetch_add(&p->sleepers, 1);
        while ((round = atomic_load(&p->round)) == seen) sleep_while(&p->round, seen);
        atomic_fetch_sub(&p->sleepers, 1);
        return round;
    }
    return atomic_load(&p->round);
}

static void *help(void *data)
{
    const helper *h = data;
    attend_pool *p = h->pool;
    for (uint32_t seen = 0;;) {
        seen = next_round(p, seen);
        if (atomic_load(&p->ends)) return NULL;
        if (!join(p)) continue;
        call_others(p);
        take_part(p, h->number);
        leave(p);
    }
}

/* Helpers block all signals except those that they cause themselves and those of profilers. */
static int start_helpers(attend_pool *p)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGPROF};
    sigset_t all, before;
    int error = 0;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&all, own[i]);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (p->started = 0; p->started + 1 < p->threads; p->started++) {
        helper *h = &p->helpers[p->started];
        *h = (helper){.pool = p, .number = p->started + 1};
        if ((error = pthread_create(&h->thread, NULL, help, h))) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

/* In a child process: resets a loop that was open at the fork and starts new helpers, as many as the system
   allows. */
static void start_again(attend_pool *p)
{
    p->forks = atomic_load(&forks);
    atomic_store(&p->team, 0);
    atomic_store(&p->round, 0);
    atomic_store(&p->sleepers, 0);
    start_helpers(p);
}

attend_status attend_pool_create(int threads, attend_pool **pool)
{
    const size_t bytes = sizeof **pool + (size_t)(threads - 1) * sizeof(helper);
    attend_pool *p = *pool = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for %d threads", threads);
    memset(p, 0, bytes);
    pthread_once(&once, watch_forks);
    p->threads = threads, p->forks = atomic_load(&forks);
    p->patience = threads <= attend_processors()
                      ? moment
                      : 0; /* with more threads than processors, spinning would delay the working threads */
    const int error = start_helpers(p);
    if (!error) return ATTEND_OK;
    const int started = p->started + 1;
    attend_pool_destroy(p);
    *pool = NULL;
    return attend_fail(ATTEND_OUT_OF_MEMORY, "the system starts %d of %d threads (%s); ask for fewer",
                       started, threads, strerror(error));
}

void attend_pool_destroy(attend_pool *p)
{
    if (!p) return;
    if (p->forks == atomic_load(&forks)) {
        atomic_store(&p->ends, true);
        atomic_fetch_add(&p->round, 1);
        wake(&p->round, p->started);
        for (int i = 0; i < p->started; i++) pthread_join(p->helpers[i].thread, NULL);
    }
    free(p);
}

int attend_pool_threads(const attend_pool *p) { return p->threads; }

int attend_pool_worth(const attend_pool *p, double nanoseconds)
{
    return nanoseconds >= worth * p->threads ? p->threads
           : nanoseconds > worth             ? (int)(nanoseconds / worth)
                                             : 1;
}

void attend_pool_run(attend_pool *p, int64_t count, double nanoseconds, attend_pool_body *body, void *job)
{
    int64_t threads = attend_pool_worth(p, nanoseconds);
    if (p->forks != atomic_load_explicit(&forks, memory_order_relaxed)) start_again(p);
    if (threads > count) threads = count;
    if (threads > p->started + 1) threads = p->started + 1;
    p->body = body, p->job = job, p->count = count, p->step = 1;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    if (threads > 1) {
        const int64_t most = count / (8 * threads), small = (int64_t)(portion * (double)count / nanoseconds);
        p->step = small < 1 || most < 1 ? 1 : small < most ? small : most;
        atomic_store_explicit(&p->team, (uint32_t)(threads - 1) * SEAT, memory_order_release);
        atomic_fetch_add(&p->round, 1);
        call_others(p);
    }
    take_part(p, 0);
    if (threads <= 1) return;
    if (!(atomic_fetch_and_explicit(&p->team, MEMBERS, memory_order_acq_rel) & MEMBERS)) return;
    if (!changes_soon(&p->team, MEMBERS, 0, false, p->patience)) {
        atomic_fetch_or(&p->team, ASLEEP);
        for (uint32_t team; (team = atomic_load_explicit(&p->team, memory_order_acquire)) & MEMBERS;)
            sleep_while(&p->team, team);
    }
    atomic_store_explicit(&p->team, 0, memory_order_relaxed);
}
