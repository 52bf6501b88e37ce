/* The fp64 reference, the definition of correct: attention row by row, projections element by element, with
   the error bound and the quality baseline of docs/numerics.md for each result. Depends on little but the
   public headers. */
#ifndef ATTEND_REFERENCE_REFERENCE_H
#define ATTEND_REFERENCE_REFERENCE_H

#include "core/layer_backward.h"
#include "core/part.h"
#include "core/progress.h"
#include <attend/inspect.h>

/* Unit roundoff of a storage dtype, and half its smallest subnormal. */
double attend_unit_roundoff(attend_dtype dtype);
double attend_half_least(attend_dtype dtype);
/* The nearest value that the dtype can store, ties to even. */
double attend_round(double value, attend_dtype dtype);
double attend_load(const attend_tensor *tensor, int64_t element_offset);
void attend_store(const attend_tensor *tensor, int64_t element_offset, double value);

/* Keys and values of one KV head of one batch entry. K is transposed, so that a loop over all keys inside one
   over the head dim sums each score in plain order. */
typedef struct attend_reference_keys {
    const attend_problem *problem;
    const attend_attention_args *args; /* resolved, on the host */
    const attend_feature_args *features;
    int64_t batch;
    int64_t seqlen_q, seqlen_k; /* lengths of this batch entry */
    int64_t first_q, first_k;   /* its first rows in packed tensors, otherwise 0 */
    int64_t start;              /* its first key that is not padding */
    int64_t first, end;         /* the run's range of keys; k and v of others are 0 */
    double *k;                  /* [head_dim][seqlen_k] */
    double *v;                  /* [seqlen_k][head_dim_v] */
    float *k32, *v32;           /* the same, for the naive fp32 baseline */
} attend_reference_keys;

/* False without memory. args: resolved, on the host. part: only its range of keys, and where they lie. */
bool attend_reference_keys_load(attend_reference_keys *keys, const attend_problem *problem,
                                const attend_attention_args *args, const attend_key_part *part, int64_t batch,
                                int64_t kv_head);
void attend_reference_keys_free(attend_reference_keys *keys);

/* One query's results; the caller provides the arrays, each [head_dim_v]. */
typedef struct attend_reference_row {
    double *out;
    double *bound;    /* rule 1 */
    double *baseline; /* rule 2: rounded only where the dtype requires it; fp32: the naive fp32 algorithm */
    /* Σ of squares of the baseline's rounding errors, each as it affects the element: the expected square of
       its error */
    double *spread;
    /* Σ_j p_ij |v_jc|, the magnitude of the sum; plus the underflow term of rule 1 divided by ε */
    double *magnitude;
    double lse, lse_bound;
    double max, log_sum; /* of a problem without sinks, the two parts of lse */
} attend_reference_row;

/* Doubles of scratch for a row */
int64_t attend_reference_scratch(const attend_problem *problem, int64_t seqlen_k);
/* q: the query's head_dim elements, as doubles. */
void attend_reference_attend(const attend_reference_keys *keys, int64_t head, int64_t query, const double *q,
                             double *scratch, attend_reference_row *row);

/* One query's weights, and bounds of the relative errors of computed ones: `error` of each, and `sum_error`
   common to all. */
typedef struct attend_reference_weights {
    double *p, *error; /* [seqlen_k], in the scratch; p is 0 where masked */
    bool *sees;
    int64_t count; /* visible keys */
    double sink, sink_error, sum_error;
} attend_reference_weights;
void attend_reference_weigh(const attend_reference_keys *keys, int64_t head, int64_t query, const double *q,
                            double *scratch, attend_reference_weights *weights);
/* s[seqlen_k]: the naive fp32 algorithm's scores of keys with `sees`, followed by the squares of their
   rounding errors. */
void attend_reference_naive_scores(const attend_reference_keys *keys, int64_t head, int64_t query,
                                   const double *q, bool *sees, float *s);
/* The scale of a head, and the position of a query, counted in keys. */
double attend_reference_scale(const attend_reference_keys *keys, int64_t head);
int64_t attend_reference_position(const attend_reference_keys *keys, int64_t query);

/* A gradient by its definition, in contiguous memory; and, unless bound is NULL, the numbers of
   docs/numerics.md for each element, as in attend_reference_row. All NULL: not requested. */
typedef struct attend_reference_gradient {
    double *exact, *bound, *baseline, *spread, *magnitude;
} attend_reference_gradient;
/* Computes the gradients that are requested, into memory allocated here; judged: with the numbers of both
   rules. gradients: resolved, on the host. False without memory; free them in either case. */
bool attend_reference_backward(const attend_problem *problem, const attend_attention_args *args,
                               const attend_gradients *gradients, bool judged, int threads,
                               attend_progress_tracker *tracker,
                               attend_reference_gradient of[ATTEND_GRADIENTS]);
void attend_reference_backward_free(attend_reference_gradient of[ATTEND_GRADIENTS]);

/* Inspection by its definitions (attend/inspect.h), stored to the request's tensors. Where `bounds` has a
   tensor of the same name (contiguous fp64, but not top_keys), also the error bound of a correct result,
   which docs/inspect.md derives. args: resolved, on the host. False without memory. */
struct attend_inspect_request;
bool attend_reference_inspect(const attend_problem *problem, const attend_attention_args *args,
                              const attend_key_part *all, const struct attend_inspect_request *request,
                              const attend_inspection *bounds, int threads, attend_progress_tracker *tracker);

/* Calls body(job, i, thread, memory) for every i in [0, count) on at most `threads` threads, each with memory
   for `doubles` doubles; thread 0 is the caller. nanoseconds: an estimate for one thread. False without
   memory or threads. */
typedef void attend_reference_body(void *job, int64_t index, int thread, double *memory);
bool attend_reference_spread(int threads, int64_t count, double nanoseconds, int64_t doubles,
                             attend_reference_body *body, void *job);

/* Computes all rows of a problem on `threads` threads, which call take() once a row, with the row's indices
   in the tensors. Rows past a query length are zeros. args: resolved, on the host; part: only its range is
   used. False without memory. Here and below, nothing more is computed once progress was asked to stop. */
typedef void attend_reference_take(void *job, int64_t batch, int64_t head, int64_t query,
                                   const attend_reference_row *row);
bool attend_reference_attention(const attend_problem *problem, const attend_attention_args *args,
                                const attend_key_part *part, int threads, attend_progress_tracker *tracker,
                                attend_reference_take *take, void *job);

/* One query's result over some keys, without the sink; out: [head_dim_v]. join merges the result over more
   keys. */
typedef struct attend_reference_sums {
    double *out; /* divided by the sum of weights */
    /* The LSE is max + log_sum: one number would lose log_sum where max is huge. max -infinity: no visible
       key, and out is 0 */
    double max, log_sum;
} attend_reference_sums;
void attend_reference_join(attend_reference_sums *sums, int64_t columns, const attend_reference_sums *more);
/* A maximum as a state holds it: a huge one is rounded (shared/running_max.h). */
double attend_reference_carried(double max);
/* Merges the sink: a key whose value is 0. */
void attend_reference_sink(attend_reference_sums *sums, int64_t columns, double sink);
/* Stores a result as one query and head of a state; take_up merges one of a state into a result. */
void attend_reference_leave(const attend_reference_sums *sums, int64_t columns, const attend_state *state,
                            int64_t batch, int64_t query, int64_t head);
void attend_reference_take_up(attend_reference_sums *sums, int64_t columns, const attend_state *state,
                              int64_t batch, int64_t query, int64_t head, double *scratch);

/* A dtype of the reference alone: intermediate results in fp64. */
#define ATTEND_REFERENCE_F64 ((attend_dtype)64)

/* y = W·x + b for all tokens of x [batch, seqlen, n]: exact values, rule 1's bounds, baselines (rounded to
   the dtype; fp32: the plain fp32 loop) and Σ|w||x|, each [batch][seqlen][rows of W] or NULL. bias may be
   absent. False without memory. */
typedef struct attend_reference_projection {
    double *exact, *bound, *baseline, *magnitude;
} attend_reference_projection;
bool attend_reference_project(const attend_tensor *x, const attend_tensor *weight, const attend_tensor *bias,
                              attend_dtype dtype, int threads, attend_progress_tracker *tracker,
                              const attend_reference_projection *y);

/* A problem's rotary embedding and norm. */
typedef struct attend_reference_rotation {
    int64_t dims; /* leading elements of a head that are rotated, in pairs; 0: none */
    bool interleaved, backward;
    attend_qk_norm norm;
    double epsilon, factor; /* factor: multiplies cosines and sines */
    double angles[256];     /* frequency of each pair, in radians a position */
} attend_reference_rotation;
attend_reference_rotation attend_reference_rotation_of(const attend_problem *problem, bool backward);
/* The two elements of a pair within a head. */
void attend_reference_pair(const attend_reference_rotation *rotation, int64_t pair, int64_t *first,
                           int64_t *second);
/* The frequency of a sinusoid, in radians a position; and T5's bucket of a distance (key's position minus
   query's). */
double attend_reference_sinusoid(const attend_problem *problem, int64_t sinusoid);
int64_t attend_reference_bucket(const attend_problem *problem, int64_t distance);

/* QK-norm and rotary embedding of one head, in place: y[head_dim] exact and, unless NULL, the bound of its
   error. */
void attend_reference_rope(const attend_reference_rotation *rotation, int64_t head_dim,
                           const attend_tensor *weight, const attend_tensor *bias, int64_t position,
                           double *y, double *bound);
/* The same for all tokens of [batch][rows][heads][head_dim], at these positions. */
struct attend_row_positions;
void attend_reference_rope_all(const attend_problem *problem,
                               const struct attend_row_positions *row_positions, const attend_tensor *weight,
                               const attend_tensor *bias, int64_t heads, bool rounded, double *y,
                               double *bound);

/* x plus the absolute positions of a layer, [batch, rows, hidden_size] in fp64: exact, or rounded to the
   dtype; and, unless NULL, the error bound of a computed one. False without memory; the data must be freed in
   either case. */
bool attend_reference_add_positions(const attend_problem *problem, const attend_layer_weights *weights,
                                    const attend_layer_args *args, bool rounded,
                                    attend_tensor *x_with_positions, attend_tensor *bound);

/* QK-norm and rotary embedding of a tensor on the host, with `append` (or NULL) into a cache; rows past their
   sequence's length stay untouched. False without memory. */
struct attend_append;
struct attend_rope_tensor;
bool attend_reference_rope_tensor(const attend_reference_rotation *rotation,
                                  const struct attend_row_positions *row_positions,
                                  const struct attend_rope_tensor *tensor, const struct attend_append *append,
                                  int threads);

/* A layer's stages in contiguous fp64, [batch, seqlen, heads, dim]; out has one head of output_size. */
typedef struct attend_reference_layer {
    attend_tensor x_with_positions; /* x plus absolute positions, in a layer that has them */
    attend_tensor q, k, v, heads, out;
    attend_tensor all_k, all_v; /* with a cache, what attention reads: its keys, and behind them k and v */
    attend_tensor magnitude;    /* Σ|wo||heads| + |bo|, shaped as out */
    attend_tensor lse;          /* the caller's, written if given */
} attend_reference_layer;
/* What is rounded to the dtype */
typedef enum attend_reference_rounding {
    ATTEND_REFERENCE_EXACT, /* nothing */
    /* what is stored between stages: each stage is exact, given the stored result of the one before */
    ATTEND_REFERENCE_STORED,
    ATTEND_REFERENCE_BASELINE, /* the same, P and the result, for rule 2 (fp32: the naive algorithm) */
} attend_reference_rounding;

/* args: resolved. False without memory; the layer must be freed in either case. */
bool attend_reference_run_layer(const attend_problem *problem, const attend_layer_weights *weights,
                                const attend_layer_args *args, attend_reference_rounding rounding,
                                int threads, attend_progress_tracker *tracker, attend_reference_layer *layer);
void attend_reference_free_layer(attend_reference_layer *layer);

/* A layer's gradients by their definition, each in contiguous fp64; NULL: not wanted. */
typedef struct attend_reference_layer_gradients {
    double *dx, *dcontext, *weights[ATTEND_LAYER_WEIGHTS];
    attend_reference_gradient of[ATTEND_GRADIENTS]; /* those of features */
} attend_reference_layer_gradients;

/* Computes those that are wanted, EXACT or STORED: then the gradients of heads, q, k and v are rounded, too,
   behind each stage. args and gradients: resolved, on the host. False without memory; they must be freed in
   either case. */
bool attend_reference_layer_backward(const attend_problem *problem, const attend_layer_weights *weights,
                                     const attend_layer_args *args, const attend_layer_gradients *wanted,
                                     attend_reference_rounding rounding, int threads,
                                     attend_progress_tracker *tracker,
                                     attend_reference_layer_gradients *gradients);
void attend_reference_layer_backward_free(attend_reference_layer_gradients *gradients);

/* The way back through QK-norm and rotary embedding of one head: dy[head_dim] becomes the gradient of y, the
   head as it was before both; those of the norm's weight and bias are added to dweight and dbias, unless
   NULL. */
void attend_reference_rope_backward(const attend_reference_rotation *rotation, int64_t head_dim,
                                    const attend_tensor *weight, int64_t position, const double *y,
                                    double *dy, double *dweight, double *dbias);

/* A tensor of contiguous fp64. */
attend_tensor attend_reference_view(double *data, int64_t batch, int64_t seqlen, int64_t heads, int64_t dim);

#endif
