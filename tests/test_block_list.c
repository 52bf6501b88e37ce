/* Lists of visible key blocks: the same bits as the bitmap that says the same, and bad ones are named. */
#include "support/fixture.h"
#include "support/forget.h"
#include "support/plans.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { HEADS = 2, ROWS = 300, KEYS = 2200, BLOCK_Q = 64, BLOCK_K = 100, BLOCKS_Q = 5, BLOCKS_K = 22, LIST = 512 };

typedef struct sparse {
    uint8_t bitmap[HEADS * BLOCKS_Q * BLOCKS_K];
    int64_t offsets[HEADS * (BLOCKS_Q + 1)];
    int32_t indices[LIST];
} sparse;

/* Head 0 sees one block in three, head 1 the last block alone and, in its second row of blocks, nothing. */
static void make_sparse(sparse *s)
{
    int64_t count = 0;
    memset(s, 0, sizeof *s);
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i <= BLOCKS_Q; i++) {
            s->offsets[h * (BLOCKS_Q + 1) + i] = count;
            for (int j = 0; j < BLOCKS_K && i < BLOCKS_Q; j++) {
                if (h ? j != BLOCKS_K - 1 || i == 1 : (i + j) % 3 != 0) continue;
                s->bitmap[(h * BLOCKS_Q + i) * BLOCKS_K + j] = 1;
                s->indices[count++] = j;
            }
        }
    for (int64_t n = count; n < LIST; n++) s->indices[n] = -7; /* never read */
}

static attend_problem problem_of(bool list)
{
    return (attend_problem){.batch = 1, .seqlen_q = ROWS, .seqlen_k = KEYS, .num_heads = HEADS, .head_dim = 32, .block_q = BLOCK_Q, .block_k = BLOCK_K,
                            .block_axes = ATTEND_PER_HEAD, .block_list = list ? LIST : 0};
}

static void set_list(attend_feature_args *a, sparse *s)
{
    a->block_mask = (attend_tensor){0};
    a->block_offsets = attend_tensor_3d(s->offsets, ATTEND_I64, 1, HEADS, BLOCKS_Q + 1);
    a->block_indices = attend_tensor_1d(s->indices, ATTEND_I32, LIST);
}

static void a_list_has_the_bits_of_its_bitmap(void **state)
{
    (void)state;
    static sparse s;
    make_sparse(&s);
    attend_context *context = test_context();
    test_case c = {.problem = problem_of(true), .seed = 5};
    test_fixture f;
    attend_plan *plan;
    test_fixture_make(&f, &c);
    set_list(&f.features, &s);
    test_fixture_run(&f, context);
    test_fixture_check(&f);
    unsigned char *listed = malloc(f.out.size);
    memcpy(listed, f.out.bytes, f.out.size);
    attend_problem p = problem_of(false);
    f.features.block_offsets = f.features.block_indices = (attend_tensor){0};
    f.features.block_mask = attend_tensor_4d(s.bitmap, ATTEND_U8, 1, HEADS, BLOCKS_Q, BLOCKS_K);
    assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_OK);
    memset(f.out.bytes, 0xff, f.out.size);
    test_forget_runs(plan);
    if (attend_attention_forward(plan, &f.args) || attend_synchronize(context)) fail_msg("%s", attend_error_message());
    assert_memory_equal(listed, f.out.bytes, f.out.size);
    free(listed);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    test_fixture_free(&f);
}

static void bad_lists_are_named(void **state)
{
    (void)state;
    static sparse s;
    attend_context *context = test_context();
    test_case c = {.problem = problem_of(true), .seed = 5};
    const struct {
        int64_t offset; /* -1: an index */
        int64_t at, value;
        const char *sentence;
    } cases[] = {
        {1, 3, -1, "block_offsets[0, 0, 2] and the next are"},
        {1, 11, LIST + 1, "up to block_list (512)"},
        {-1, 0, BLOCKS_K, "block_indices[0] is 22, expected more than the one before and less than 22, the blocks of keys"},
        {-1, 1, 0, "block_indices[1] is 0, expected more than the one before"},
    };
    test_fixture f;
    attend_plan *plan;
    test_fixture_make(&f, &c);
    assert_int_equal(test_attention_plan(context, &c.problem, &plan), ATTEND_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_sparse(&s);
        set_list(&f.features, &s);
        if (cases[i].offset > 0)
            s.offsets[cases[i].at] = cases[i].value;
        else
            s.indices[cases[i].at] = (int32_t)cases[i].value;
        assert_int_equal(attend_attention_forward(plan, &f.args), ATTEND_INVALID_ARGUMENT);
        if (!strstr(attend_error_message(), cases[i].sentence)) fail_msg("\"%s\" lacks \"%s\"", attend_error_message(), cases[i].sentence);
    }
    attend_plan_destroy(plan);
    attend_problem p = {.batch = 1, .seqlen_q = 4, .seqlen_k = 4, .num_heads = 1, .head_dim = 8, .block_list = 3};
    assert_int_equal(test_attention_plan(context, &p, &plan), ATTEND_INVALID_ARGUMENT);
    assert_string_equal(attend_error_message(), "block_list is 3, which counts only with block_q and block_k");
    attend_context_destroy(context);
    test_fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_list_has_the_bits_of_its_bitmap), cmocka_unit_test(bad_lists_are_named)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
