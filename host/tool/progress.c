/* A thread that prints the stage, the seconds and a progress bar while the command works. */
#include "tool/progress.h"
#include "tool/text.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static struct {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running, stop;
    char stage[512];
    double part; /* fraction of the stage that is done; below 0: unknown */
} progress = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

enum { TICK_MS = 200, QUIET_TICKS = 3 };

/* Waits a tick, or until progress_stop(). Called with the lock held. */
static void wait_tick(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += TICK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) until.tv_nsec -= 1000000000L, until.tv_sec++;
    pthread_cond_timedwait(&progress.wake, &progress.lock, &until);
}

/* ", 12 s [#####...............] 25 %" */
static void print_tail(char *text, size_t room, long seconds)
{
    enum { WIDTH = 20 };
    char bar[WIDTH + 1];
    int length = snprintf(text, room, ", %ld s", seconds);
    if (progress.part < 0) return;
    for (int i = 0; i < WIDTH; i++) bar[i] = i < (int)(progress.part * WIDTH) ? '#' : '.';
    bar[WIDTH] = 0;
    snprintf(text + length, room - (size_t)length, " [%s] %.0f %%", bar, 100 * progress.part);
}

/* Prints at most one line of the terminal, since a line that wraps cannot be overwritten. The stage's text is
   cut first. */
static void print_line(long seconds)
{
    char tail[64], stage[sizeof progress.stage + 3];
    struct winsize window;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) || !window.ws_col ? 80 : window.ws_col;
    print_tail(tail, sizeof tail, seconds);
    strcpy(stage, progress.stage);
    text_cut(stage, columns - 1 - text_columns(tail));
    if (text_columns(tail) >= columns) text_cut(tail, columns - 1);
    fprintf(stderr, "\r\033[K%s%s", stage, tail);
}

static void *show(void *unused)
{
    struct timespec begin, now;
    (void)unused;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    pthread_mutex_lock(&progress.lock);
    for (int tick = 0; !progress.stop; tick++) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (tick >= QUIET_TICKS) print_line((long)(now.tv_sec - begin.tv_sec));
        wait_tick();
    }
    pthread_mutex_unlock(&progress.lock);
    fputs("\r\033[K", stderr);
    return NULL;
}

void progress_start(bool wanted)
{
    if (!wanted || progress.running || !isatty(STDERR_FILENO)) return;
    progress.stop = false;
    progress.running = !pthread_create(&progress.thread, NULL, show, NULL);
}

void progress_stage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&progress.lock);
    vsnprintf(progress.stage, sizeof progress.stage, format, arguments);
    text_make_printable(progress.stage);
    progress.part = -1;
    pthread_mutex_unlock(&progress.lock);
    va_end(arguments);
}

bool progress_show(void *unused, int64_t done, int64_t total)
{
    (void)unused;
    pthread_mutex_lock(&progress.lock);
    progress.part = total > 0 ? (double)done / (double)total : 1;
    pthread_mutex_unlock(&progress.lock);
    return true;
}

void progress_stop(void)
{
    if (!progress.running) return;
    pthread_mutex_lock(&progress.lock);
    progress.stop = true;
    pthread_cond_signal(&progress.wake);
    pthread_mutex_unlock(&progress.lock);
    pthread_join(progress.thread, NULL);
    progress.running = false;
}
