/* Inspection by its definitions, from the weights of one query after the other in fp64; and for each number
   the error bound of a correct result, which docs/inspect.md derives. */
#include "core/inspect.h"
#include "core/problem.h"
#include "reference/reference.h"

#include <math.h>
#include <stdlib.h>

static const double epsilon = 0x1p-24;

/* One head of one batch entry, and one thread's memory. */
typedef struct work {
    const attend_problem *problem;
    const attend_attention_args *args;
    const attend_key_part *all; /* where the keys are */
    const attend_inspect_request *request;
    const attend_inspection *bounds; /* NULL: not requested */
    attend_progress_tracker *tracker;
    attend_reference_keys keys;
    attend_sequence sequence;
    int64_t head;
    double *q, *scratch, *map, *map_bound, *weight_bound; /* both maps are [Y][X] */
    double weight, distance, weight_bound_sum, distance_bound;
} work;

static void put(const attend_tensor *t, int64_t a, int64_t b, int64_t c, int64_t d, double value)
{
    if (t->data)
        attend_store(t, a * t->stride[0] + b * t->stride[1] + c * t->stride[2] + d * t->stride[3], value);
}

/* Indices of a query's results in the tensors. */
static int64_t tensor_batch(const work *w) { return w->sequence.batch; }
static int64_t tensor_row(const work *w, int64_t row) { return w->sequence.first_q + row; }

static void list_top(const work *w, int64_t row, const attend_reference_weights *p)
{
    const attend_inspection *want = &w->request->want;
    double last = INFINITY;
    int64_t last_key = -1;
    bool poisoned = false;
    for (int64_t j = 0; j < w->keys.seqlen_k && p->count; j++) poisoned = poisoned || isnan(p->p[j]);
    for (int64_t rank = 0; rank < w->request->top; rank++) {
        int64_t best = -1;
        for (int64_t j = 0; j < w->keys.seqlen_k; j++) {
            bool later = p->p[j] < last || (p->p[j] == last && j > last_key);
            if (p->count && !poisoned && p->sees[j] && later && (best < 0 || p->p[j] > p->p[best])) best = j;
        }
        double weight = best >= 0 ? p->p[best] : poisoned ? NAN : 0;
        put(&want->top_keys, tensor_batch(w), w->head, tensor_row(w, row), rank, (double)best);
        put(&want->top_weights, tensor_batch(w), w->head, tensor_row(w, row), rank, weight);
        if (best >= 0) last = p->p[best], last_key = best;
    }
}

static double surprise(double p) { return p > 0 ? -log(p) : p == 0 ? 0 : NAN; }

static void measure_entropy(const work *w, int64_t row, const attend_reference_weights *p)
{
    double entropy = 0, bound = 0, magnitude = 0;
    for (int64_t j = 0; j <= w->keys.seqlen_k; j++) {
        bool sink = j == w->keys.seqlen_k;
        double weight = sink ? p->sink : p->p[j], off = (sink ? p->sink_error : p->error[j]) + p->sum_error;
        if (sink ? weight == 0 : !p->count || !p->sees[j]) continue;
        double spread = weight * expm1(off + 4 * epsilon) + 0x1p-120;
        entropy += weight * surprise(weight);
        bound += spread * fmin(fabs(surprise(weight)), 800) + (weight + spread) * off;
        magnitude += weight * fabs(surprise(weight));
    }
    bound += ((double)p->count + 10) * epsilon * magnitude;
    put(&w->request->want.entropy, tensor_batch(w), w->head, tensor_row(w, row), 0, entropy);
    if (w->bounds) put(&w->bounds->entropy, tensor_batch(w), w->head, tensor_row(w, row), 0, bound);
}

static void measure_mass(const work *w, int64_t row, const attend_reference_weights *p)
{
    for (int64_t n = 0; n < w->request->want.num_windows; n++) {
        int64_t begin, end;
        double mass = 0, bound = 0;
        attend_window_keys(w->problem, &w->sequence, &w->request->windows[n], row, &begin, &end);
        for (int64_t j = begin; j < end && p->count; j++) mass += p->p[j], bound += w->weight_bound[j];
        put(&w->request->want.mass, tensor_batch(w), w->head, tensor_row(w, row), n, mass);
        if (w->bounds)
            put(&w->bounds->mass, tensor_batch(w), w->head, tensor_row(w, row), n,
                bound + ((double)p->count + 8) * epsilon * mass);
    }
}

static void store_weights(const work *w, int64_t row, const attend_reference_weights *p)
{
    const attend_inspection *want = &w->request->want;
    for (int64_t n = 0; n < want->num_queries && want->weights.data; n++) {
        if (want->queries[n] != tensor_row(w, row)) continue;
        for (int64_t j = 0; j < w->problem->seqlen_k; j++) {
            bool there = p->count && j < w->keys.seqlen_k;
            put(&want->weights, tensor_batch(w), w->head, n, j, there ? p->p[j] : 0);
            if (w->bounds)
                put(&w->bounds->weights, tensor_batch(w), w->head, n, j, there ? w->weight_bound[j] : 0);
        }
    }
}

static void add_to_map(work *w, int64_t row, const attend_reference_weights *p)
{
    const attend_inspection *want = &w->request->want;
    int64_t tiles_q = want->map.shape[2], tiles_k = want->map.shape[3], y = row - want->first_query;
    if (!want->map.data || y < 0 || y >= want->map_queries) return;
    for (int64_t x = 0; x < want->map_keys && want->first_key + x < w->keys.seqlen_k; x++) {
        int64_t tile = attend_map_tile(y, want->map_queries, tiles_q) * tiles_k +
                       attend_map_tile(x, want->map_keys, tiles_k);
        w->map[tile] += p->p[want->first_key + x], w->map_bound[tile] += w->weight_bound[want->first_key + x];
    }
}

static void add_to_distance(work *w, int64_t row, const attend_reference_weights *p)
{
    double rounding = ((double)p->count + 10) * epsilon;
    for (int64_t j = 0; j < w->keys.seqlen_k; j++) {
        double far = fabs((double)(j - attend_position(w->problem, &w->sequence, row)));
        if (!p->sees[j]) continue;
        w->weight += p->p[j], w->distance += p->p[j] * far;
        w->weight_bound_sum += w->weight_bound[j] + rounding * p->p[j];
        w->distance_bound += (w->weight_bound[j] + rounding * p->p[j]) * far;
    }
}

static void one_row(work *w, int64_t row)
{
    const attend_tensor *q = &w->args->q;
    attend_reference_weights p;
    for (int64_t c = 0; c < w->problem->head_dim && row < w->sequence.seqlen_q; c++)
        w->q[c] = attend_load(q, tensor_batch(w) * q->stride[0] + tensor_row(w, row) * q->stride[1] +
                                     w->head * q->stride[2] + c * q->stride[3]);
    attend_reference_weigh(&w->keys, w->head, row, w->q, w->scratch, &p);
    for (int64_t j = 0; j < w->keys.seqlen_k; j++)
        w->weight_bound[j] =
            p.count && p.sees[j] ? p.p[j] * expm1(p.error[j] + p.sum_error + 4 * epsilon) + 0x1p-120 : 0;
    list_top(w, row, &p);
    measure_entropy(w, row, &p);
    measure_mass(w, row, &p);
    store_weights(w, row, &p);
    if (p.count == 0) return;
    add_to_map(w, row, &p);
    add_to_distance(w, row, &p);
}

/* Divides sums into means. The sum of a tile has a term for each of its queries and keys. */
static void finish(const work *w, int64_t b)
{
    const attend_inspection *want = &w->request->want;
    int64_t tiles_q = want->map.shape[2], tiles_k = want->map.shape[3];
    for (int64_t t = 0; want->map.data && t < tiles_q * tiles_k; t++) {
        int64_t y = t / tiles_k, x = t % tiles_k;
        int64_t queries = attend_map_begin(y + 1, want->map_queries, tiles_q) -
                          attend_map_begin(y, want->map_queries, tiles_q);
        int64_t keys =
            attend_map_begin(x + 1, want->map_keys, tiles_k) - attend_map_begin(x, want->map_keys, tiles_k);
        double count = (double)queries * (double)keys;
        put(&want->map, b, w->head, y, x, w->map[t] / count);
        if (w->bounds)
            put(&w->bounds->map, b, w->head, y, x,
                (w->map_bound[t] + (double)(queries + keys + 8) * epsilon * w->map[t]) / count);
    }
    double mean = w->weight != 0 ? w->distance / w->weight : 0, room = w->weight - w->weight_bound_sum;
    put(&want->distance, b, w->head, 0, 0, mean);
    if (w->bounds)
        put(&w->bounds->distance, b, w->head, 0, 0,
            room > 0 ? (w->distance_bound + mean * w->weight_bound_sum) / room + epsilon * mean : 0);
}

static bool one_head(work *w, int64_t b, int64_t head, bool reports)
{
    const attend_problem *p = w->problem;
    const attend_attention_args *a = w->args;
    const attend_feature_args *f = a->features;
    const attend_lists lists = {f->seqlens_q, f->seqlens_k, f->starts_k, f->cu_seqlens_q, f->cu_seqlens_k};
    int64_t tiles =
        w->request->want.map.data ? w->request->want.map.shape[2] * w->request->want.map.shape[3] : 0;
    if (!attend_reference_keys_load(&w->keys, p, a, w->all, b, head / (p->num_heads / p->num_kv_heads)))
        return false;
    w->sequence = attend_sequence_of(p, &lists, b);
    w->head = head;
    w->weight = w->distance = w->weight_bound_sum = w->distance_bound = 0;
    for (int64_t t = 0; t < tiles; t++) w->map[t] = w->map_bound[t] = 0;
    for (int64_t row = 0; row < attend_rows_of(p, &w->sequence) && attend_progress_continues(w->tracker);
         row++) {
        one_row(w, row);
        attend_progress_count(w->tracker, 1, reports);
    }
    finish(w, b);
    attend_reference_keys_free(&w->keys);
    return true;
}

typedef struct heads_job {
    work work; /* of every thread, without its memory */
    int64_t scratch, tiles;
    bool incomplete;
} heads_job;

static void inspect_head(void *job, int64_t i, int thread, double *memory)
{
    heads_job *j = job;
    work w = j->work;
    if (!attend_progress_continues(w.tracker)) return;
    w.q = memory, w.scratch = w.q + w.problem->head_dim, w.weight_bound = w.scratch + j->scratch;
    w.map = w.weight_bound + w.problem->seqlen_k, w.map_bound = w.map + j->tiles;
    if (!one_head(&w, i / w.problem->num_heads, i % w.problem->num_heads, thread == 0))
        __atomic_store_n(&j->incomplete, true, __ATOMIC_RELAXED);
}

bool attend_reference_inspect(const attend_problem *p, const attend_attention_args *args,
                              const attend_key_part *all, const attend_inspect_request *request,
                              const attend_inspection *bounds, int threads, attend_progress_tracker *tracker)
{
    const attend_tensor *map = &request->want.map;
    const int64_t n = p->seqlen_k, heads = p->batch * p->num_heads;
    heads_job job = {.work = {.problem = p,
                              .args = args,
                              .all = all,
                              .request = request,
                              .bounds = bounds,
                              .tracker = tracker},
                     .scratch = attend_reference_scratch(p, n),
                     .tiles = map->data ? map->shape[2] * map->shape[3] : 0};
    const double nanoseconds = 4.0 * (double)(heads * p->seqlen_q) * (double)n * (double)p->head_dim;
    attend_progress_stage(tracker, tracker->work.attention,
                          attend_tensor_batch(p) * attend_rows_q(p) * p->num_heads);
    return attend_reference_spread(threads, heads, nanoseconds, p->head_dim + job.scratch + n + 2 * job.tiles,
                                   inspect_head, &job) &&
           !job.incomplete;
}
