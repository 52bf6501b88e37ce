/* The records of kernels that ran. */
#include "engine/counts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static counted_kernel *first, **end = &first;

static struct file {
    char *name;
    struct file *next;
} *files;

static counted_kernel *make(const sg_function *function, const char *name, int instructions)
{
    counted_kernel *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    *k = (counted_kernel){.name = strdup(name), .function = function, .instructions = instructions};
    k->insns = calloc((size_t)instructions + 1, sizeof *k->insns);
    k->totals = calloc((size_t)instructions + 1, sizeof *k->totals);
    if (k->name && k->insns && k->totals) return k;
    free(k->name);
    free(k->insns);
    free(k->totals);
    free(k);
    return NULL;
}

counted_kernel *counts_kernel(const sg_function *function, const char *name, int instructions, bool *fresh)
{
    pthread_mutex_lock(&lock);
    counted_kernel *k = first;
    while (k && k->function != function) k = k->next;
    *fresh = !k;
    if (!k && (k = make(function, name, instructions))) {
        *end = k;
        end = &k->next;
    }
    pthread_mutex_unlock(&lock);
    return k;
}

const char *counts_file(const char *name)
{
    pthread_mutex_lock(&lock);
    struct file *f = files;
    while (f && strcmp(f->name, name)) f = f->next;
    if (!f && (f = malloc(sizeof *f))) {
        *f = (struct file){strdup(name), files};
        files = f;
    }
    const char *kept = f ? f->name : NULL;
    pthread_mutex_unlock(&lock);
    return kept;
}

void counts_launch(counted_kernel *kernel, const sg_properties *device, const sg_launch *launch, const sg_resources *resources,
                   int blocks_per_sm)
{
    int64_t blocks = (int64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
    pthread_mutex_lock(&lock);
    kernel->launches++;
    kernel->blocks += blocks;
    kernel->threads += blocks * launch->block[0] * launch->block[1] * launch->block[2];
    if (launch->dynamic_shared_bytes > kernel->dynamic_shared_bytes) kernel->dynamic_shared_bytes = launch->dynamic_shared_bytes;
    kernel->resources = *resources;
    kernel->device = *device;
    kernel->blocks_per_sm = blocks_per_sm;
    pthread_mutex_unlock(&lock);
}

void counts_busy(counted_kernel *kernel, int64_t blocks)
{
    pthread_mutex_lock(&lock);
    kernel->busy_blocks += blocks;
    pthread_mutex_unlock(&lock);
}

void counts_merge(counted_kernel *kernel, const counts *local)
{
    int64_t *to = (int64_t *)kernel->totals;
    const int64_t *from = (const int64_t *)local;
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < (size_t)kernel->instructions * (sizeof(counts) / sizeof *to); i++) to[i] += from[i];
    pthread_mutex_unlock(&lock);
}

void counts_forget(const sg_function *function)
{
    pthread_mutex_lock(&lock);
    for (counted_kernel *k = first; k; k = k->next)
        if (k->function == function) k->function = NULL;
    pthread_mutex_unlock(&lock);
}

counted_kernel *counts_first(void) { return first; }
