/* Managed memory is the host's again only when the work that uses it is done. While work is queued its pages are without access rights;
   the first touch of each traps, is noted by its exact byte, and goes on. When a task that was queued before such a touch then uses that
   byte, one of them came too early. Touches beyond a page's first are not seen until the next API call: some are missed, none invented. */
#include "engine/watch.h"

#include "engine/finding.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { TOUCHES_MOST = 4096, PAGE = 4096 };

/* A list that the signal handler walks: entries are only ever added, and used again. */
typedef struct watched {
    _Atomic uint64_t start, bytes; /* bytes 0: not in use */
    struct watched *next;
} watched;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(watched *) list;
static atomic_bool protecting;
static atomic_ullong queued, running; /* numbers of tasks: the last one queued, the one that runs */
static struct sigaction previous;

static struct touch {
    uint64_t address, queued;
    bool write;
} touches[TOUCHES_MOST];
atomic_int watch_touches;

static watched *holder(uint64_t address)
{
    for (watched *w = atomic_load(&list); w; w = w->next)
        if (address - w->start < w->bytes) return w;
    return NULL;
}

static bool was_write(const void *context)
{
#ifdef __x86_64__
    return ((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2;
#else
    (void)context;
    return false;
#endif
}

static void note(uint64_t address, bool write)
{
    int at = atomic_fetch_add(&watch_touches, 1);
    if (at >= TOUCHES_MOST) {
        atomic_fetch_sub(&watch_touches, 1);
        return;
    }
    touches[at] = (struct touch){address, atomic_load(&queued), write};
}

/* A fault that is not ours goes where it would have gone. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, context);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
        previous.sa_handler(number);
    else
        sigaction(number, &previous, NULL); /* the instruction faults again */
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    uint64_t address = (uint64_t)(uintptr_t)info->si_addr;
    if (!holder(address)) {
        pass_on(number, info, context);
        return;
    }
    if (atomic_load(&protecting)) note(address, was_write(context));
    mprotect((void *)(uintptr_t)(address / PAGE * PAGE), PAGE, PROT_READ | PROT_WRITE);
}

/* Test frameworks install handlers of their own now and then: ours comes first whenever pages are protected. */
static void take_signal(void)
{
    struct sigaction now, ours = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSEGV, NULL, &now)) return;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_fault) return;
    previous = now;
    sigemptyset(&ours.sa_mask);
    sigaction(SIGSEGV, &ours, NULL);
}

void watch_add(sg_region *region)
{
    if (!sg_settings.checks) return;
    pthread_mutex_lock(&lock);
    watched *w = atomic_load(&list);
    while (w && w->bytes) w = w->next;
    watched *made = w ? NULL : calloc(1, sizeof *made);
    if (made) {
        made->next = atomic_load(&list);
        w = made;
    }
    if (w) {
        w->start = region->address;
        w->bytes = ((uint64_t)region->bytes + PAGE - 1) / PAGE * PAGE;
    }
    if (made) atomic_store(&list, made);
    pthread_mutex_unlock(&lock);
}

void watch_remove(const sg_region *region)
{
    pthread_mutex_lock(&lock);
    for (watched *w = atomic_load(&list); w; w = w->next)
        if (w->start == region->address) w->bytes = 0;
    pthread_mutex_unlock(&lock);
}

static void protect_all(int protection)
{
    pthread_mutex_lock(&lock);
    for (watched *w = atomic_load(&list); w; w = w->next)
        if (w->bytes) mprotect((void *)(uintptr_t)w->start, w->bytes, protection);
    pthread_mutex_unlock(&lock);
}

void sg_watch_begin(uint64_t last_queued)
{
    if (!atomic_load(&list)) return;
    take_signal();
    atomic_store(&queued, last_queued);
    atomic_store(&protecting, true);
    protect_all(PROT_NONE);
}

void sg_watch_end(void)
{
    if (!atomic_load(&protecting)) return;
    protect_all(PROT_READ | PROT_WRITE);
    atomic_store(&protecting, false);
}

void sg_watch_run(uint64_t task) { atomic_store(&running, task); }

void sg_watch_forget(void) { atomic_store(&watch_touches, 0); }

const char *watch_clash(uint64_t *address, int64_t bytes, bool writes)
{
    uint64_t task = atomic_load(&running);
    int count = atomic_load(&watch_touches);
    for (int t = 0; t < count && t < TOUCHES_MOST; t++) {
        const struct touch *each = &touches[t];
        if (each->queued < task || each->address - *address >= (uint64_t)bytes || !(writes || each->write)) continue;
        *address = each->address;
        return each->write ? "host write" : "host read";
    }
    return NULL;
}
