/* The runtime's life: reads the options when the library is loaded, creates devices at first use, drains their work
   and writes the report when the process ends. Error state: the thread's last error, the device's sticky one. */
#include "runtime/memory.h"
#include "runtime/stream.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

pthread_mutex_t runtime_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t runtime_progress = PTHREAD_COND_INITIALIZER;

static context contexts[MAX_DEVICES];
static int contexts_count;
static uint64_t random_state;
static _Thread_local thread_state current_thread;

thread_state *this_thread(void) { return &current_thread; }
int device_count(void) { return contexts_count; }
context *context_at(int index) { return index >= 0 && index < contexts_count ? &contexts[index] : NULL; }

context *initialised(context *c) {
    if (!c->device) {
        c->device = sg_device_create(c->index, &c->properties);
        c->legacy = stream_create(c, cudaStreamDefault, 0);
        c->default_pool = c->current_pool = pool_create(c, 0);
    }
    return c;
}

int current_device(void) {
    const thread_state *t = &current_thread;
    return t->pushes ? t->pushed[t->pushes - 1]->index : t->device;
}

context *current_context(void) { return initialised(&contexts[current_device()]); }

void fail_context(context *c, cudaError_t error) {
    if (c->sticky == cudaSuccess) c->sticky = error;
}

/* splitmix64: the order of independent streams depends on the seed and on nothing else. */
uint64_t random_below(uint64_t bound) {
    uint64_t x = (random_state += 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (x ^ (x >> 31)) % bound;
}

/* The host's own threads run program code only outside the API: there, managed memory is watched while work is queued. */
static int threads_inside;
static uint64_t calls;

uint64_t calls_made(void) { return calls; }

void runtime_enter(void) {
    pthread_mutex_lock(&runtime_lock);
    calls++;
    if (threads_inside++ == 0) sg_watch_end();
}

void runtime_leave(void) {
    if (--threads_inside == 0 && tasks_pending()) sg_watch_begin(tasks_queued());
    pthread_mutex_unlock(&runtime_lock);
}

cudaError_t api_enter_any(void) {
    runtime_enter();
    return cudaSuccess;
}

cudaError_t api_enter(void) {
    runtime_enter();
    if (current_thread.in_host_function) return cudaErrorNotPermitted;
    if (contexts_count == 0) return cudaErrorNoDevice;
    if (device_lost() != cudaSuccess) return device_lost();
    if (contexts[current_device()].busy) return cudaErrorDevicesUnavailable;
    return contexts[current_device()].sticky;
}

cudaError_t api_leave(cudaError_t status) {
    if (status != cudaSuccess) current_thread.last_error = status;
    runtime_leave();
    return status;
}

static cudaError_t last_error(bool clear) {
    cudaError_t error = current_thread.last_error;
    if (clear) current_thread.last_error = cudaSuccess;
    if (device_lost() != cudaSuccess) return device_lost();
    if (contexts_count > 0 && contexts[current_device()].sticky != cudaSuccess)
        return contexts[current_device()].sticky;
    return error;
}

cudaError_t cudaGetLastError(void) {
    runtime_enter();
    cudaError_t error = last_error(true);
    runtime_leave();
    return error;
}

cudaError_t cudaPeekAtLastError(void) {
    runtime_enter();
    cudaError_t error = last_error(false);
    runtime_leave();
    return error;
}

static cudaError_t reset(context *c) {
    TRY(device_lost());
    if (c->device) {
        wait_context(c);
        streams_forget(c);
        memory_release_all(c);
        sg_device_destroy(c->device);
        c->device = NULL;
        c->legacy = NULL;
    }
    c->sticky = cudaSuccess;
    c->flags = 0;
    for (int i = 0; i < MAX_DEVICES; i++) c->peer_enabled[i] = false;
    return cudaSuccess;
}

cudaError_t cudaDeviceReset(void) {
    runtime_enter();
    if (current_thread.in_host_function) return api_leave(cudaErrorNotPermitted);
    if (contexts_count == 0) return api_leave(cudaErrorNoDevice);
    cudaError_t status = reset(&contexts[current_device()]);
    if (status == cudaSuccess) current_thread.last_error = cudaSuccess;
    return api_leave(status);
}

void drain_devices(void) {
    for (int i = 0; i < contexts_count; i++)
        if (contexts[i].device) wait_context(&contexts[i]);
}

/* The number of findings goes to the file that scripts/softgpu names, one line a process: the exit status is the
   program's own, and a destructor cannot change it without cutting off the destructors behind it. */
static void tell_findings(int64_t findings) {
    const char *path = getenv("SOFTGPU_STATUS");
    if (!path) return;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0) return;
    dprintf(file, "%lld\n", (long long)findings);
    close(file);
}

__attribute__((constructor)) static void start(void) {
    sg_options options;
    read_options(&options);
    sg_configure(&options);
    random_state = options.seed;
    fault_configure(getenv("SOFTGPU_FAULT"));
    contexts_count = read_devices(contexts);
}

__attribute__((destructor)) static void finish(void) {
    runtime_enter();
    skip_host_functions();
    drain_devices();
    for (int i = 0; i < contexts_count; i++) {
        if (!contexts[i].device) continue;
        pools_release(&contexts[i]);
        sg_device_destroy(contexts[i].device);
        contexts[i].device = NULL;
    }
    fault_report();
    tell_findings(sg_report());
    runtime_leave();
}
