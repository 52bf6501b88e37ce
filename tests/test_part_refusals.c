/* Ranges of keys and states that make no sense are refused with a sentence that names the argument, and nothing is written. */
#include "support/fixture.h"
#include "support/refusal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { QUERIES = 2, KEYS = 3000, HEADS = 2, DIM = 4, OUT = QUERIES * HEADS * DIM, NUMBERS = QUERIES * HEADS };

static float q[OUT], k[KEYS * HEADS * DIM], v[KEYS * HEADS * DIM];
/* out, lse, and two states of out, max and sum; what is refused leaves them as they are */
static float written[8][OUT];

static const attend_problem problem = {.batch = 1, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = HEADS, .head_dim = DIM};

static attend_tensor rows(float *data, int64_t n) { return attend_tensor_4d(data, ATTEND_F32, 1, n, HEADS, DIM); }
static attend_tensor numbers(float *data) { return attend_tensor_3d(data, ATTEND_F32, 1, HEADS, QUERIES); }
static attend_state state_at(int i) { return (attend_state){rows(written[i], QUERIES), numbers(written[i + 1]), numbers(written[i + 2])}; }

/* Of keys [first, end); 0: all. */
static attend_attention_args args_of(int64_t first, int64_t end)
{
    const int64_t count = (end ? end : KEYS) - first;
    return (attend_attention_args){.q = rows(q, QUERIES), .k = rows(k, count > 0 ? count : 0), .v = rows(v, count > 0 ? count : 0),
                                   .out = rows(written[0], QUERIES), .lse = numbers(written[1]), .first_key = first, .end_key = end};
}

static attend_context *context;
static attend_plan *plan;

static void expect(attend_status status, attend_status wanted, const char *sentence)
{
    test_expect_failure(status, wanted, sentence);
    for (size_t i = 0; i < sizeof written; i++)
        if (((unsigned char *)written)[i] != 0xff) fail_msg("\"%s\" was refused, yet byte %d is written", sentence, (int)i);
}

static void expect_run(const attend_attention_args *args, const char *sentence)
{
    expect(attend_attention_forward(plan, args), ATTEND_INVALID_ARGUMENT, sentence);
}

static void ranges_are_whole_spans(void **state)
{
    (void)state;
    static const struct {
        int64_t first, end;
        const char *sentence;
    } cases[] = {
        {-1024, 0, "first_key is -1024, expected 0 to seqlen_k (3000)"},
        {100, 0, "first_key is 100, expected a multiple of the plan's key span (1024) or seqlen_k (3000)"},
        {4096, 0, "first_key is 4096, expected 0 to seqlen_k (3000)"},
        {0, 1000, "end_key is 1000, expected a multiple of the plan's key span (1024) or seqlen_k (3000)"},
        {0, 3072, "end_key is 3072, expected first_key (0) to seqlen_k (3000)"},
        {2048, 1024, "end_key is 1024, expected first_key (2048) to seqlen_k (3000)"},
        {0, INT64_MIN, "end_key is -9223372036854775808, expected first_key (0) to"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attend_attention_args a = args_of(0, 1024);
        a.first_key = cases[i].first, a.end_key = cases[i].end;
        expect_run(&a, cases[i].sentence);
    }
    attend_attention_args a = args_of(1024, 0);
    a.k = rows(k, KEYS);
    expect_run(&a, "k has shape [1, 3000, 2, 4], expected [1, 1976, 2, 4]");
}

static void ranges_of_queries_lie_within(void **state)
{
    (void)state;
    static const struct {
        int64_t first, end;
        const char *sentence;
    } cases[] = {
        {-1, 0, "first_query is -1, expected 0 to seqlen_q (2)"},
        {3, 0, "first_query is 3, expected 0 to seqlen_q (2)"},
        {0, 3, "end_query is 3, expected first_query (0) to seqlen_q (2)"},
        {2, 1, "end_query is 1, expected first_query (2) to seqlen_q (2)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attend_attention_args a = args_of(0, 0);
        a.first_query = cases[i].first, a.end_query = cases[i].end;
        expect_run(&a, cases[i].sentence);
    }
    attend_attention_args a = args_of(0, 0);
    a.first_query = 1;
    expect_run(&a, "q has shape [1, 2, 2, 4], expected [1, 1, 2, 4]");
    attend_state s = state_at(2);
    a.q = rows(q, 1), a.out = a.lse = (attend_tensor){0}, a.into = &s;
    expect_run(&a, "into.out has shape [1, 2, 2, 4], expected [1, 1, 2, 4]");
}

static void states_are_whole(void **state)
{
    (void)state;
    const attend_state sound = state_at(2);
    attend_state s = {0};
    attend_attention_args a = args_of(1024, 0);
    a.from = &s, expect_run(&a, "from.out is missing");
    s = sound, s.max = (attend_tensor){0}, expect_run(&a, "from.max is missing");
    s = sound, s.sum.dtype = ATTEND_BF16, expect_run(&a, "from.sum is bf16, expected f32");
    s = sound, s.out.shape[3] = 3, expect_run(&a, "from.out has shape [1, 2, 2, 3], expected [1, 2, 2, 4]");
    s = sound, s.out.stride[3] = 2, s.out.stride[2] = 8, s.out.stride[1] = 16, expect_run(&a, "from.out has last stride 2");
    a.from = NULL, a.out = a.lse = (attend_tensor){0}, a.into = &s;
    s = sound, s.max.rank = 2, expect_run(&a, "into.max has rank 2, expected 3");
    s = sound, s.sum.stride[2] = 0, expect_run(&a, "into.sum overlaps itself");
    a.into = NULL, expect_run(&a, "out is missing");
}

static void states_lie_alone(void **state)
{
    (void)state;
    attend_state s = state_at(2), t = state_at(5);
    attend_attention_args a = args_of(0, 1024);
    a.into = &s, expect_run(&a, "out is given beside into");
    a.out.data = NULL, expect_run(&a, "lse is given beside into");
    a.lse.data = NULL;
    s.out = rows(q, QUERIES), expect_run(&a, "into.out overlaps q in memory");
    s = state_at(2), s.sum = s.max, expect_run(&a, "into.max overlaps into.sum in memory");
    s = state_at(2), a.from = &t, t.out.data = written[2] + 4, expect_run(&a, "into.out overlaps from.out in memory");
    t = state_at(2), t.max.stride[1] = 1, t.max.stride[2] = 2, expect_run(&a, "into.max overlaps from.max in memory");
    t = state_at(2), t.max = s.sum, t.sum = s.max, expect_run(&a, "into.max overlaps from.sum in memory");
    a = args_of(0, 1024), a.from = &t, t = state_at(2), t.out.data = written[0], expect_run(&a, "out overlaps from.out in memory");
}

static void others_take_all_keys(void **state)
{
    (void)state;
    attend_plan *packed;
    attend_comparison comparison;
    attend_problem p = problem;
    float entropy[NUMBERS];
    const int64_t cu_q[] = {0, QUERIES}, cu_k[] = {0, KEYS};
    attend_attention_args a = args_of(1024, 0);
    expect(attend_compare(&problem, &a, NULL, &comparison), ATTEND_UNSUPPORTED, "first_key, end_key, first_query, end_query, from and into");
    expect(attend_attention_inspect(plan, &a, &(attend_inspection){.entropy = attend_tensor_3d(entropy, ATTEND_F32, 1, HEADS, QUERIES)}), ATTEND_UNSUPPORTED,
           "first_key, end_key, first_query, end_query, from and into");
    p.packed = true, p.total_q = QUERIES, p.total_k = KEYS, a.features = &(attend_feature_args){.cu_seqlens_q = cu_q, .cu_seqlens_k = cu_k};
    assert_int_equal(attend_attention_plan(context, &p, &packed), ATTEND_OK);
    expect(attend_attention_forward(packed, &a), ATTEND_UNSUPPORTED, "first_key, end_key, first_query, end_query, from and into do not go with packed sequences");
    attend_plan_destroy(packed);
    expect(attend_merge(context, &p, &(attend_merge_args){.out = rows(written[0], QUERIES)}, NULL), ATTEND_UNSUPPORTED, "packed");
}

static void merges_are_checked(void **state)
{
    (void)state;
    attend_problem p = problem;
    float sinks[HEADS] = {0};
    const attend_state sound[] = {state_at(2), state_at(5)};
    attend_state s[2] = {sound[0], sound[1]}, into;
    attend_merge_args a = {.states = s, .count = 2, .out = rows(written[0], QUERIES), .lse = numbers(written[1])};
    const attend_merge_args good = a;
    expect(attend_merge(NULL, &p, &a, NULL), ATTEND_INVALID_ARGUMENT, "context is NULL");
    expect(attend_merge(context, &p, &a, &(attend_run){.workspace = written, .workspace_bytes = 8}), ATTEND_INVALID_ARGUMENT, "workspace is given");
#define MERGE(sentence) expect(attend_merge(context, &p, &a, NULL), ATTEND_INVALID_ARGUMENT, sentence), a = good, s[0] = sound[0], s[1] = sound[1]
    a.count = -1, MERGE("count is -1, expected at least 0");
    a.states = NULL, MERGE("states is NULL");
    a.out.data = NULL, a.out.rank = 0, MERGE("out is missing");
    a.lse.dtype = ATTEND_F16, MERGE("lse is f16, expected f32");
    a.sinks = attend_tensor_1d(sinks, ATTEND_F32, HEADS), MERGE("sinks is given, but the problem does not ask for it");
    s[1].max.shape[2] = 3, MERGE("states[1].max has shape [1, 2, 3], expected [1, 2, 2]");
    s[1].out.stride[3] = 0, MERGE("states[1].out has last stride 0");
    s[0].out.data = written[0], MERGE("out overlaps states[0].out in memory");
    into = sound[0], a.into = &into, MERGE("out is given beside into");
    into = sound[0], into.max = sound[1].sum, a.into = &into, a.out.data = a.lse.data = NULL, MERGE("into.max overlaps states[1].sum in memory");
    p.sinks = true, MERGE("sinks is missing");
}

static int open_plan(void **state)
{
    (void)state;
    memset(written, 0xff, sizeof written);
    return attend_context_create(&(attend_context_options){.device = ATTEND_CPU}, &context) || attend_attention_plan(context, &problem, &plan);
}

static int close_plan(void **state)
{
    (void)state;
    attend_plan_destroy(plan);
    return attend_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_are_whole_spans), cmocka_unit_test(ranges_of_queries_lie_within), cmocka_unit_test(states_are_whole),
        cmocka_unit_test(states_lie_alone),       cmocka_unit_test(others_take_all_keys),         cmocka_unit_test(merges_are_checked),
    };
    return cmocka_run_group_tests(tests, open_plan, close_plan);
}
