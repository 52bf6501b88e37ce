/* A small attention, a small layer with positions of all kinds and a rotation, with all their tensors, on the host and on the device, and
   whether their results are right. */
#ifndef SOFTGPU_ATTEND_SUBJECT_H
#define SOFTGPU_ATTEND_SUBJECT_H

#include <attend/attend.h>
#include <stdbool.h>

enum { SUBJECT_TENSORS = 4, SUBJECT_BYTES = 1 << 16, SUBJECT_SEEN = 1024 };

typedef enum subject_kind { SUBJECT_ATTENTION, SUBJECT_LAYER, SUBJECT_ROTARY, SUBJECTS } subject_kind;

typedef struct subject {
    subject_kind kind;
    attend_context *context; /* of the plan; a rotation has none */
    attend_problem problem;
    attend_layer_weights weights; /* on the host */
    void *host[SUBJECT_TENSORS];  /* q, k, v, out; of a layer x, -, -, out; of a rotation q, -, -, out */
    void *device[SUBJECT_TENSORS];
    struct CUstream_st *stream; /* of runs; NULL: the context's */
    float *weight_memory, *expected;
    float seen[SUBJECT_SEEN], expected_seen[SUBJECT_SEEN]; /* of an inspection, on the host */
} subject;

/* Fills it; the expected results are computed on the CPU. */
void subject_make(subject *s, subject_kind kind);
void subject_free(subject *s);

attend_status subject_plan(subject *s, attend_context *context, attend_plan **plan);
/* Runs on one side's tensors; the other's stay as they are. */
attend_status subject_run(const subject *s, attend_plan *plan, bool on_device);
void subject_clear(subject *s); /* the host's result: NaN */
bool subject_is_right(const subject *s);
/* The same for looking inside attention (a layer keeps no q and k here): entropies, a map and the weights of a query. */
attend_status subject_inspect(subject *s, attend_plan *plan, bool on_device);
bool subject_saw_right(const subject *s);
size_t subject_result_bytes(const subject *s);

#endif
