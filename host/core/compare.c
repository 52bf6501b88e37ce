/* Compares results with the fp64 reference by the two rules of docs/numerics.md. The reference gives rows one
   by one, which are added to sums per tile, head and tensor; no buffer has the size of the scores. */
#include "core/compare.h"
#include "core/arguments.h"
#include "core/backend.h"
#include "core/cache.h"
#include "core/struct.h"
#include "shared/splitmix.h"

#include <math.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static double baseline_factor(attend_dtype dtype) { return dtype == ATTEND_F32 ? 1.5 : 1; }

/* By Satterthwaite, the sum of squares of errors of sizes a_i scatters as that of (Σa²)² / Σa⁴ errors of one
   size. */
double attend_quality_ratio(const attend_group *g, attend_dtype dtype, attend_dtype stored)
{
    if (g->elements == 0) return 0;
    double n = (double)g->elements, u = attend_unit_roundoff(stored);
    double rows = g->allowed_squared > 0 ? g->allowed * g->allowed / g->allowed_squared : 1,
           chance = 1 + 4 / sqrt(rows);
    double forced =
        baseline_factor(dtype) * sqrt(fmax(g->baseline, g->spread) / n) + 0.1 * u * sqrt(g->expected / n);
    double fp32 = 0x1p-24 * sqrt(g->magnitude / n);
    double rms = sqrt(g->error / n);
    return isnan(rms) ? INFINITY : rms / (chance * (forced + fp32) + attend_half_least(stored));
}

void attend_group_element(attend_group *g, double error, double baseline, double spread, double expected,
                          double magnitude)
{
    g->error += error * error;
    g->baseline += (baseline - expected) * (baseline - expected);
    g->spread += spread;
    g->expected += expected * expected;
    g->magnitude += magnitude * magnitude;
    g->elements++;
}

void attend_group_add_row(attend_group *to, attend_group *row, attend_dtype dtype, attend_dtype stored)
{
    double factor = baseline_factor(dtype), u = attend_unit_roundoff(stored);
    row->allowed = factor * factor * row->spread + 0.01 * u * u * row->expected + 0x1p-48 * row->magnitude;
    row->allowed_squared = row->allowed * row->allowed;
    attend_group_add(to, row);
}

void attend_group_add(attend_group *to, const attend_group *from)
{
    to->error += from->error, to->baseline += from->baseline, to->expected += from->expected,
        to->magnitude += from->magnitude;
    to->spread += from->spread, to->elements += from->elements;
    to->allowed += from->allowed, to->allowed_squared += from->allowed_squared;
}

typedef struct comparing {
    const attend_problem *problem;
    const attend_attention_args *args;
    attend_comparison *result;
    attend_group *tiles;    /* [batch][num_heads][tiles a head] */
    attend_row_room *rooms; /* [batch][num_heads][rows a head] */
    int64_t tiles_a_head, rows_a_head;
    bool reference_finite;
} comparing;

void attend_note_worst(double ratio, attend_element element, double *worst_ratio, attend_element *worst)
{
    if (isnan(ratio)) ratio = INFINITY;
    if (ratio < *worst_ratio || (ratio == *worst_ratio && *worst_ratio > 0)) return;
    *worst_ratio = ratio;
    *worst = element;
}

static void compare_lse(comparing *c, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    const attend_tensor *lse = &c->args->lse;
    if (!lse->data) return;
    double actual = attend_load(lse, b * lse->stride[0] + h * lse->stride[1] + i * lse->stride[2]);
    double error = actual == row->lse ? 0 : fabs(actual - row->lse); /* -infinity equals itself */
    attend_element element = {b, h, i, -1, actual, row->lse, row->lse_bound};
    attend_note_worst(error == 0 ? 0 : error / row->lse_bound, element, &c->result->lse_bound_ratio,
                      &c->result->worst_lse);
}

uint64_t attend_row_hash(const attend_tensor *t, int64_t b, int64_t i, int64_t h, const int64_t *sequences,
                         int64_t count)
{
    uint64_t hash = 0;
    if (sequences)
        while ((int64_t)hash + 1 < count && i >= sequences[hash + 1]) hash++;
    for (int64_t column = 0; column < t->shape[3]; column++) {
        const double x =
            attend_load(t, b * t->stride[0] + i * t->stride[1] + h * t->stride[2] + column * t->stride[3]);
        uint64_t bits;
        memcpy(&bits, &x, sizeof bits);
        hash = attend_mix(hash ^ bits);
    }
    return hash;
}

static void take_row(void *job, int64_t b, int64_t h, int64_t i, const attend_reference_row *row)
{
    comparing *c = job;
    const attend_tensor *out = &c->args->out;
    attend_group sums = {0};
    double worst_ratio = -1, max_error = 0;
    attend_element worst = {0};
    bool finite = true;
    const int64_t head = b * c->problem->num_heads + h;
    const uint64_t query =
        attend_row_hash(&c->args->q, b, i, h, c->args->features->cu_seqlens_q, c->problem->batch);
    for (int64_t column = 0; column < c->problem->head_dim_v; column++) {
        double expected = row->out[column];
        double actual =
            attend_load(out, b * out->stride[0] + i * out->stride[1] + h * out->stride[2] + column);
        double error = fabs(actual - expected), bound = row->bound[column];
        finite &= isfinite(expected) != 0;
        attend_note_worst(error == 0 ? 0 : error / bound,
                          (attend_element){b, h, i, column, actual, expected, bound}, &worst_ratio, &worst);
        max_error = isnan(error) ? INFINITY : fmax(max_error, error);
        attend_group_element(&sums, error, row->baseline[column], row->spread[column], expected,
                             row->magnitude[column]);
    }
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&one_at_a_time);
    attend_note_worst(worst_ratio, worst, &c->result->bound_ratio, &c->result->worst);
    c->result->max_error = fmax(c->result->max_error, max_error);
    c->reference_finite &= finite;
    attend_group_add_row(&c->tiles[head * c->tiles_a_head + i / ATTEND_TILE_ROWS], &sums, c->problem->dtype,
                         c->problem->dtype);
    c->rooms[head * c->rows_a_head + i] = (attend_row_room){query, sums.allowed};
    compare_lse(c, b, h, i, row);
    pthread_mutex_unlock(&one_at_a_time);
}

static int by_share(const void *left, const void *right)
{
    const uint64_t a = ((const attend_row_room *)left)->shares, b = ((const attend_row_room *)right)->shares;
    return (a > b) - (a < b);
}

double attend_squares_of_draws(attend_row_room *rows, int64_t count)
{
    double squares = 0, draw = 0;
    qsort(rows, (size_t)count, sizeof *rows, by_share);
    for (int64_t i = 0; i < count; i++) {
        draw += rows[i].allowed;
        if (i + 1 < count && rows[i].shares == rows[i + 1].shares) continue;
        squares += draw * draw, draw = 0;
    }
    return squares;
}

/* Rule 2 over tiles, heads and the tensor. */
static void judge_quality(comparing *c)
{
    attend_group tensor = {0};
    attend_comparison *r = c->result;
    for (int64_t head = 0; head < attend_tensor_batch(c->problem) * c->problem->num_heads; head++) {
        attend_group whole = {0};
        attend_row_room *rooms = &c->rooms[head * c->rows_a_head];
        for (int64_t t = 0; t < c->tiles_a_head; t++) {
            attend_group *tile = &c->tiles[head * c->tiles_a_head + t];
            const int64_t first = t * ATTEND_TILE_ROWS, rest = c->rows_a_head - first;
            tile->allowed_squared =
                attend_squares_of_draws(rooms + first, rest < ATTEND_TILE_ROWS ? rest : ATTEND_TILE_ROWS);
            r->quality_ratio =
                fmax(r->quality_ratio, attend_quality_ratio(tile, c->problem->dtype, c->problem->dtype));
            attend_group_add(&whole, tile);
        }
        whole.allowed_squared = attend_squares_of_draws(rooms, c->rows_a_head);
        r->quality_ratio =
            fmax(r->quality_ratio, attend_quality_ratio(&whole, c->problem->dtype, c->problem->dtype));
        attend_group_add(&tensor, &whole);
    }
    r->quality_ratio =
        fmax(r->quality_ratio, attend_quality_ratio(&tensor, c->problem->dtype, c->problem->dtype));
    r->elements = tensor.elements;
    r->rms_error = tensor.elements ? sqrt(tensor.error / (double)tensor.elements) : 0;
}

attend_status attend_compare_resolved(const attend_problem *problem, const attend_attention_args *args,
                                      const attend_key_part *all, attend_judge *judge,
                                      attend_comparison *result)
{
    comparing c = {.problem = problem, .args = args, .result = result, .reference_finite = true};
    memset(result, 0, sizeof *result);
    ATTEND_TRY(attend_lists_check(problem, args->features));
    ATTEND_TRY(attend_key_layout_check(problem, args->features->seqlens_k, all));
    const int64_t heads = attend_tensor_batch(problem) * problem->num_heads;
    c.rows_a_head = attend_rows_q(problem);
    c.tiles_a_head = (c.rows_a_head + ATTEND_TILE_ROWS - 1) / ATTEND_TILE_ROWS;
    c.tiles = calloc((size_t)(heads * c.tiles_a_head) + 1, sizeof *c.tiles);
    c.rooms = calloc((size_t)(heads * c.rows_a_head) + 1, sizeof *c.rooms);
    bool complete =
        c.tiles && c.rooms &&
        attend_reference_attention(problem, args, all, judge->threads, &judge->tracker, take_row, &c);
    if (complete) judge_quality(&c);
    free(c.tiles), free(c.rooms);
    ATTEND_TRY(attend_progress_status(&judge->tracker));
    if (!complete)
        return attend_fail(ATTEND_OUT_OF_MEMORY,
                           "no memory for the reference's copy of K and V, or for sums of rows");
    if (!c.reference_finite)
        return attend_fail(ATTEND_INVALID_ARGUMENT,
                           "the reference itself is not finite: q, k, v or a feature's tensor hold NaN, "
                           "infinity or values that overflow fp64");
    result->passed = result->bound_ratio <= 1 && result->quality_ratio <= 1 && result->lse_bound_ratio <= 1;
    return ATTEND_OK;
}

attend_status attend_judge_make(const attend_compare_options *options, size_t options_bytes,
                                attend_judge *judge)
{
    attend_compare_options o = {0};
    if (options)
        ATTEND_TRY(
            attend_struct_read(ATTEND_STRUCT(attend_compare_options), "options", &o, options, options_bytes));
    if (o.threads < 0 || o.threads > ATTEND_MAX_THREADS)
        return attend_fail(ATTEND_INVALID_ARGUMENT, "threads is %d, expected 0 to %d", o.threads,
                           ATTEND_MAX_THREADS);
    *judge = (attend_judge){o.threads ? o.threads : omp_get_num_procs(),
                            {.progress = o.progress, .user = o.progress_user}};
    return ATTEND_OK;
}

attend_status attend_compare_sized(const attend_problem *problem, size_t problem_bytes,
                                   const attend_attention_args *args, size_t args_bytes,
                                   size_t features_bytes, const attend_compare_options *options,
                                   size_t options_bytes, attend_comparison *comparison,
                                   size_t comparison_bytes)
{
    attend_problem p;
    attend_attention_args resolved;
    attend_feature_args features;
    attend_key_part all;
    attend_judge judge;
    attend_comparison result;
    ATTEND_TRY(
        attend_struct_check(ATTEND_STRUCT(attend_comparison), "comparison", comparison, comparison_bytes));
    ATTEND_TRY(attend_judge_make(options, options_bytes, &judge));
    ATTEND_TRY(attend_problem_resolve(problem, problem_bytes, ATTEND_ATTENTION, &p));
    ATTEND_TRY(attend_attention_args_read(args, args_bytes, features_bytes, &resolved, &features));
    ATTEND_TRY(attend_attention_args_resolve(&p, 0, &resolved, &features, &all));
    ATTEND_TRY(attend_progress_begin(&judge.tracker, &(attend_work){.attention = 1}));
    ATTEND_TRY(attend_compare_resolved(&p, &resolved, &all, &judge, &result));
    attend_progress_end(&judge.tracker);
    attend_struct_write(ATTEND_STRUCT(attend_comparison), comparison, comparison_bytes, &result);
    return ATTEND_OK;
}
