/* Contexts: chooses the backend, which does the rest. */
#include "core/backend.h"
#include "core/struct.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static attend_status read_options(const attend_context_options *options, size_t bytes,
                                  attend_context_options *read)
{
    memset(read, 0, sizeof *read);
    if (!options) return ATTEND_OK;
    ATTEND_TRY(attend_struct_read(ATTEND_STRUCT(attend_context_options), "options", read, options, bytes));
    if ((unsigned)read->device > ATTEND_REFERENCE)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "device is %d, expected one of attend_device",
                           (int)read->device);
    if (read->strict && read->device == ATTEND_AUTO)
        return attend_fail(
            ATTEND_INVALID_ARGUMENT,
            "device is ATTEND_AUTO, which may take the CPU, but strict is set: name the device");
    if (read->threads < 0 || read->threads > ATTEND_MAX_THREADS)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "threads is %d, expected 0 to %d", read->threads,
                           ATTEND_MAX_THREADS);
    if (read->device_index < 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "device_index is %d, expected 0 or more",
                           read->device_index);
    return ATTEND_OK;
}

static attend_status create_on(attend_device device, const attend_context_options *options,
                               attend_context *context)
{
    context->backend = attend_backend_for(device);
    if (!context->backend)
        return attend_fail(ATTEND_NO_DEVICE,
                           "this build of attend has no CUDA backend; build it where nvcc is found");
    return context->backend->context_create(options, context);
}

static attend_status hand_over(attend_status status, attend_context *made, attend_context **context)
{
    if (status)
        free(made);
    else
        *context = made;
    return status;
}

attend_status attend_context_create_sized(const attend_context_options *caller_options, size_t options_bytes,
                                          attend_context **context)
{
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    *context = NULL;
    attend_context_options options;
    ATTEND_TRY(read_options(caller_options, options_bytes, &options));
    attend_context *made = calloc(1, sizeof *made);
    if (!made) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a context");
    made->tracker = (attend_progress_tracker){.progress = options.progress, .user = options.progress_user};
    attend_status status;
    if (options.device == ATTEND_AUTO) {
        status = create_on(ATTEND_CUDA, &options, made);
        if (status == ATTEND_NO_DEVICE) status = create_on(ATTEND_CPU, &options, made);
    } else {
        status = create_on(options.device, &options, made);
    }
    return hand_over(status, made, context);
}

#ifdef ATTEND_HAVE_CUDA
static attend_status create_over(const attend_context_options *options, const int *devices, int count,
                                 attend_context *context)
{
    context->backend = &attend_gpu_group_backend;
    return attend_gpu_group_create(options, devices, count, context);
}
#else
static attend_status create_over(const attend_context_options *options, const int *devices, int count,
                                 attend_context *context)
{
    (void)devices, (void)count;
    return create_on(ATTEND_CUDA, options, context);
}
#endif

attend_status attend_context_create_group_sized(const attend_context_options *caller_options,
                                                size_t options_bytes, const int *devices, int count,
                                                attend_context **context)
{
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    *context = NULL;
    attend_context_options options;
    ATTEND_TRY(read_options(caller_options, options_bytes, &options));
    if (options.device != ATTEND_AUTO && options.device != ATTEND_CUDA)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "device is %d, but several devices are CUDA's",
                           (int)options.device);
    if (count < 1 || count > ATTEND_MAX_DEVICES)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "count is %d, expected 1 to %d", count,
                           ATTEND_MAX_DEVICES);
    if (!devices) return attend_fail(ATTEND_INVALID_ARGUMENT, "devices is NULL");
    for (int i = 0; i < count; i++)
        if (devices[i] < 0)
            return attend_fail(ATTEND_INVALID_ARGUMENT, "devices[%d] is %d, expected 0 or more", i,
                               devices[i]);
    options.device = ATTEND_CUDA;
    attend_context *made = calloc(1, sizeof *made);
    if (!made) return attend_fail(ATTEND_OUT_OF_MEMORY, "no memory for a context");
    return hand_over(create_over(&options, devices, count, made), made, context);
}

attend_status attend_context_destroy(attend_context *context)
{
    if (!context) return ATTEND_OK;
    if (context->plans > 0)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "the context still has %" PRId64 " plan%s: destroy plans before their context",
                           context->plans, context->plans == 1 ? "" : "s");
    context->backend->context_destroy(context);
    free(context);
    return ATTEND_OK;
}

attend_device attend_context_device(const attend_context *context)
{
    return context ? context->backend->device : ATTEND_AUTO;
}

const char *attend_context_device_name(const attend_context *context) { return context ? context->name : ""; }

attend_status attend_synchronize(attend_context *context)
{
    if (!context) return attend_fail(ATTEND_INVALID_ARGUMENT, "context is NULL");
    return context->backend->synchronize(context);
}
