/* A thread that prints the stage, the seconds and a progress bar while the command works. */
#include "tool/progress.h"
#include "tool/measure.h"
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
    double part;         /* fraction of the stage that is done; below 0: unknown */
    double bytes;        /* of the stage; 0: unknown */
    double begun, shown; /* seconds when the stage began, and when the part was told */
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

/* "12 s", "3 min", "1.5 h" */
static void print_left(char *text, size_t room, double seconds)
{
    if (seconds < 100)
        snprintf(text, room, "%.0f s", seconds);
    else if (seconds < 6000)
        snprintf(text, room, "%.0f min", seconds / 60);
    else
        snprintf(text, room, "%.1f h", seconds / 3600);
}

/* ", 1.24 GB of 8.60 GB, 350 MB/s, 25 s left", or the end of it that `columns` have room for; nothing before
   a hundredth is done. */
static void print_rate(char *text, size_t room, int columns)
{
    const double seconds = progress.shown - progress.begun, done = progress.part * progress.bytes;
    char left[32], parts[3][48] = {"", "", ""};
    *text = 0;
    if (progress.part < 0.01 || seconds <= 0) return;
    if (progress.bytes > 0) {
        snprintf(parts[0], sizeof parts[0], ", %s of %s", bytes_text(done), bytes_text(progress.bytes));
        snprintf(parts[1], sizeof parts[1], ", %s", traffic_text(done / seconds));
    }
    print_left(left, sizeof left, seconds * (1 - progress.part) / progress.part);
    snprintf(parts[2], sizeof parts[2], ", %s left", left);
    for (int first = 0; first < 3; first++) {
        *text = 0;
        for (int i = first; i < 3; i++) strncat(text, parts[i], room - 1 - strlen(text));
        if ((int)strlen(text) < columns) return;
    }
    *text = 0;
}

/* ", 12 s [#####...............] 25 %" and what print_rate() has room for. */
static void print_tail(char *text, size_t room, long seconds, int columns)
{
    enum { WIDTH = 20, LEAST_STAGE = 12 };
    const int width = columns < 100 ? WIDTH / 2 : WIDTH;
    char bar[WIDTH + 1];
    int length = snprintf(text, room, ", %ld s", seconds);
    if (progress.part < 0) return;
    for (int i = 0; i < width; i++) bar[i] = i < (int)(progress.part * width) ? '#' : '.';
    bar[width] = 0;
    length += snprintf(text + length, room - (size_t)length, " [%s] %.0f %%", bar, 100 * progress.part);
    print_rate(text + length, room - (size_t)length, columns - length - LEAST_STAGE);
}

/* Prints at most one line of the terminal, since a line that wraps cannot be overwritten. The stage's text is
   cut first. */
static void print_line(long seconds)
{
    char tail[192], stage[sizeof progress.stage + 3];
    struct winsize window;
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) || !window.ws_col ? 80 : window.ws_col;
    print_tail(tail, sizeof tail, seconds, columns);
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
    progress.part = -1, progress.bytes = 0;
    progress.begun = seconds_now();
    pthread_mutex_unlock(&progress.lock);
    va_end(arguments);
}

void progress_bytes(double bytes)
{
    pthread_mutex_lock(&progress.lock);
    progress.bytes = bytes;
    pthread_mutex_unlock(&progress.lock);
}

bool progress_show(void *unused, int64_t done, int64_t total)
{
    (void)unused;
    pthread_mutex_lock(&progress.lock);
    progress.part = total > 0 ? (double)done / (double)total : 1;
    progress.shown = seconds_now();
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
