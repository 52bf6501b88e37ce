/* A run of the pipeline: the caller's tensors, where they lie, and the part of each that a step is about. */
#ifndef ATTEND_GPU_PIPELINE_H
#define ATTEND_GPU_PIPELINE_H

#include "gpu/gpu.h"

/* A caller's tensor: where it lies, and what it is about. */
typedef struct attend_gpu_source {
    const char *name;
    const attend_tensor *given;
    attend_gpu_buffer buffer;
    attend_gpu_place place;
} attend_gpu_source;

/* The caller's tensors that a run may have to copy */
enum { Q, K, V, MASK, BIAS, OUT, LSE, FROM_OUT, FROM_MAX, FROM_SUM, INTO_OUT, INTO_MAX, INTO_SUM, SOURCES };

typedef struct attend_gpu_pipeline {
    const attend_plan *plan;
    attend_gpu_plan *own;
    const attend_key_part *part;
    attend_gpu_context gpu, in, out; /* the same context, each with its stream */
    attend_gpu_source sources[SOURCES];
    attend_feature_args features; /* on the device */
    attend_attention_args use;
    attend_terms terms;
    attend_lists lists;
    attend_gpu_steps steps;
} attend_gpu_pipeline;

/* A step's part of what the caller brought, of what lies in a buffer, and of the one that the kernel works
   on. */
attend_tensor attend_gpu_given_part(const attend_gpu_pipeline *l, int index, const attend_kernel_box *box);
attend_tensor attend_gpu_buffer_part(const attend_gpu_pipeline *l, int index, const attend_gpu_step *step);
attend_tensor attend_gpu_device_part(const attend_gpu_pipeline *l, int index, const attend_gpu_step *step);
/* Where element 0 would lie of a mask or bias of which the buffer has the step's part. */
attend_plane attend_gpu_plane_of_part(const attend_gpu_pipeline *l, int index, const attend_gpu_step *step);
/* Whether a tensor lies on the host and passes through the buffers. */
bool attend_gpu_streams(const attend_gpu_pipeline *l, int index);

/* Fails for what lies on the host but was not announced. no_state: shapes in the place of a state's absent
   tensors. */
attend_status attend_gpu_find_sources(attend_gpu_pipeline *l, const attend_attention_args *args,
                                      const attend_tensor no_state[3]);
attend_status attend_gpu_find_steps(attend_gpu_pipeline *l, const attend_attention_args *args);

#endif
