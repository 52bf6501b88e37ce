/* The settings of every feature, and their pairs. */
#include "feature_cases.h"

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
    {"relative one-sided", {.relative_buckets = 8, .relative_max_distance = 20}},
    {"relative both", {.relative_buckets = 32, .relative_max_distance = 128, .relative_bidirectional = true}},
    {"bias full", {.bias_axes = ATTEND_PER_BATCH | ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY}},
    {"bias by heads", {.bias_axes = ATTEND_PER_HEAD | ATTEND_PER_QUERY | ATTEND_PER_KEY}},
    {"bias by keys", {.bias_axes = ATTEND_PER_BATCH | ATTEND_PER_KEY}},
    {"scales", {.head_scales = true}},
    {"sinks", {.sinks = true}},
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

/* What no problem may ask for at once. */
static bool excluded(const attend_problem *p)
{
    return (p->packed && p->left_padded) || (p->causal == ATTEND_CAUSAL_TOP_LEFT && p->align_bottom_right);
}

/* The shapes and inputs of the n-th case: each list has its own length, so that they meet in ever new ways. */
static test_case base(int n)
{
    static const int64_t seqlens_q[] = {65, 130, 7, 64, 1, 100, 33}, seqlens_k[] = {130, 64, 90, 1, 127}, dims[] = {64, 33, 8, 40, 1, 128, 16};
    static const int64_t heads[][2] = {{2, 1}, {3, 3}, {6, 2}, {1, 1}, {5, 1}};
    return (test_case){
        .problem = {.batch = n % 3 == 2 ? 3 : 1, .seqlen_q = seqlens_q[n % 7], .seqlen_k = n % 9 < 3 ? seqlens_q[n % 7] : seqlens_k[n / 2 % 5],
                    .num_heads = heads[n % 5][0], .num_kv_heads = heads[n % 5][1], .head_dim = dims[n / 3 % 7],
                    .dtype = (attend_dtype)(n % 3)},
        .values = (attend_values)(n * 7 % ATTEND_VALUES_KINDS),
        .layout = (test_layout)(n / 2 % LAYOUTS),
        .lengths = n % 4 == 1,
        .seed = (uint64_t)n + 5000,
    };
}

/* Rule 2 needs so many independent roundings in a tile of 64 rows to tell a good kernel from a bad one (docs/numerics.md, "How many
   draws"); rows of queries that are all alike share theirs. */
static bool few_draws(const test_case *c)
{
    bool alike = c->values == ATTEND_VALUES_ASCEND || c->values == ATTEND_VALUES_DESCEND || c->values == ATTEND_VALUES_NEGATIVE;
    int64_t last_tile = (c->problem.seqlen_q - 1) % 64 + 1;
    return c->problem.head_dim * (alike ? 1 : last_tile) < 33;
}

static bool add(test_case *cases, int count, uint64_t supported, const test_setting *a, const test_setting *b)
{
    test_case c = base(count);
    test_setting_apply(a, &c.problem);
    if (b) test_setting_apply(b, &c.problem);
    if (excluded(&c.problem) || attend_problem_features(&c.problem) & ~supported) return false;
    if (c.problem.packed || (c.problem.left_padded && c.layout == LAYOUT_BROADCAST)) c.layout = LAYOUT_BSHD;
    if (c.problem.packed) c.lengths = false;
    if (few_draws(&c)) c.problem.head_dim = 64;
    snprintf(c.features, sizeof c.features, "%s%s%s", a->name, b ? " + " : "", b ? b->name : "");
    cases[count] = c;
    return true;
}

test_case *test_feature_cases(uint64_t supported, int *count)
{
    test_case *cases = malloc(SETTINGS * SETTINGS * sizeof *cases);
    *count = 0;
    for (int i = 0; i < SETTINGS; i++) {
        *count += add(cases, *count, supported, &settings[i], NULL);
        for (int j = i + 1; j < SETTINGS; j++)
            if (!same_feature(&settings[i], &settings[j])) *count += add(cases, *count, supported, &settings[i], &settings[j]);
    }
    return cases;
}
