/* Sizes up to the ends of 63 bits: a problem is refused or planned and explained at once, and no sum or
   product overflows on the way (the sanitizers' build watches that). */
#include "support/feature_cases.h"
#include "support/fixture.h"
#include "support/plans.h"
#include "support/run.h"
#include "core/count.h"
#include "core/problem.h"
#include "shared/score.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const int64_t sizes[] = {0,        1, 3, (int64_t)1 << 31, ((int64_t)1 << 40) + 1, (int64_t)1 << 62,
                                INT64_MAX};
enum { SIZES = sizeof sizes / sizeof *sizes };

static const struct {
    const char *name;
    size_t at;
} fields[] = {
#define FIELD(name)                           \
    {                                         \
#name, offsetof(attend_problem, name) \
    }
    FIELD(batch),    FIELD(seqlen_q),   FIELD(seqlen_k),    FIELD(num_heads), FIELD(num_kv_heads),
    FIELD(head_dim), FIELD(head_dim_v), FIELD(window_left), FIELD(chunk),     FIELD(prefix),
    FIELD(block_q),  FIELD(block_k),    FIELD(block_list),  FIELD(total_q),   FIELD(total_k),
};
enum { FIELDS = sizeof fields / sizeof *fields };

/* What two of the fields are set in, each with all that grows with them. */
static const attend_problem bases[] = {
    {.batch = 1, .seqlen_q = 2, .seqlen_k = 2, .num_heads = 1, .head_dim = 4, .softcap = 1},
    {.batch = 0,
     .seqlen_q = 40,
     .seqlen_k = 40,
     .num_heads = 1,
     .head_dim = 4,
     .windowed = true,
     .window_right = 1,
     .prefix = 1},
    {.batch = 2,
     .seqlen_q = 0,
     .seqlen_k = 3,
     .num_heads = 2,
     .head_dim = 4,
     .segments = true,
     .alibi = ATTEND_ALIBI_CAUSAL,
     .chunk = 2},
    {.batch = 2,
     .seqlen_q = 40,
     .seqlen_k = 0,
     .num_heads = 2,
     .num_kv_heads = 1,
     .head_dim = 4,
     .block_q = 2,
     .block_k = 2,
     .block_list = 2},
    {.batch = 3,
     .seqlen_q = 4,
     .seqlen_k = 5,
     .num_heads = 1,
     .head_dim = 4,
     .packed = true,
     .total_q = 7,
     .total_k = 8,
     .causal = ATTEND_CAUSAL_TOP_LEFT},
    {.batch = 3,
     .seqlen_q = 4,
     .seqlen_k = 5,
     .num_heads = 1,
     .head_dim = 4,
     .mask_axes = 15,
     .bias_axes = 15,
     .relative_buckets = 8,
     .relative_max_distance = 16},
};
enum { BASES = sizeof bases / sizeof *bases };

static int planned, refused;

static void try(attend_context *context, const attend_problem *p, bool explained)
{
    attend_plan *plan;
    attend_explanation e;
    char text[64];
    if (test_attention_plan(context, p, &plan)) {
        refused++;
        return;
    }
    planned++;
    assert_true(!explained || attend_plan_explain(plan, NULL, &e) == ATTEND_OK);
    assert_true(!explained || attend_plan_explain_text(plan, NULL, text, sizeof text) > 0);
    attend_plan_destroy(plan);
}

static void every_pair_of_sizes_is_answered(void **state)
{
    (void)state;
    attend_context *context = test_context();
    for (int n = 0; n < BASES; n++)
        for (int i = 0; i < FIELDS; i++)
            for (int j = i; j < FIELDS; j++)
                for (int k = 0; k < SIZES * SIZES; k++) {
                    attend_problem p = bases[n];
                    if (i == j && k >= SIZES) break;
                    memcpy((char *)&p + fields[i].at, &sizes[k % SIZES], sizeof(int64_t));
                    if (i != j) memcpy((char *)&p + fields[j].at, &sizes[k / SIZES], sizeof(int64_t));
                    try(context, &p, p.seqlen_q < 64 || i == j); /* counts four million rows at most */
                }
    print_message("%d problems planned, %d refused\n", planned, refused);
    assert_true(planned > 1000 && refused > 1000);
    attend_context_destroy(context);
}

/* 2^40 sequences that nobody gave lengths of; each sees its own pairs. */
static void packed_sequences_are_counted_by_their_lengths(void **state)
{
    (void)state;
    const int64_t many = (int64_t)1 << 40,
                  some[][3] = {{5, 13, 17}, {5, 17, 13}, {7, 14, 15}, {4, 0, 9}, {6, 3, 2}, {1, 9, 9}};
    attend_problem p = {.batch = many,
                        .seqlen_q = 4,
                        .seqlen_k = 4,
                        .num_heads = 2,
                        .num_kv_heads = 2,
                        .head_dim = 4,
                        .head_dim_v = 4,
                        .packed = true,
                        .total_q = 3 * many,
                        .total_k = 2 * many,
                        .window_left = -1,
                        .window_right = -1};
    const attend_lists none = {0};
    const attend_tiling whole = {0, 0, 1};
    assert_float_equal(attend_count_pairs(&p, &none, &whole).pairs, 2 * 6 * (double)many, 0);
    for (size_t n = 0; n < sizeof some / sizeof *some; n++) { /* against the same lengths, given */
        int64_t cu[2][9] = {{0}};
        p.batch = some[n][0], p.total_q = some[n][1], p.total_k = some[n][2], p.seqlen_q = p.total_q,
        p.seqlen_k = p.total_k;
        p.causal = n % 2 ? ATTEND_CAUSAL_TOP_LEFT : ATTEND_CAUSAL_NONE;
        for (int64_t b = 0; b < p.batch; b++) {
            cu[0][b + 1] = cu[0][b] + p.total_q / p.batch + (b < p.total_q % p.batch);
            cu[1][b + 1] = cu[1][b] + p.total_k / p.batch + (b < p.total_k % p.batch);
        }
        const attend_lists given = {.cu_seqlens_q = cu[0], .cu_seqlens_k = cu[1]};
        const attend_tiling tiles = {2, 4, 1};
        assert_float_equal(attend_count_pairs(&p, &none, &tiles).pairs,
                           attend_count_pairs(&p, &given, &tiles).pairs, 0);
        assert_float_equal(attend_count_pairs(&p, &none, &tiles).pairs_computed,
                           attend_count_pairs(&p, &given, &tiles).pairs_computed, 0);
    }
}

/* Tiles that are computed are those that hold a visible pair, sought one by one. */
static void tiles_are_counted_where_a_pair_is_visible(void **state)
{
    (void)state;
    static const test_setting borders[] = {
        {"none", {0}},
        {"causal", {.causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
        {"window", {.windowed = true, .window_left = 20, .window_right = 3}},
        {"prefix and window", {.prefix = 5, .windowed = true, .window_left = 20, .causal = ATTEND_CAUSAL_TOP_LEFT}},
        {"prefix, a tile long, and chunk", {.prefix = 8, .chunk = 24, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
        {"prefix, not a tile long, and chunk", {.prefix = 11, .chunk = 24}},
    };
    static const attend_tiling tilings[] = {{8, 8, 1}, {16, 4, 2}, {5, 32, 1}};
    for (size_t i = 0; i < sizeof borders / sizeof *borders; i++)
        for (int n = 0; n < 3; n++) {
            attend_problem given = {.batch = 1, .seqlen_q = 90, .seqlen_k = 97, .num_heads = 2, .num_kv_heads = 1, .head_dim = 4}, p;
            const attend_tiling *t = &tilings[n];
            double pairs = 0, computed = 0;
            test_setting_apply(&borders[i], &given);
            assert_int_equal(attend_problem_resolve(&given, sizeof given, ATTEND_ATTENTION, &p), ATTEND_OK);
            const attend_lists lists = {0};
            const attend_terms terms = {0};
            const attend_sequence s = attend_sequence_of(&p, &lists, 0);
            const attend_head h = attend_head_of(&p, &terms, &s, 0, 0);
            for (int64_t first = 0; first < p.seqlen_q * t->group; first += t->rows)
                for (int64_t key = 0; key < p.seqlen_k; key += t->keys) {
                    int64_t seen = 0;
                    for (int64_t row = first; row < first + t->rows && row < p.seqlen_q * t->group; row++)
                        for (int64_t j = key; j < key + t->keys && j < p.seqlen_k; j++)
                            seen += attend_visible_begin(&p, &s, row / t->group) <= j && j < attend_visible_end(&p, &s, row / t->group) &&
                                    attend_element_visible(&h, row / t->group, j);
                    pairs += (double)seen / t->group, computed += seen ? (double)(t->rows * t->keys) / t->group : 0;
                }
            const attend_count count = attend_count_pairs(&p, &lists, t);
            if (count.pairs != 2 * pairs || count.pairs_computed != 2 * computed)
                fail_msg("%s, tiles %d: %g pairs of %g, expected %g of %g", borders[i].name, n, count.pairs, count.pairs_computed, 2 * pairs, 2 * computed);
        }
}

/* Local attention that reaches beyond all keys is attention to all of them, by result, since the reference is given what validation made of
   the fields; a prefix of all keys leaves nothing to causal borders. */
static void what_reaches_beyond_all_keys_hides_none(void **state)
{
    (void)state;
    static const test_setting reaching[] = {
        {"window", {.windowed = true, .window_left = INT64_MAX, .window_right = INT64_MAX}},
        {"window left", {.windowed = true, .window_left = INT64_MAX, .window_right = -1, .align_bottom_right = true}},
        {"window right", {.windowed = true, .window_left = -1, .window_right = INT64_MAX, .align_bottom_right = true}},
        {"window as wide", {.windowed = true, .window_left = 163, .window_right = 163}},
        {"chunk", {.chunk = INT64_MAX}},
        {"prefix", {.prefix = INT64_MAX, .causal = ATTEND_CAUSAL_TOP_LEFT}},
        {"prefix and window", {.prefix = INT64_MAX, .windowed = true, .align_bottom_right = true}},
    };
    static const int64_t seqlens[][2] = {{130, 33}, {33, 130}};
    attend_context *context = test_context();
    for (int shape = 0; shape < 2; shape++) {
        test_run runs[2];
        for (int i = 0; i < 2; i++) runs[i] = test_run_make(ATTEND_F32, 16, 1, seqlens[shape][0], seqlens[shape][1], 2, 1, ATTEND_CAUSAL_NONE);
        test_run_go(&runs[0], context, "all");
        for (size_t i = 0; i < sizeof reaching / sizeof *reaching; i++) {
            const attend_problem p = runs[1].p;
            test_setting_apply(&reaching[i], &runs[1].p);
            test_run_go(&runs[1], context, reaching[i].name);
            runs[1].p = p;
            if (memcmp(test_row(&runs[0].out, 0, 0), test_row(&runs[1].out, 0, 0), (size_t)seqlens[shape][0] * test_row_bytes(&runs[0].out)))
                fail_msg("%s: hides some of %d keys", reaching[i].name, (int)seqlens[shape][1]);
        }
        test_run_free(&runs[0]), test_run_free(&runs[1]);
    }
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_of_sizes_is_answered),
        cmocka_unit_test(packed_sequences_are_counted_by_their_lengths),
        cmocka_unit_test(tiles_are_counted_where_a_pair_is_visible),
        cmocka_unit_test(what_reaches_beyond_all_keys_hides_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
