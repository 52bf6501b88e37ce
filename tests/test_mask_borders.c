/* Needles at every border of what a query sees: the first and last visible key of each run of them, and the hidden ones beside, take
   nearly all the weight in turn. A border off by one shows at once; the reference states visibility on its own. */
#include "support/feature_cases.h"
#include "support/fixture.h"
#include "support/model.h"
#include "reference/reference.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VISIBILITY = ATTEND_FEATURE_CAUSAL | ATTEND_FEATURE_WINDOW | ATTEND_FEATURE_CHUNK | ATTEND_FEATURE_PREFIX | ATTEND_FEATURE_SEGMENTS |
                    ATTEND_FEATURE_MASK | ATTEND_FEATURE_BLOCK_MASK | ATTEND_FEATURE_PACKED | ATTEND_FEATURE_LEFT_PADDING };

static bool sees(const attend_head *h, int64_t row, int64_t key)
{
    return key >= attend_visible_begin(h->problem, &h->sequence, row) && key < attend_visible_end(h->problem, &h->sequence, row) &&
           attend_element_visible(h, row, key);
}

/* The n-th key of the row (counted round) that has a neighbour of the other kind; the first key where there is none. */
static int64_t border_key(const attend_head *h, int64_t row, int64_t n)
{
    int64_t keys = h->sequence.seqlen_k, borders = 0, *list = malloc((size_t)(keys + 1) * sizeof *list);
    list[0] = 0;
    for (int64_t j = 0; j < keys; j++)
        if ((j > 0 && sees(h, row, j) != sees(h, row, j - 1)) || (j + 1 < keys && sees(h, row, j) != sees(h, row, j + 1))) list[borders++] = j;
    int64_t key = list[borders ? n % borders : 0];
    free(list);
    return key;
}

/* Each query becomes 25 times the direction of its needle, so that this key, if it is seen, leaves e^-20 or less to the others. */
static void place_needles(test_fixture *f, int64_t round)
{
    const attend_problem *p = &f->problem;
    const attend_lists lists = attend_lists_of(&f->features);
    const attend_terms terms = attend_terms_of(&f->features);
    const attend_tensor *q = &f->args.q, *k = &f->args.k;
    double size = 25 / (double)p->softmax_scale / (double)p->head_dim;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t h = 0; h < p->num_heads; h++) {
            attend_sequence s = attend_sequence_of(p, &lists, b);
            attend_head head = attend_head_of(p, &terms, &s, b, h);
            for (int64_t i = 0; i < s.seqlen_q && s.seqlen_k > 0; i++) {
                int64_t key = border_key(&head, i, i + round);
                int64_t from = s.batch * k->stride[0] + (s.first_k + key) * k->stride[1] + h / (p->num_heads / p->num_kv_heads) * k->stride[2];
                int64_t to = s.batch * q->stride[0] + (s.first_q + i) * q->stride[1] + h * q->stride[2];
                for (int64_t c = 0; c < p->head_dim; c++) attend_store(q, to + c, key < s.start ? 0 : size * attend_load(k, from + c));
            }
        }
}

/* Where a needle takes all the weight, a row is exact; the rounding of a tile is that of the few rows in which two keys compete. So rule 2 is
   held to the mean of all cases: one alone exceeds 1 by chance, with 60 seeds 3 of 7920 in fp32 on the CPU and 1 for the model, up to 1.3
   (docs/numerics.md, "How many draws"). */
static const double mean_quality = 0.6;

static const int64_t seqlens[][2] = {{70, 70}, {40, 130}, {130, 33}};
enum { SHAPES = 3 };

/* Behind each setting alone, with more keys: a prefix behind padding that ends in another tile than without it, whole tiles before the
   window; a window that leaves a tile of 128 keys at the eleventh of 16 rows. */
static const test_setting longer[] = {
    {"prefix, window and padding", {.prefix = 90, .windowed = true, .window_left = 3, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT, .left_padded = true}},
    {"window across tiles", {.windowed = true, .window_left = 142, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}},
};
enum { LONGER = sizeof longer / sizeof *longer };
static const int64_t long_keys[2] = {40, 300};

static const test_setting *setting(int i)
{
    int alone = 0;
    while (test_feature_setting(alone)) alone++;
    return i < alone ? test_feature_setting(i) : i < alone + LONGER ? &longer[i - alone] : NULL;
}

static void run_cases(attend_context *context)
{
    uint64_t supported = context ? test_supported(context) : UINT64_MAX;
    int count = 0;
    double quality = 0;
    for (int i = 0; setting(i); i++)
        for (int shape = 0; shape < SHAPES; shape++)
            for (int64_t round = 0; round < (getenv("ATTEND_TEST_SHORT") ? 1 : 3); round++) {
                const int64_t *n = test_feature_setting(i) ? seqlens[shape] : long_keys;
                test_case c = {.problem = {.batch = 2, .seqlen_q = n[0], .seqlen_k = n[1], .num_heads = 2,
                                           .num_kv_heads = 1, .head_dim = 32, .dtype = (attend_dtype)((i + shape + round) % 3)},
                               .values = ATTEND_VALUES_NEEDLE,
                               .seed = (uint64_t)(i * 9 + shape * 3) + (uint64_t)round};
                test_setting_apply(setting(i), &c.problem);
                uint64_t features = attend_problem_features(&c.problem);
                if (!(features & VISIBILITY) || features & ~supported) continue;
                snprintf(c.features, sizeof c.features, "%s", setting(i)->name);
                test_fixture f;
                test_fixture_make(&f, &c);
                place_needles(&f, round);
                if (context)
                    test_fixture_run(&f, context);
                else
                    model_run(MODEL_CORRECT, &f.problem, &f.args);
                quality += test_fixture_check(&f).quality_ratio;
                test_fixture_free(&f);
                count++;
            }
    print_message("%s: %d cases, of rule 2 %.3f in the mean\n", context ? attend_context_device_name(context) : "model", count, quality / count);
    assert_true(quality / count <= mean_quality);
}

static void the_model_keeps_every_border(void **state)
{
    (void)state;
    if (getenv("ATTEND_TEST_DEVICE")) skip(); /* once is enough */
    run_cases(NULL);
}

static void the_device_keeps_every_border(void **state)
{
    (void)state;
    attend_context *context = test_context();
    run_cases(context);
    attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_keeps_every_border),
        cmocka_unit_test(the_device_keeps_every_border),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
