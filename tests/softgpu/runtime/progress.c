/* Host functions that the program waits for by means of its own. Work runs when the host waits for it in some call of CUDA's;
   but a host function may signal a condition variable, and its waiter makes no call. So while host functions are queued, a thread
   watches: when no other thread of the process has anything to run, it waits for one of them. */
#include "runtime/stream.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static pthread_cond_t some_queued = PTHREAD_COND_INITIALIZER;
static bool begun;

/* A thread's state is the letter behind its name in /proc/self/task/ID/stat; the name may hold anything. */
static bool sleeps(const char *thread) {
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%.20s/stat", thread);
    FILE *file = fopen(path, "r");
    if (!file) return true; /* it ended */
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[1] == ' ' && strchr("SZX", name_end[2]);
}

static bool all_others_sleep(void) {
    DIR *threads = opendir("/proc/self/task");
    if (!threads) return false;
    char mine[24];
    bool all = true;
    snprintf(mine, sizeof mine, "%ld", syscall(SYS_gettid));
    for (struct dirent *entry; all && (entry = readdir(threads));)
        all = entry->d_name[0] == '.' || !strcmp(entry->d_name, mine) || sleeps(entry->d_name);
    closedir(threads);
    return all;
}

static bool first_host_function(place *p) {
    for (int i = 0; i < device_count(); i++)
        for (stream *s = context_at(i)->streams; s; s = s->next) {
            *p = (place){s, s->finished};
            for (entry *e = s->first; e; e = e->next) {
                p->number++;
                if (task_calls_host(e->task)) return true;
            }
        }
    return false;
}

/* Asleep twice, with no call of CUDA's in between: a thread that has just been woken may not run yet. */
static void *watch(void *unused) {
    (void)unused;
    place p;
    for (;;) {
        pthread_mutex_lock(&runtime_lock);
        while (!first_host_function(&p)) pthread_cond_wait(&some_queued, &runtime_lock);
        uint64_t calls = calls_made();
        pthread_mutex_unlock(&runtime_lock);
        bool asleep = true;
        for (int i = 0; i < 2 && asleep; i++) {
            nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
            asleep = all_others_sleep();
        }
        if (!asleep) continue;
        runtime_enter();
        if (calls_made() == calls + 1 && first_host_function(&p)) wait_place(p);
        runtime_leave();
    }
    return NULL;
}

void watch_host_functions(void) {
    pthread_t thread;
    if (!begun && pthread_create(&thread, NULL, watch, NULL) == 0) {
        pthread_detach(thread);
        begun = true;
    }
    pthread_cond_signal(&some_queued);
}
