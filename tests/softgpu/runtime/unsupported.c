/* The part of the API that the software device lacks: every symbol exists, so that programs load, and fails loudly. */
#include "runtime/queue.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { REMEMBERED = 256 };

cudaError_t softgpu_unsupported(const char *function) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const char *said[REMEMBERED];
    static int count;
    bool known = false;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) known = known || strcmp(said[i], function) == 0;
    if (!known && count < REMEMBERED) said[count++] = function;
    pthread_mutex_unlock(&lock);
    if (!known) fprintf(stderr, "softgpu: %s is not supported by the software device\n", function);
    return cudaErrorNotSupported;
}

/* Declared without their parameters, which they never look at. */
#define UNSUPPORTED(name)                                                                                              \
    cudaError_t name(void);                                                                                            \
    cudaError_t name(void) { return softgpu_unsupported(#name); }
#include "runtime/unsupported.def"
