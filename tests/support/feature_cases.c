/* The settings of every feature, and cases that cover their pairs and triples. */
#include "support/design.h"
#include "support/feature_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const test_setting settings[] = {
    {"causal top-left", {.causal = ATTEND_CAUSAL_TOP_LEFT}},
    {"causal bottom-right", {.causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
    {"alignment bottom-right", {.align_bottom_right = true}},
    {"window itself", {.windowed = true}},
    {"window left", {.windowed = true, .window_left = 3, .window_right = -1}},
    {"window right", {.windowed = true, .window_left = -1, .window_right = 2}},
    {"window both", {.windowed = true, .window_left = 64, .window_right = 10}},
    {"window wide", {.windowed = true, .window_left = INT64_MAX, .window_right = INT64_MAX}},
    {"chunk 1", {.chunk = 1}},
    {"chunk 16", {.chunk = 16}},
    {"chunk 100", {.chunk = 100}},
    {"prefix 1", {.prefix = 1}},
    {"prefix 40", {.prefix = 40}},
    {"padding", {.left_padded = true}},
    {"segments", {.segments = true}},
    {"mask full", {.mask_axes = ATTEND_PER_BATCH | ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY}},
    {"mask by keys", {.mask_axes = ATTEND_PER_BATCH | ATTEND_PER_KEY}},
    {"mask by queries", {.mask_axes = ATTEND_PER_QUERY}},
    {"blocks 16", {.block_q = 16, .block_k = 16, .block_axes = ATTEND_PER_HEAD}},
    {"blocks 64x20", {.block_q = 64, .block_k = 20, .block_axes = ATTEND_PER_BATCH}},
    {"blocks listed 16", {.block_q = 16, .block_k = 16, .block_axes = ATTEND_PER_HEAD, .block_list = 4096}},
    {"blocks listed 64x20", {.block_q = 64, .block_k = 20, .block_axes = ATTEND_PER_BATCH, .block_list = 4096}},
    {"packed", {.packed = true}},
    {"softcap 2", {.softcap = 2}},
    {"softcap 50", {.softcap = 50}},
    {"alibi symmetric", {.alibi = ATTEND_ALIBI_SYMMETRIC}},
    {"alibi causal", {.alibi = ATTEND_ALIBI_CAUSAL}},
    {"relative one-sided", {.relative_buckets = 64, .relative_max_distance = 40}}, /* no two distances share a bucket */
    {"relative both", {.relative_buckets = 32, .relative_max_distance = 14, .relative_bidirectional = true}}, /* nor here, on either side */
    {"bias full", {.bias_axes = ATTEND_PER_BATCH | ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY}},
    {"bias by heads", {.bias_axes = ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY}},
    {"bias by keys", {.bias_axes = ATTEND_PER_BATCH | ATTEND_PER_KEY}},
    {"scales", {.head_scales = true}},
    {"sinks", {.sinks = true}},
    {"negative", {.softmax_scale = -0.11f}},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

const test_setting *test_feature_setting(int index) { return index < SETTINGS ? &settings[index] : NULL; }

void test_setting_apply(const test_setting *setting, attend_problem *problem)
{
    const unsigned char *from = (const unsigned char *)&setting->fields;
    unsigned char *to = (unsigned char *)problem;
    for (size_t i = 0; i < sizeof *problem; i++)
        if (from[i]) to[i] = from[i];
}

static bool same_feature(const test_setting *a, const test_setting *b)
{
    size_t word = strcspn(a->name, " ");
    return word == strcspn(b->name, " ") && !strncmp(a->name, b->name, word);
}

/* ---- factors: each feature, with level 0 for absent, then shapes and inputs ---- */

enum { FEATURES = 17, SEQLEN_Q = FEATURES, SEQLEN_K, DIM, HEADS, BATCH, DTYPE, VALUES, LAYOUT, LENGTHS, FACTORS };

static const int64_t seqlens_q[] = {65, 130, 7, 64, 1, 100, 33}, dims[] = {64, 33, 8, 40, 1, 128, 16}, batches[] = {1, 3};
static const int64_t seqlens_k[] = {130, 64, 90, 1, 127, 600, 0}; /* 0: equal to seqlen_q */
static const int64_t heads[][2] = {{2, 1}, {3, 3}, {6, 2}, {1, 1}, {5, 1}};
enum { SPLIT = 5, SPLIT_ROWS = 7 }; /* the level of seqlen_k at which so few rows use split keys */

/* The index of feature f's first setting; for the number of features: SETTINGS. */
static int first_setting(int f)
{
    int at = 0;
    for (; f > 0; f--)
        while (++at < SETTINGS && same_feature(&settings[at - 1], &settings[at])) continue;
    return at;
}

static attend_problem problem_of(const int *row)
{
    attend_problem p = {0};
    for (int f = 0; f < FEATURES; f++)
        if (row[f] > 0) test_setting_apply(&settings[first_setting(f) + row[f] - 1], &p);
    return p;
}

static bool queries_are_alike(attend_values v) { return v == ATTEND_VALUES_ASCEND || v == ATTEND_VALUES_DESCEND || v == ATTEND_VALUES_NEGATIVE; }

/* Rule 2 needs enough independent rounding errors in a tile of 64 rows to separate a good kernel from a bad
   one (docs/numerics.md, "How many draws"). Rows of equal queries have equal errors, and a single key may be
   visible to few rows only. */
static bool few_draws(const int *row)
{
    const bool alike = (row[VALUES] >= 0 && queries_are_alike((attend_values)row[VALUES])) || (row[SEQLEN_K] >= 0 && seqlens_k[row[SEQLEN_K]] == 1);
    const int64_t last_tile = row[SEQLEN_Q] >= 0 ? (seqlens_q[row[SEQLEN_Q]] - 1) % 64 + 1 : row[SEQLEN_K] == SPLIT ? SPLIT_ROWS : 64;
    return row[DIM] >= 0 && dims[row[DIM]] * (alike ? 1 : last_tile) < 33;
}

/* Whether this combination of levels is a valid problem with enough draws. */
static bool allows(const void *supported, const int *row)
{
    const attend_problem p = problem_of(row);
    if (attend_problem_features(&p) & ~*(const uint64_t *)supported || few_draws(row)) return false;
    if ((p.packed && p.left_padded) || (p.causal == ATTEND_CAUSAL_TOP_LEFT && p.align_bottom_right)) return false;
    if (p.packed && (row[LAYOUT] > LAYOUT_BSHD || row[LENGTHS] > 0)) return false;
    if (p.left_padded && row[LAYOUT] == LAYOUT_BROADCAST) return false;
    return row[SEQLEN_K] != SPLIT || row[SEQLEN_Q] < 0 || seqlens_q[row[SEQLEN_Q]] <= SPLIT_ROWS;
}

static test_case make(const int *row, int n)
{
    const int64_t seqlen_q = seqlens_q[row[SEQLEN_Q]], seqlen_k = seqlens_k[row[SEQLEN_K]];
    test_case c = {
        .problem = problem_of(row), .values = (attend_values)row[VALUES], .layout = (test_layout)row[LAYOUT], .lengths = row[LENGTHS] > 0,
        .seed = (uint64_t)n + 5000,
    };
    c.problem.batch = batches[row[BATCH]], c.problem.seqlen_q = seqlen_q, c.problem.seqlen_k = seqlen_k ? seqlen_k : seqlen_q;
    c.problem.num_heads = heads[row[HEADS]][0], c.problem.num_kv_heads = heads[row[HEADS]][1];
    c.problem.head_dim = dims[row[DIM]], c.problem.dtype = (attend_dtype)row[DTYPE];
    size_t used = 0;
    for (int f = 0; f < FEATURES; f++)
        if (row[f] > 0)
            used += (size_t)snprintf(c.features + used, sizeof c.features - used, "%s%s", used ? " + " : "", settings[first_setting(f) + row[f] - 1].name);
    return c;
}

/* ---- triples of features (in any setting), lengths, split keys, and the dtypes that have their own kernels
   ---- */

enum { WITH_LENGTHS = FEATURES, WITH_SPLIT, IN_F32, IN_16_BITS, ITEMS };

typedef struct features_design {
    test_design pairs;
    bool met[ITEMS][ITEMS][ITEMS]; /* ascending */
    uint64_t supported;
    int at_once;
} features_design;

static bool holds(const int *row, int item)
{
    switch (item) {
    case WITH_LENGTHS: return row[LENGTHS] > 0;
    case WITH_SPLIT: return row[SEQLEN_K] == SPLIT;
    case IN_F32: return row[DTYPE] == ATTEND_F32;
    case IN_16_BITS: return row[DTYPE] > ATTEND_F32;
    default: return row[item] > 0;
    }
}

/* The number of new triples that a row covers; with `take` they are marked as covered. */
static int triples(features_design *d, const int *row, bool take)
{
    int sum = 0;
    for (int i = 0; i < ITEMS; i++)
        for (int j = i + 1; j < ITEMS && holds(row, i); j++)
            for (int k = j + 1; k < ITEMS && holds(row, j); k++) {
                if (!holds(row, k)) continue;
                sum += !d->met[i][j][k];
                if (take) d->met[i][j][k] = true;
            }
    return sum;
}

/* Sets an item in a row to any allowed level; false if there is none. */
static bool put(const features_design *d, int *row, int item, int variation)
{
    static const int factors[] = {LENGTHS, SEQLEN_K, DTYPE, DTYPE};
    const int f = item < FEATURES ? item : factors[item - FEATURES];
    for (int n = 0; n < d->pairs.levels[f] && row[f] < 0; n++) {
        row[f] = (n + variation) % d->pairs.levels[f];
        if (!holds(row, item) || !allows(&d->supported, row)) row[f] = -1;
    }
    return row[f] >= 0 && holds(row, item);
}

/* Starts a row with a missing triple; false if none is missing. A triple that no row allows counts as
   covered. */
static bool start_triple(features_design *d, int *row, int variation)
{
    for (int i = 0; i < ITEMS; i++)
        for (int j = i + 1; j < ITEMS; j++)
            for (int k = j + 1; k < ITEMS; k++) {
                if (d->met[i][j][k]) continue;
                for (int n = 0; n < DESIGN_LEVELS; n++) {
                    for (int f = 0; f < FACTORS; f++) row[f] = -1;
                    if (put(d, row, i, variation + n) && put(d, row, j, variation + n) && put(d, row, k, variation + n)) return true;
                }
                d->met[i][j][k] = true;
            }
    return false;
}

/* Adds the settings with the largest gain to a row, up to at_once features. */
static void add_features(features_design *d, int *row)
{
    int on = 0, factor, level;
    for (int f = 0; f < FEATURES; f++) on += row[f] > 0;
    for (; on < d->at_once; on++) {
        int best = 0;
        for (int f = 0; f < FEATURES; f++)
            for (int l = 1; l < d->pairs.levels[f] && row[f] <= 0; l++) {
                const int before = row[f];
                row[f] = l;
                const int gain = before < 0 && allows(&d->supported, row) ? test_design_gain(&d->pairs, row, f, l) + triples(d, row, false) : 0;
                if (gain > best) best = gain, factor = f, level = l;
                row[f] = before;
            }
        if (best == 0) break;
        row[factor] = level;
    }
    for (int f = 0; f < FEATURES; f++)
        if (row[f] < 0) row[f] = 0;
}

test_case *test_feature_cases(uint64_t supported, bool brief, int *count)
{
    enum { MOST = 4096 };
    features_design *d = calloc(1, sizeof *d);
    test_case *cases = malloc(MOST * sizeof *cases);
    int row[DESIGN_FACTORS];
    static const int levels[] = {7, 7, 7, 5, 2, 3, ATTEND_VALUES_KINDS, LAYOUTS, 2};
    d->supported = supported;
    d->pairs.factors = FACTORS, d->pairs.allows = allows, d->pairs.context = &d->supported;
    for (int f = 0; f < FEATURES; f++) d->pairs.levels[f] = 1 + first_setting(f + 1) - first_setting(f);
    memcpy(d->pairs.levels + FEATURES, levels, sizeof levels);
    test_design_begin(&d->pairs);
    for (*count = 0; *count < MOST; ++*count) {
        d->at_once = brief || d->pairs.missing == 0 ? 5 : 0;
        if (d->pairs.missing > 0)
            test_design_start(&d->pairs, row);
        else if (!start_triple(d, row, *count))
            break;
        add_features(d, row);
        test_design_fill(&d->pairs, FEATURES, (unsigned)*count, row);
        test_design_take(&d->pairs, row);
        triples(d, row, true);
        cases[*count] = make(row, *count);
    }
    free(d);
    return cases;
}
