/* The definition of correct, in fp64 and without any trick: attention row by row, projections element by
   element, with the error bound and the quality baseline of docs/numerics.md beside each result. Depends on
   little but the public headers. */
#ifndef ATTEND_REFERENCE_REFERENCE_H
#define ATTEND_REFERENCE_REFERENCE_H

#include "core/part.h"
#include "core/progress.h"
#include <attend/inspect.h>

/* Unit roundoff of a storage dtype, and half its least subnormal. */
double attend_unit_roundoff(attend_dtype dtype);
double attend_half_least(attend_dtype dtype);
/* The nearest value that the dtype can store, ties to even. */
double attend_round(double value, attend_dtype dtype);
double attend_load(const attend_tensor *tensor, int64_t element_offset);
void attend_store(const attend_tensor *tensor, int64_t element_offset, double value);

/* Keys and values of one KV head of one batch entry. K lies transposed, so that the plain loop over the head
   dim, done for all keys at once, sums in its plain order. */
typedef struct attend_reference_keys {
    const attend_problem *problem;
    const attend_attention_args *args; /* resolved, on the host */
    int64_t batch;
    int64_t seqlen_q, seqlen_k; /* of this batch entry */
    int64_t first_q, first_k;   /* its first rows in packed tensors, else 0 */
    int64_t start;              /* its first key that is not padding */
    int64_t first, end;         /* the keys that take part; k and v of others are 0 */
    double *k;                  /* [head_dim][seqlen_k] */
    double *v;                  /* [seqlen_k][head_dim_v] */
    float *k32, *v32;           /* the same, for the naive fp32 baseline */
} attend_reference_keys;

/* False where memory lacks. args: resolved, on the host. Of the part only its range counts. */
bool attend_reference_keys_load(attend_reference_keys *keys, const attend_problem *problem,
                                const attend_attention_args *args, const attend_key_part *part, int64_t batch,
                                int64_t kv_head);
void attend_reference_keys_free(attend_reference_keys *keys);

/* One query's results; the caller provides the arrays, each [head_dim_v]. */
typedef struct attend_reference_row {
    double *out;
    double *bound;    /* rule 1 */
    double *baseline; /* rule 2: rounded only where the dtype forces it; fp32: the naive fp32 algorithm */
    /* Σ of the squares of the baseline's roundings, each as it reaches the element: what the square of its
       error is expected to be */
    double *spread;
    /* Σ_j p_ij |v_jc|, the size of what is summed; and what ε of is the underflow of rule 1 */
    double *magnitude;
    double lse, lse_bound;
} attend_reference_row;

/* Doubles of scratch that a row needs. */
int64_t attend_reference_scratch(const attend_problem *problem, int64_t seqlen_k);
/* q: the query's head_dim elements, as doubles. */
void attend_reference_attend(const attend_reference_keys *keys, int64_t head, int64_t query, const double *q,
                             double *scratch, attend_reference_row *row);

/* One query's weights, and how far computed ones may be off, relatively: by `error` each, and all alike by
   `sum_error`. */
typedef struct attend_reference_weights {
    double *p, *error; /* [seqlen_k], in the scratch; p is 0 where nothing is seen */
    bool *sees;
    int64_t count; /* of keys seen */
    double sink, sink_error, sum_error;
} attend_reference_weights;
void attend_reference_weigh(const attend_reference_keys *keys, int64_t head, int64_t query, const double *q,
                            double *scratch, attend_reference_weights *weights);

/* attend/inspect.h by its definitions, stored into the look's tensors; where `bounds` has a tensor of the
   same name (fp64 memory without gaps, top_keys excepted), also how far a correct result may be off:
   docs/inspect.md derives it. args: resolved, on the host. False where memory lacks. */
struct attend_inspect_request;
bool attend_reference_inspect(const attend_problem *problem, const attend_attention_args *args,
                              const struct attend_inspect_request *request, const attend_inspection *bounds,
                              int threads, attend_progress_tracker *tracker);

/* Calls body(job, i, thread, memory) for every i in [0, count) on at most so many threads, each with so many
   doubles of its own; 0 is who calls. nanoseconds: about what one thread takes. False: no memory or no
   threads. */
typedef void attend_reference_body(void *job, int64_t index, int thread, double *memory);
bool attend_reference_spread(int threads, int64_t count, double nanoseconds, int64_t doubles,
                             attend_reference_body *body, void *job);

/* Rows of a whole problem, computed by `threads` threads and handed to take() as they are done, from those
   threads, one call a row, with its place in the tensors. Rows past a query length come as zeros. args:
   resolved, on the host; of the part only its range counts. False where memory lacks. Here and below, once
   the watch was asked to stop nothing more is computed. */
typedef void attend_reference_take(void *job, int64_t batch, int64_t head, int64_t query,
                                   const attend_reference_row *row);
bool attend_reference_attention(const attend_problem *problem, const attend_attention_args *args,
                                const attend_key_part *part, int threads, attend_progress_tracker *tracker,
                                attend_reference_take *take, void *job);

/* One query's result over some keys, without the sink, and what more keys make of it; out: [head_dim_v]. */
typedef struct attend_reference_sums {
    double *out; /* divided */
    double lse;  /* -infinity: no key was seen, and out is 0 */
} attend_reference_sums;
void attend_reference_join(attend_reference_sums *sums, int64_t columns, const double *out, double lse);
/* The sink joins them: a key whose value is 0. */
void attend_reference_sink(attend_reference_sums *sums, int64_t columns, double sink);
/* The same as a query's and head's part of a state, and back: then they join what is there. */
void attend_reference_leave(const attend_reference_sums *sums, int64_t columns, const attend_state *state,
                            int64_t batch, int64_t query, int64_t head);
void attend_reference_take_up(attend_reference_sums *sums, int64_t columns, const attend_state *state,
                              int64_t batch, int64_t query, int64_t head, double *scratch);

/* Storage that only the reference has: intermediate results in fp64. */
#define ATTEND_REFERENCE_F64 ((attend_dtype)64)

/* y = W·x + b for all tokens of x [batch, seqlen, n]: exact values, rule-1 bounds, baselines (rounded to the
   dtype; fp32: the plain fp32 loop) and Σ|w||x|, each [batch][seqlen][rows of W] or NULL. bias may be absent.
   False where memory lacks. */
typedef struct attend_reference_projection {
    double *exact, *bound, *baseline, *magnitude;
} attend_reference_projection;
bool attend_reference_project(const attend_tensor *x, const attend_tensor *weight, const attend_tensor *bias,
                              attend_dtype dtype, int threads, attend_progress_tracker *tracker,
                              const attend_reference_projection *y);

/* A problem's rotary embedding and norm. */
typedef struct attend_reference_rotation {
    int64_t dims; /* of a head that rotate, in pairs; 0: none */
    bool interleaved, backward;
    attend_qk_norm norm;
    double epsilon, factor; /* factor: of cosines and sines */
    double angles[256];     /* of each pair, in radians from one position to the next */
} attend_reference_rotation;
attend_reference_rotation attend_reference_rotation_of(const attend_problem *problem, bool backward);
/* Where the two elements of a pair lie in a head. */
void attend_reference_pair(const attend_reference_rotation *rotation, int64_t pair, int64_t *first,
                           int64_t *second);
/* Of a sinusoidal wave, in radians from one position to the next; and T5's bucket of a distance (key's
   position minus query's). */
double attend_reference_sinusoid(const attend_problem *problem, int64_t sinusoid);
int64_t attend_reference_bucket(const attend_problem *problem, int64_t distance);

/* Norm and rotary embedding of one head, in place: y[head_dim] exact and, unless NULL, what it may be off by.
   */
void attend_reference_rope(const attend_reference_rotation *rotation, int64_t head_dim,
                           const attend_tensor *weight, const attend_tensor *bias, int64_t position,
                           double *y, double *bound);
/* The same for all tokens of [batch][rows][heads][head_dim]; the positions are the layer's. */
void attend_reference_rope_all(const attend_problem *problem, const attend_layer_args *args,
                               const attend_tensor *weight, const attend_tensor *bias, int64_t heads,
                               bool rounded, double *y, double *bound);

/* x with the absolute positions of a layer, [batch, rows, hidden_size] in fp64: exact, or rounded to the
   dtype; and, unless NULL, what the computed one may be off by. False where memory lacks; free the data
   either way. */
bool attend_reference_add_positions(const attend_problem *problem, const attend_layer_weights *weights,
                                    const attend_layer_args *args, bool rounded,
                                    attend_tensor *x_with_positions, attend_tensor *bound);

/* Turns a tensor wherever it lies on the host, rows that are not there left alone. False where memory lacks.
   */
struct attend_row_positions;
struct attend_rope_tensor;
bool attend_reference_rope_tensor(const attend_reference_rotation *rotation,
                                  const struct attend_row_positions *row_positions,
                                  const struct attend_rope_tensor *tensor, int threads);

/* A layer's stages in fp64 memory without gaps, [batch, seqlen, heads, dim]; out has one head of output_size.
   */
typedef struct attend_reference_layer {
    attend_tensor x_with_positions; /* x with absolute positions, in a layer that has them */
    attend_tensor q, k, v, heads, out;
    attend_tensor magnitude; /* Σ|wo||heads| + |bo|, shaped as out */
    attend_tensor lse;       /* the caller's, written if it is there */
} attend_reference_layer;
/* What is rounded to the dtype. */
typedef enum attend_reference_rounding {
    ATTEND_REFERENCE_EXACT, /* nothing */
    /* what is stored between stages: each is exact, given what a caller sees of the one before it */
    ATTEND_REFERENCE_STORED,
    ATTEND_REFERENCE_BASELINE, /* that, P and the result, as rule 2 has it (fp32: the naive algorithm) */
} attend_reference_rounding;

/* args: resolved. False where memory lacks; free the layer either way. */
bool attend_reference_run_layer(const attend_problem *problem, const attend_layer_weights *weights,
                                const attend_layer_args *args, attend_reference_rounding rounding,
                                int threads, attend_progress_tracker *tracker, attend_reference_layer *layer);
void attend_reference_free_layer(attend_reference_layer *layer);

/* fp64 memory without gaps as a tensor. */
attend_tensor attend_reference_view(double *data, int64_t batch, int64_t seqlen, int64_t heads, int64_t dim);

#endif
