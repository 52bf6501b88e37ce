/* A backend: a table of functions on its own context and plan states. The core validates and resolves all
   arguments first: problems have their defaults filled in, tensors have explicit strides. */
#ifndef ATTEND_CORE_BACKEND_H
#define ATTEND_CORE_BACKEND_H

#include "core/append.h"
#include "core/backward.h"
#include "core/inspect.h"
#include "core/layer_backward.h"
#include "core/part.h"
#include "core/problem.h"
#include "core/rotary.h"
#include "core/status.h"
#include "core/tensor.h"
#include "core/progress.h"

struct attend_context {
    const struct attend_backend *backend;
    void *state;    /* the backend's */
    char name[128]; /* for people; the backend fills it */
    attend_progress_tracker tracker;
    int64_t plans; /* plans of this context that are not destroyed */
};

struct attend_plan {
    attend_context *context;
    attend_operation operation;
    attend_problem problem;       /* resolved */
    attend_layer_weights weights; /* resolved; of a layer */
    attend_plan_options options;
    void *state;               /* the backend's */
    attend_plan_memory memory; /* the backend fills these two */
    char kernel[128];
};

/* Fails if the plan is NULL or of another operation. */
attend_status attend_plan_check(const attend_plan *plan, attend_operation operation);

/* Fails if it was made without `backward`. */
attend_status attend_plan_check_backward(const attend_plan *plan);

/* Reads a caller's attend_run (NULL: none); its workspace is not checked. */
attend_status attend_run_read(const attend_context *context, const attend_run *run, size_t bytes,
                              attend_run *read);

/* The same for a plan, workspace included. */
attend_status attend_plan_run_read(const attend_plan *plan, const attend_run *run, size_t bytes,
                                   attend_run *read);

/* Called before and after a backend's run of a plan, for progress: begin reports 0, end reports completion
   after success. */
attend_status attend_plan_begin(const attend_plan *plan);
attend_status attend_plan_end(const attend_plan *plan);

typedef struct attend_backend {
    attend_device device;
    /* Sets context->state and name. On failure it frees what it allocated. */
    attend_status (*context_create)(const attend_context_options *options, attend_context *context);
    void (*context_destroy)(attend_context *context);
    attend_status (*synchronize)(attend_context *context);
    /* Allocates all that a run needs; sets state, memory and kernel. */
    attend_status (*plan_create)(attend_plan *plan);
    void (*plan_destroy)(attend_plan *plan);
    /* The workspace has been checked against the plan's memory and options; there is a stream only if device
       is ATTEND_CUDA. */
    attend_status (*attention_forward)(attend_plan *plan, const attend_attention_args *args,
                                       const attend_key_part *part, const attend_run *run);
    /* Of plans made with `backward`. */
    attend_status (*attention_backward)(attend_plan *plan, const attend_attention_args *args,
                                        const attend_gradients *gradients, const attend_run *run);
    /* Ranges of keys begin and end at multiples of this, at least 1. NULL: a run takes all keys. */
    int64_t (*key_span)(const attend_plan *plan);
    /* Folds states into out and lse, or `into` (NULL: not wanted), which are resolved, as are the sinks of a
       problem that has them. The states are the caller's, checked: strides along axes of extent 1 may be
       anything. NULL: no states are left. */
    attend_status (*merge)(attend_context *context, const attend_problem *problem,
                           const attend_merge_args *args, const attend_run *run);
    attend_status (*layer_forward)(attend_plan *plan, const attend_layer_args *args, const attend_run *run);
    /* Of plans made with `backward`. */
    attend_status (*layer_backward)(attend_plan *plan, const attend_layer_args *args,
                                    const attend_layer_gradients *gradients, const attend_run *run);
    /* Takes the values of plan->weights anew; the run has no workspace. */
    attend_status (*layer_reload)(attend_plan *plan, const attend_run *run);
    /* args has only q, k, lse (an input here) and feature tensors; part, which is all keys, says where they
       lie. For plans of attention and of layers. */
    attend_status (*inspect)(attend_plan *plan, const attend_attention_args *args,
                             const attend_key_part *part, const attend_inspect_request *request);
    /* Rotates and normalizes q and k, on the host or on the context's device. */
    attend_status (*rotary)(attend_context *context, const attend_problem *problem,
                            const attend_rotary_args *args);
    /* Appends to a cache on the host or on the context's device. */
    attend_status (*append)(attend_context *context, const attend_problem *problem,
                            const attend_appending *appending, const attend_run *run);
    /* The backend's rows of the kernel table; false past the last. */
    bool (*kernel)(size_t index, attend_kernel_info *info);
    /* Fills in what the backend decided; the core fills in the rest. NULL: nothing to add. */
    attend_status (*explain)(const attend_plan *plan, attend_explanation *explanation);
    /* Whether and why row `index` of kernel() was chosen for a plan; the core sets the device. */
    bool (*choice)(const attend_plan *plan, size_t index, attend_kernel_choice *choice);
    /* ptxas's figures of a row; false past the last build. NULL: none. */
    bool (*kernel_resources)(size_t index, size_t build, attend_kernel_resources *resources);
    /* attend_device_code(); only the CUDA backend has it. */
    bool (*device_code)(size_t index, const char **family, int64_t *bytes);
} attend_backend;

extern const attend_backend attend_reference_backend; /* host/reference/ */
extern const attend_backend attend_cpu_backend;       /* host/cpu/ */
extern const attend_backend attend_gpu_backend;       /* host/gpu/; in a build without CUDA: absent */
extern const attend_backend attend_gpu_group_backend; /* over several devices; likewise */

/* Sets context->state and name of the group's backend; frees what it allocated on failure. */
attend_status attend_gpu_group_create(const attend_context_options *options, const int *devices, int count,
                                      attend_context *context);

/* The backend that serves a device, from the list in backend.c; NULL if this build has none. */
const attend_backend *attend_backend_for(attend_device device);

/* The backend that row `*index` of the whole table belongs to, or NULL past the last; *index becomes the
   row's number there. */
const attend_backend *attend_backend_of_row(size_t *index, attend_kernel_info *row);

#endif
