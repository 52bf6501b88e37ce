/* Makes and checks an inspection; see inspection.h. */
#include "support/inspection.h"
#include "core/problem.h"
#include "reference/reference.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *const names[TEST_OUTPUTS] = {"weights", "top_weights", "entropy", "mass", "distance", "map", "top_keys"};

static attend_tensor *output(attend_inspection *i, int index)
{
    attend_tensor *const all[TEST_OUTPUTS] = {&i->weights,  &i->top_weights, &i->entropy, &i->mass,
                                              &i->distance, &i->map,         &i->top_keys};
    return all[index];
}

static int64_t elements(const attend_tensor *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

static void allocate(attend_tensor *t, attend_dtype dtype, size_t bytes, int rank, const int64_t *shape)
{
    *t = (attend_tensor){.dtype = dtype, .rank = rank};
    int64_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) t->shape[i] = shape[i], t->stride[i] = stride, stride *= shape[i];
    t->data = malloc((size_t)stride * bytes + 8);
    memset(t->data, 0xff, (size_t)stride * bytes + 8);
}

/* All outputs in one dtype, but keys. */
static void allocate_all(attend_inspection *i, const attend_problem *p, attend_dtype dtype, size_t bytes)
{
    int64_t batch = attend_tensor_batch(p), heads = p->num_heads, rows = attend_rows_q(p);
    allocate(&i->weights, dtype, bytes, 4, (int64_t[]){batch, heads, i->num_queries, p->seqlen_k});
    allocate(&i->top_weights, dtype, bytes, 4, (int64_t[]){batch, heads, rows, TEST_TOP});
    allocate(&i->entropy, dtype, bytes, 3, (int64_t[]){batch, heads, rows});
    allocate(&i->mass, dtype, bytes, 4, (int64_t[]){batch, heads, rows, TEST_WINDOWS});
    allocate(&i->distance, dtype, bytes, 2, (int64_t[]){p->batch, heads});
    allocate(&i->top_keys, ATTEND_I64, 8, 4, (int64_t[]){batch, heads, rows, TEST_TOP});
    if (p->seqlen_q == 0 || p->seqlen_k == 0) return;
    int64_t tiles_q = i->map_queries < 9 ? i->map_queries : 9, tiles_k = i->map_keys < 17 ? i->map_keys : 17;
    allocate(&i->map, dtype, bytes, 4, (int64_t[]){p->batch, heads, tiles_q, tiles_k});
}

static void free_all(attend_inspection *i)
{
    for (int n = 0; n < TEST_OUTPUTS; n++) free(output(i, n)->data);
}

void test_inspection_make(test_inspection *t, const attend_problem *p)
{
    const attend_key_window windows[TEST_WINDOWS] = {
        {.first = 0}, {.first = -1, .last = 1}, {.first = INT64_MIN, .last = -3}, {.first = INT64_MIN, .last = INT64_MAX},
        {.last = 3, .absolute = true}};
    int64_t rows = attend_rows_q(p);
    memset(t, 0, sizeof *t);
    memcpy(t->windows, windows, sizeof windows);
    t->queries = malloc((size_t)(rows + 1) * sizeof *t->queries);
    for (int64_t i = 0; i < rows; i++) t->queries[i] = rows - 1 - i;
    t->queries[rows] = rows - 1;
    t->want = (attend_inspection){.windows = t->windows,
                                  .num_windows = TEST_WINDOWS,
                                  .queries = t->queries,
                                  .num_queries = rows ? rows + 1 : 0,
                                  .first_query = p->seqlen_q * (p->head_dim % 2 ? 7 : 1) / 8, /* behind the first block of rows, or in it */
                                  .first_key = p->seqlen_k / 8};
    t->want.map_queries = p->seqlen_q - t->want.first_query, t->want.map_keys = p->seqlen_k - t->want.first_key;
    allocate_all(&t->want, p, ATTEND_F32, sizeof(float));
}

void test_inspection_free(test_inspection *t)
{
    free_all(&t->want);
    free(t->queries);
}

static double value(const attend_tensor *t, int64_t at) { return attend_load(t, at); }

/* Checks one row's list against its weights: the values are right, no key occurs twice, no larger one is
   missing. */
static void check_list(const test_inspection *t, int64_t row, int64_t n, const double *p, const double *bound, int64_t keys,
                       const char *text)
{
    const int64_t *listed = (const int64_t *)t->want.top_keys.data + row * TEST_TOP;
    const float *weights = (const float *)t->want.top_weights.data + row * TEST_TOP;
    int64_t seen = 0, count = 0;
    for (int64_t j = 0; j < keys; j++) seen += bound[j] > 0;
    for (; count < TEST_TOP && listed[count] >= 0; count++) {
        int64_t j = listed[count];
        bool twice = false;
        for (int64_t i = 0; i < count; i++) twice = twice || listed[i] == j;
        if (j >= keys || bound[j] == 0 || twice || !(fabs(weights[count] - p[j]) <= bound[j]))
            fail_msg("%s: row %" PRId64 " (query %" PRId64 ") lists key %" PRId64 " with %.9g, expected %.9g", text, row, n, j,
                     (double)weights[count], j < keys ? p[j] : NAN);
        if (count > 0) assert_true(weights[count] <= weights[count - 1] * (1 + 0x1p-21f));
    }
    if (count != (seen < TEST_TOP ? seen : TEST_TOP))
        fail_msg("%s: row %" PRId64 " lists %" PRId64 " keys of %" PRId64, text, row, count, seen);
    for (int64_t i = count; i < TEST_TOP; i++) assert_true(listed[i] == -1 && weights[i] == 0);
    for (int64_t j = 0; j < keys && count; j++) {
        bool there = false;
        for (int64_t i = 0; i < count; i++) there = there || listed[i] == j;
        if (!there && p[j] - bound[j] > weights[count - 1] + bound[listed[count - 1]])
            fail_msg("%s: row %" PRId64 " leaves out key %" PRId64 " with %.9g, but lists one with %.9g", text, row, j, p[j],
                     (double)weights[count - 1]);
    }
}

static void check_lists(const test_inspection *t, const attend_problem *p, const attend_inspection *expected,
                        const attend_inspection *bounds, const char *text)
{
    int64_t rows = attend_rows_q(p), keys = p->seqlen_k;
    for (int64_t head = 0; head < attend_tensor_batch(p) * p->num_heads; head++)
        for (int64_t n = 0; n < rows; n++) {
            int64_t at = (head * (rows + 1) + n) * keys;
            check_list(t, head * rows + t->queries[n], t->queries[n], (const double *)expected->weights.data + at,
                       (const double *)bounds->weights.data + at, keys, text);
        }
}

/* A mean of a tile is as uncertain as its weights, and the sum of them has a term for each of its queries and keys. */
static void check_map_bounds(const test_inspection *t, const attend_problem *p, const attend_inspection *expected, const attend_inspection *bounds,
                             const char *text)
{
    const int64_t rows = attend_rows_q(p), tiles_q = t->want.map.shape[2], tiles_k = t->want.map.shape[3];
    const double *weights = expected->weights.data, *within = bounds->weights.data;
    for (int64_t n = 0; t->want.map.data && !p->packed && n < elements(&t->want.map); n++) {
        const int64_t head = n / (tiles_q * tiles_k), y = n / tiles_k % tiles_q, x = n % tiles_k;
        const int64_t query = attend_map_begin(y, t->want.map_queries, tiles_q), end_query = attend_map_begin(y + 1, t->want.map_queries, tiles_q),
                      key = attend_map_begin(x, t->want.map_keys, tiles_k), end_key = attend_map_begin(x + 1, t->want.map_keys, tiles_k);
        double weight = 0, bound = 0;
        for (int64_t i = query; i < end_query; i++) /* queries are listed from the last */
            for (int64_t j = key; j < end_key; j++) {
                const int64_t at = (head * (rows + 1) + rows - 1 - (t->want.first_query + i)) * p->seqlen_k + t->want.first_key + j;
                weight += weights[at], bound += within[at];
            }
        const double count = (double)((end_query - query) * (end_key - key)), terms = (double)(end_query - query + end_key - key + 8);
        const double by_hand = (bound + terms * 0x1p-24 * weight) / count;
        if (!(fabs(value(&bounds->map, n) - by_hand) <= 1e-9 * by_hand + 1e-100) && !isnan(by_hand))
            fail_msg("%s: the bound of the map's element %" PRId64 " is %.9g, of its weights come %.9g", text, n, value(&bounds->map, n), by_hand);
    }
}

double test_inspection_check(const test_inspection *t, const attend_problem *p, const attend_attention_args *args,
                             const char *text)
{
    attend_inspect_request request = {.want = t->want, .top = TEST_TOP};
    attend_inspection bounds = t->want;
    const int64_t limit = INT64_MAX / 4;
    double worst = 0;
    attend_progress_tracker nobody = {0};
    const attend_key_part all = attend_all_keys(p);
    for (int i = 0; i < TEST_WINDOWS; i++)
        request.windows[i] = (attend_key_window){.first = attend_clamp(t->windows[i].first, -limit, limit),
                                              .last = attend_clamp(t->windows[i].last, -limit, limit),
                                              .absolute = t->windows[i].absolute};
    allocate_all(&request.want, p, ATTEND_REFERENCE_F64, sizeof(double));
    allocate_all(&bounds, p, ATTEND_REFERENCE_F64, sizeof(double));
    assert_true(attend_reference_inspect(p, args, &all, &request, &bounds, 2, &nobody));
    check_lists(t, p, &request.want, &bounds, text);
    check_map_bounds(t, p, &request.want, &bounds, text);
    for (int n = 0; n < TEST_OUTPUTS; n++) {
        attend_inspection want = t->want;
        const attend_tensor *actual = output(&want, n), *expected = output(&request.want, n), *bound = output(&bounds, n);
        bool listed = expected == &request.want.top_weights || expected == &request.want.top_keys; /* checked above */
        for (int64_t i = 0; actual->data && !listed && i < elements(actual); i++) {
            double room = value(bound, i) + 0x1p-24 * fabs(value(expected, i)), off = fabs(value(actual, i) - value(expected, i));
            if (off == 0) continue;
            if (!(off <= room))
                fail_msg("%s: %s, element %" PRId64 " is %.9g, expected %.9g within %.3g", text, names[n], i, value(actual, i),
                         value(expected, i), room);
            worst = fmax(worst, off / room);
        }
    }
    free_all(&request.want), free_all(&bounds);
    return worst;
}
