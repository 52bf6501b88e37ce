/* What callers bring to a resolved problem: tensors, lists and weights, checked, and what features bring
   turned into what the shared functions of visibility.h and score.h read. */
#ifndef ATTEND_CORE_ARGUMENTS_H
#define ATTEND_CORE_ARGUMENTS_H

#include "shared/score.h"
#include "core/part.h"
#include "core/tensor.h"

/* Every tensor of attend_feature_args; arguments.c has a row for each. */
typedef enum attend_feature_tensor {
    ATTEND_FEATURE_TENSOR_SEGMENTS_Q,
    ATTEND_FEATURE_TENSOR_SEGMENTS_K,
    ATTEND_FEATURE_TENSOR_MASK,
    ATTEND_FEATURE_TENSOR_BLOCK_MASK,
    ATTEND_FEATURE_TENSOR_BIAS,
    ATTEND_FEATURE_TENSOR_SLOPES,
    ATTEND_FEATURE_TENSOR_RELATIVE_TABLE,
    ATTEND_FEATURE_TENSOR_HEAD_SCALES,
    ATTEND_FEATURE_TENSOR_SINKS,
    ATTEND_FEATURE_TENSOR_BLOCK_OFFSETS,
    ATTEND_FEATURE_TENSOR_BLOCK_INDICES,
    ATTEND_FEATURE_TENSOR_POSITIONS
} attend_feature_tensor;
enum { ATTEND_FEATURE_TENSORS = ATTEND_FEATURE_TENSOR_POSITIONS + 1 };

const char *attend_feature_tensor_name(attend_feature_tensor feature);
attend_dtype attend_feature_dtype(attend_feature_tensor feature); /* a bias may also have the problem's */
attend_tensor *attend_feature_tensor_of(attend_feature_args *features, attend_feature_tensor feature);

/* The extents of one feature tensor that the problem asks for; rank 0: it must be absent. `optional`: it may
   be absent. */
typedef struct attend_feature_shape {
    int rank;
    int64_t shape[ATTEND_MAX_RANK]; /* in full */
    bool varies[ATTEND_MAX_RANK];
    bool optional;
} attend_feature_shape;
attend_feature_shape attend_feature_expected(const attend_problem *problem, attend_feature_tensor feature);

/* The lists of attend_feature_args: where each stands, and what it may hold. */
enum { ATTEND_FEATURE_LISTS = 5 };
typedef struct attend_feature_list {
    const char *name;
    const int64_t **list;
    int64_t longest, total; /* total -1: lengths, one a batch entry; else cu_seqlens */
    const char *asked_by;   /* the field that asks for it; NULL: it is optional */
    bool allowed;
} attend_feature_list;
attend_feature_list attend_feature_list_of(const attend_problem *problem, attend_feature_args *features,
                                           int index);

/* Checks feature tensors against a resolved problem: tensors that it asks for are given, others are not;
   broadcast axes get their full extent and stride 0. Lists are not read: only a backend knows where they
   lie. */
attend_status attend_features_resolve(const attend_problem *problem, attend_feature_args *features);

/* Sets a run's ranges of keys and queries from its args, without the tensors of states. key_span: ranges are
   multiples of it; 0: a run must take all keys. */
attend_status attend_key_part_resolve(const attend_problem *problem, int64_t key_span,
                                      const attend_attention_args *args, attend_key_part *part);

/* Copies a caller's features; NULL: all absent. */
attend_status attend_feature_args_read(const attend_feature_args *given, size_t bytes,
                                       attend_feature_args *read);

/* Copies a caller's args, and what features bring to `features`, which read->features then points to: it is
   never NULL behind this call. */
attend_status attend_attention_args_read(const attend_attention_args *args, size_t bytes,
                                         size_t features_bytes, attend_attention_args *read,
                                         attend_feature_args *features);

/* Checks such copies against a resolved problem; tensors then have explicit strides and, where absent, data
   NULL. Lengths are not looked at: only a backend knows where they lie. The part has states too; the args'
   own are then NULL. */
attend_status attend_attention_args_resolve(const attend_problem *problem, int64_t key_span,
                                            attend_attention_args *args, attend_feature_args *features,
                                            attend_key_part *part);

/* One expected argument: where it stands, what it must look like. */
typedef struct attend_expected {
    const char *name;
    attend_tensor *tensor; /* read and replaced by the resolved one */
    attend_tensor_role role;
    bool optional;
    attend_dtype dtype;
    int rank;
    int64_t shape[ATTEND_MAX_RANK];
} attend_expected;

enum { ATTEND_MAX_EXPECTED = 48 };

/* Lists the three tensors of a state of rows_q queries, called `name`; `names` holds their names. A tensor
   that is the same view as in `shared` (NULL: none) is already listed as an output and is left out. Returns
   the number listed. */
typedef struct attend_state_names {
    char text[3][40];
} attend_state_names;
int attend_state_expect(const attend_problem *problem, int64_t rows_q, const char *name,
                        attend_tensor_role role, attend_state *state, const attend_state *shared,
                        attend_state_names *names, attend_expected *expected);

/* Resolves them all; no output may overlap another argument or, already resolved, a tensor of `features`
   (NULL: none). */
attend_status attend_expected_resolve(const attend_expected *arguments, int count,
                                      attend_feature_args *features);
/* Fails unless the rows of all that are given are contiguous. */
attend_status attend_expected_check_rows(const attend_expected *arguments, int count);

/* Lists on the host: lengths in range, cu_seqlens from 0, never decreasing, within the total and the
   longest. */
attend_status attend_lengths_check(const char *name, const int64_t *lengths, int64_t batch, int64_t seqlen);
attend_status attend_cu_seqlens_check(const char *name, const int64_t *cu_seqlens, int64_t batch,
                                      int64_t seqlen, int64_t total);
attend_status attend_feature_list_check(const attend_feature_list *list, int64_t batch);
attend_status attend_block_list_check(const attend_problem *problem, const attend_tensor *offsets,
                                      const attend_tensor *indices);
/* All of those that features bring, the block list included. */
attend_status attend_lists_check(const attend_problem *problem, const attend_feature_args *features);

/* What features bring, resolved, as the shared functions read it. relative_buckets stays NULL: the plan has
   it. */
attend_lists attend_lists_of(const attend_feature_args *features);
attend_terms attend_terms_of(const attend_feature_args *features);

#endif
