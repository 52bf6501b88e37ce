/* Faults on request and the count of calls that makes it possible to ask for each. SOFTGPU_FAULT is a list of
   kind:k[=error]; the k-th call of the kind fails, once. lost:k counts all kinds that give the device something to do:
   from the k-th on, all calls fail, events and contexts too. order:k: the k-th wait for an event is left out. */
#include "runtime/state.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FAULTS = 32, NAME_BYTES = 64 };

static const struct {
    const char *name, *figure, *error;
} kinds[SOFTGPU_CALLS] = {
    [SOFTGPU_ALLOC] = {"alloc", "calls.alloc", "cudaErrorMemoryAllocation"},
    [SOFTGPU_COPY] = {"copy", "calls.copy", "cudaErrorUnknown"},
    [SOFTGPU_LAUNCH] = {"launch", "calls.launch", "cudaErrorLaunchOutOfResources"},
    [SOFTGPU_CUBLAS] = {"cublas", "calls.cublas", "CUBLAS_STATUS_EXECUTION_FAILED"},
    [SOFTGPU_SYNC] = {"sync", "calls.sync", "cudaErrorUnknown"},
    [SOFTGPU_EVENT] = {"event", "calls.event", "cudaErrorUnknown"},
    [SOFTGPU_CONTEXT] = {"context", "calls.context", "cudaErrorUnknown"},
    [SOFTGPU_ORDER] = {"order", "calls.order", "cudaSuccess"},
};

static struct fault {
    softgpu_call call; /* SOFTGPU_CALLS: the device is lost */
    int64_t k;
    char error[NAME_BYTES];
} faults[MAX_FAULTS];
static int fault_count;
static int64_t counts[SOFTGPU_CALLS], all_calls;
static const char *lost; /* the error's name once the device is lost */

static void complain(const char *item) {
    fprintf(stderr,
            "softgpu: SOFTGPU_FAULT: cannot read \"%s\"; expected kind:k or kind:k=error, kind one of "
            "alloc, copy, launch, cublas, sync, event, context, order, lost\n",
            item);
    exit(2);
}

static void read_fault(const char *item) {
    struct fault *f = &faults[fault_count];
    char kind[16];
    long long k = 0;
    f->error[0] = '\0';
    if (fault_count == MAX_FAULTS || sscanf(item, "%15[a-z]:%lld=%63s", kind, &k, f->error) < 2 || k < 1)
        complain(item);
    f->call = SOFTGPU_CALLS;
    for (int i = 0; i < SOFTGPU_CALLS; i++)
        if (strcmp(kind, kinds[i].name) == 0) f->call = (softgpu_call)i;
    bool is_lost = strcmp(kind, "lost") == 0;
    if (f->call == SOFTGPU_CALLS && !is_lost) complain(item);
    const char *usual = is_lost ? "cudaErrorDevicesUnavailable" : kinds[f->call].error;
    if (!f->error[0]) snprintf(f->error, sizeof f->error, "%s", usual);
    if (f->call != SOFTGPU_ORDER && strncmp(f->error, "cuda", 4) == 0 && error_named(f->error, cudaSuccess) == cudaSuccess) complain(item);
    f->k = k;
    fault_count++;
}

void fault_configure(const char *specification) {
    char *list = strdup(specification ? specification : "");
    char *rest = list;
    for (char *item; list && (item = strsep(&rest, ","));)
        if (*item) read_fault(item);
    free(list);
}

const char *softgpu_fault(softgpu_call call) {
    int64_t mine = __atomic_add_fetch(&counts[call], 1, __ATOMIC_RELAXED);
    int64_t any = __atomic_add_fetch(&all_calls, call < SOFTGPU_EVENT, __ATOMIC_RELAXED);
    const char *error = lost;
    for (int i = 0; i < fault_count; i++) {
        if (faults[i].call == SOFTGPU_CALLS && any >= faults[i].k) error = lost = faults[i].error;
        if (faults[i].call == call && mine == faults[i].k) error = faults[i].error;
    }
    return error;
}

/* A wait that order:k names returns at once, as if it were not in the program. */
bool fault_leaves_out_wait(void) {
    const int64_t mine = __atomic_add_fetch(&counts[SOFTGPU_ORDER], 1, __ATOMIC_RELAXED);
    for (int i = 0; i < fault_count; i++)
        if (faults[i].call == SOFTGPU_ORDER && mine == faults[i].k) return true;
    return false;
}

cudaError_t fault_or_success(softgpu_call call) {
    const char *name = softgpu_fault(call);
    return name ? error_named(name, cudaErrorUnknown) : cudaSuccess;
}

cudaError_t device_lost(void) { return lost ? error_named(lost, cudaErrorUnknown) : cudaSuccess; }

void softgpu_set_faults(const char *specification) {
    fault_count = 0, all_calls = 0, lost = NULL;
    memset(counts, 0, sizeof counts);
    fault_configure(specification);
}

int64_t softgpu_calls(const char *kind) {
    for (int i = 0; i < SOFTGPU_CALLS; i++)
        if (strcmp(kind, kinds[i].name) == 0) return counts[i];
    return all_calls;
}

void fault_report(void) {
    for (int i = 0; i < SOFTGPU_CALLS; i++) sg_report_figure(kinds[i].figure, counts[i]);
    sg_report_figure("calls.all", all_calls);
}
