/* Small problems with all their tensors, on the host and on the device, and a check of their results:
   attention, a layer with learned and rotary positions, and a rotary call. */
#ifndef SOFTGPU_ATTEND_SUBJECT_H
#define SOFTGPU_ATTEND_SUBJECT_H

#include <attend/attend.h>
#include <stdbool.h>

enum { SUBJECT_TENSORS = 4, SUBJECT_BYTES = 1 << 16, SUBJECT_INSPECTION_FLOATS = 1024 };

typedef enum subject_kind { SUBJECT_ATTENTION, SUBJECT_LAYER, SUBJECT_ROTARY, SUBJECTS } subject_kind;

typedef struct subject {
    subject_kind kind;
    attend_context *context; /* the plan's; a rotary call has no plan */
    attend_problem problem;
    attend_layer_weights weights; /* on the host */
    void *host[SUBJECT_TENSORS];  /* q, k, v, out; of a layer x, -, -, out; of a rotary call q, -, -, out */
    void *device[SUBJECT_TENSORS];
    struct CUstream_st *stream; /* of the runs; NULL: the context's */
    float *weight_memory, *expected;
    float gradients[SUBJECT_BYTES / sizeof(float)], expected_gradients[SUBJECT_BYTES / sizeof(float)];
    float inspection[SUBJECT_INSPECTION_FLOATS], expected_inspection[SUBJECT_INSPECTION_FLOATS]; /* an inspection's outputs, on the host */
} subject;

/* Makes a subject; the expected results are computed on the CPU. */
void subject_make(subject *s, subject_kind kind);
void subject_free(subject *s);

attend_status subject_plan(subject *s, attend_context *context, attend_plan **plan);
/* Runs on the tensors on the device or on the host; the others stay as they are. */
attend_status subject_run(const subject *s, attend_plan *plan, bool on_device);
void subject_clear(subject *s); /* sets the host's result to NaN */
bool subject_is_right(const subject *s);
/* The same for an inspection of attention (layers keep no q and k here): entropies, a map and the weights of
   one query. */
attend_status subject_inspect(subject *s, attend_plan *plan, bool on_device);
bool subject_inspection_is_right(const subject *s);
/* The same for attention into a state on the host, which is merged with that of no keys. */
attend_status subject_merge(const subject *s, attend_plan *plan);
/* Of the layer alone, whose plan is made with gradients: those of x and of wq, from tensors on the host; and weights taken anew. */
attend_status subject_backward(subject *s, attend_plan *plan);
bool subject_gradients_are_right(const subject *s);
size_t subject_result_bytes(const subject *s);

#endif
