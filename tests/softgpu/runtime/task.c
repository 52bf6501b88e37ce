/* Life and execution of tasks. Durations are a model for event timing, stated in README.md: 2 µs a task, kernels as
   the engine models them, copies at the rate of the link they cross. */
#include "runtime/graph.h"
#include "runtime/memory.h"
#include "runtime/stream.h"
#include <stdlib.h>
#include <string.h>

static const double task_seconds = 2e-6, host_bytes_per_second = 25e9, device_bytes_per_second = 1.5e12;

task *task_create(task_kind kind, const char *what) {
    task *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->references = 1;
    t->kind = kind;
    t->what = what;
    return t;
}

task *task_kernel(const kernel_task *kernel, const sg_function_info *info, void *const *arguments, const char *what) {
    task *t = task_create(TASK_KERNEL, what);
    if (!t) return NULL;
    size_t bytes = 0;
    for (int i = 0; i < info->parameters; i++) bytes += ((size_t)info->parameter_bytes[i] + 15) & ~(size_t)15;
    size_t pointers = ((size_t)info->parameters * sizeof(void *) + 15) & ~(size_t)15;
    char *block = malloc(pointers + bytes + 1);
    if (!block) return task_release(t), NULL;
    t->kernel = *kernel;
    t->kernel.count = info->parameters;
    t->kernel.arguments = (void **)block;
    char *value = block + pointers;
    for (int i = 0; i < info->parameters; i++) {
        t->kernel.arguments[i] = memcpy(value, arguments[i], (size_t)info->parameter_bytes[i]);
        value += ((size_t)info->parameter_bytes[i] + 15) & ~(size_t)15;
    }
    return t;
}

task *task_retain(task *t) {
    if (t) t->references++;
    return t;
}

void task_release(task *t) {
    if (!t || --t->references > 0) return;
    switch (t->kind) {
    case TASK_KERNEL: free(t->kernel.arguments); break;
    case TASK_COPY: free(t->copy.staged); break;
    case TASK_LIBRARY: free(t->library.argument); break;
    case TASK_ALLOC: memory_forget(t->memory.address); break;
    case TASK_PLAN:
        plan_release(t->plan.plan);
        graph_release(t->plan.graph);
        break;
    default: break;
    }
    free(t);
}

bool task_calls_host(const task *t) {
    for (int i = 0; t->kind == TASK_PLAN && i < t->plan.plan->count; i++)
        if (task_calls_host(t->plan.plan->nodes[i].task)) return true;
    return t->kind == TASK_HOST;
}

static cudaError_t kernel_run(const kernel_task *k, context *c) {
    static const cudaError_t errors[] = {
        [SG_OK] = cudaSuccess,
        [SG_INVALID_CONFIGURATION] = cudaErrorInvalidConfiguration,
        [SG_ILLEGAL_ADDRESS] = cudaErrorIllegalAddress,
        [SG_MISALIGNED_ADDRESS] = cudaErrorMisalignedAddress,
        [SG_ILLEGAL_INSTRUCTION] = cudaErrorIllegalInstruction,
        [SG_ASSERT] = cudaErrorAssert,
        [SG_TIMEOUT] = cudaErrorLaunchTimeout,
    };
    const sg_function *code = NULL;
    TRY(function_on(k->function, c, &code));
    sg_launch launch = {
        .grid = {k->grid[0], k->grid[1], k->grid[2]},
        .block = {k->block[0], k->block[1], k->block[2]},
        .cluster = {k->cluster[0], k->cluster[1], k->cluster[2]},
        .dynamic_shared_bytes = k->shared,
        .cooperative = k->cooperative,
        .stream = k->stream,
        .early = k->early,
        .arguments = (const void *const *)k->arguments,
    };
    return errors[sg_execute(c->device, code, &launch)];
}

cudaError_t copy_run(const copy_task *copy, const char *what) {
    int64_t packed = copy->width * copy->height;
    for (int64_t z = 0; z < copy->depth; z++)
        for (int64_t y = 0; y < copy->height; y++) {
            uint64_t to = copy->to + (uint64_t)(z * copy->to_slice + y * copy->to_pitch);
            uint64_t from = copy->staged ? (uint64_t)(uintptr_t)copy->staged + (uint64_t)(z * packed + y * copy->width)
                                         : copy->from + (uint64_t)(z * copy->from_slice + y * copy->from_pitch);
            if (!sg_memory_copy(to, from, copy->width, what)) return cudaErrorIllegalAddress;
        }
    return cudaSuccess;
}

static cudaError_t fill_run(const fill_task *fill, const char *what) {
    for (int64_t row = 0; row < fill->height * fill->depth; row++) {
        uint64_t to = fill->to + (uint64_t)(row / fill->height * fill->slice + row % fill->height * fill->pitch);
        if (fill->element_bytes == 1) {
            if (!sg_memory_fill(to, (int)(fill->value & 0xff), fill->width, what)) return cudaErrorIllegalAddress;
            continue;
        }
        char *bytes = sg_memory_write(to, fill->width * fill->element_bytes, what);
        if (!bytes) return cudaErrorIllegalAddress;
        for (int64_t i = 0; i < fill->width; i++)
            memcpy(bytes + i * fill->element_bytes, &fill->value, (size_t)fill->element_bytes);
    }
    return cudaSuccess;
}

static cudaError_t host_run(const host_task *host, context *c) {
    thread_state *thread = this_thread();
    bool nested = thread->in_host_function;
    thread->in_host_function = true;
    if (host->callback) host->callback(host->stream, c->sticky, host->data);
    else host->function(host->data);
    thread->in_host_function = nested;
    return cudaSuccess;
}

cudaError_t task_run(const task *t, context *c, double *seconds) {
    double before = sg_modelled_seconds(c->device);
    cudaError_t status = cudaSuccess;
    *seconds += task_seconds;
    switch (t->kind) {
    case TASK_KERNEL:
        status = kernel_run(&t->kernel, c);
        *seconds += sg_modelled_seconds(c->device) - before;
        break;
    case TASK_COPY:
        status = copy_run(&t->copy, t->what);
        *seconds += (double)(t->copy.width * t->copy.height * t->copy.depth) /
                    (t->copy.kind == cudaMemcpyDeviceToDevice ? device_bytes_per_second / 2 : host_bytes_per_second);
        break;
    case TASK_FILL:
        status = fill_run(&t->fill, t->what);
        *seconds += (double)(t->fill.width * t->fill.height * t->fill.depth * t->fill.element_bytes) /
                    device_bytes_per_second;
        break;
    case TASK_HOST: status = host_run(&t->host, c); break;
    case TASK_FREE:
        status = sg_memory_free(t->memory.address) ? cudaSuccess : cudaErrorInvalidValue;
        pool_returned(t->memory.pool, t->memory.bytes);
        break;
    case TASK_LIBRARY: status = t->library.work(c->device, t->library.argument); break;
    case TASK_PLAN: status = plan_run(t->plan.plan, c, seconds); break;
    case TASK_EMPTY:
    case TASK_ALLOC:
    case TASK_GRAPH_FREE:
    case TASK_EVENT_RECORD:
    case TASK_EVENT_WAIT: *seconds -= task_seconds; break;
    }
    return status;
}
