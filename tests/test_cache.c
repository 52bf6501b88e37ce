/* Keys in a cache give the bits of the same keys in one tensor: in pages of any size, in any order, shared or not, whatever lies in
   other slots and pages; with every feature, in each schedule, in parts, at all lengths around the ends of pages, and to
   inspection. */
#include "support/caches.h"
#include "support/feature_cases.h"
#include "support/forget.h"
#include "support/inspection.h"
#include "support/plans.h"
#include "core/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* 0: in one piece */
static const int64_t page_sizes[] = {1, 3, 16, 64, 1000, 0};
enum { SIZES = sizeof page_sizes / sizeof *page_sizes };

/* Of each schedule of the CPU; other devices take them as shapes alone. */
static const struct {
    int64_t seqlen_q, seqlen_k;
    int threads;
} schedules[] = {{50, 200, 1}, {40, 1100, 24}, {3, 1100, 2}};
enum { SCHEDULES = sizeof schedules / sizeof *schedules };

static attend_context *contexts[SCHEDULES];

static void open_contexts(void)
{
    for (int s = 0; s < SCHEDULES; s++) {
        contexts[s] = test_context();
        if (attend_context_device(contexts[s]) != ATTEND_CPU) continue;
        assert_int_equal(attend_context_destroy(contexts[s]), ATTEND_OK);
        assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = schedules[s].threads}, &contexts[s]), 0);
    }
}

static void close_contexts(void)
{
    for (int s = 0; s < SCHEDULES; s++) assert_int_equal(attend_context_destroy(contexts[s]), ATTEND_OK);
}

/* A fixture that ran, and what it gave. */
typedef struct ran {
    test_fixture f;
    attend_context *context;
    attend_plan *plan;
    unsigned char *out, *lse;
} ran;

static void go(ran *r, const attend_attention_args *args, const char *how)
{
    char text[TEST_CASE_TEXT];
    memset(r->f.out.bytes, 0xff, r->f.out.size), memset(r->f.lse.bytes, 0xff, r->f.lse.size);
    test_forget_runs(r->plan);
    if (attend_attention_forward(r->plan, args) || attend_synchronize(r->context))
        fail_msg("%s, %s: %s", test_case_text(&r->f.c, text), how, attend_error_message());
}

static void begin(ran *r, const test_case *c, attend_context *context, const int64_t *seqlens_k)
{
    test_fixture_make(&r->f, c);
    if (seqlens_k) r->f.features.seqlens_k = seqlens_k;
    r->context = context;
    if (test_attention_plan(context, &r->f.c.problem, &r->plan)) fail_msg("%s", attend_error_message());
    go(r, &r->f.args, "one tensor");
    r->out = malloc(r->f.out.size), r->lse = malloc(r->f.lse.size);
    memcpy(r->out, r->f.out.bytes, r->f.out.size), memcpy(r->lse, r->f.lse.bytes, r->f.lse.size);
}

static void end(ran *r)
{
    free(r->out), free(r->lse);
    attend_plan_destroy(r->plan);
    test_fixture_free(&r->f);
}

static attend_attention_args with_cache(const test_fixture *f, const test_cache *c)
{
    attend_attention_args args = f->args;
    args.k = args.v = (attend_tensor){0};
    args.cache = &c->cache;
    return args;
}

static void expect_same(ran *r, int64_t page_size, test_pools pools)
{
    char text[TEST_CASE_TEXT], how[80];
    snprintf(how, sizeof how, "pages of %d, pools %d", (int)page_size, (int)pools);
    test_cache c = test_cache_of(&r->f, page_size, pools, r->f.c.seed);
    const attend_attention_args args = with_cache(&r->f, &c);
    go(r, &args, how);
    if (memcmp(r->out, r->f.out.bytes, r->f.out.size)) fail_msg("%s, %s: out has other bits", test_case_text(&r->f.c, text), how);
    if (memcmp(r->lse, r->f.lse.bytes, r->f.lse.size)) fail_msg("%s, %s: lse has other bits", test_case_text(&r->f.c, text), how);
    test_cache_free(&c);
}

/* Half of the cases fill the dims of a CUDA kernel, which then copies whole tiles without looking at rows. */
static test_case case_of(int n, int schedule)
{
    const bool whole = n % 2;
    static const test_layout layouts[] = {LAYOUT_BSHD, LAYOUT_BROADCAST, LAYOUT_PADDED};
    return (test_case){.problem = {.batch = 1 + n % 3, .seqlen_q = schedules[schedule].seqlen_q, .seqlen_k = schedules[schedule].seqlen_k,
                                   .num_heads = 4, .num_kv_heads = 2, .head_dim = whole ? 32 : 24, .head_dim_v = whole ? 32 : 40, .dtype = (attend_dtype)(n % 3)},
                       .values = ATTEND_VALUES_GAUSS, .layout = layouts[n / 3 % 3], .lengths = n % 2 == 0, .seed = (uint64_t)n + 5};
}

static void every_feature_has_its_bits(void **state)
{
    (void)state;
    open_contexts();
    const uint64_t supported = test_supported(contexts[0]);
    const int step = !getenv("ATTEND_TEST_SHORT") ? 1 : attend_context_device(contexts[0]) == ATTEND_CUDA ? 19 : 7;
    for (int n = 0; n == 0 || test_feature_setting((n - 1) / SCHEDULES); n += step) {
        const test_setting *setting = n == 0 ? NULL : test_feature_setting((n - 1) / SCHEDULES);
        const int s = n % SCHEDULES;
        test_case c = case_of(n + n / SCHEDULES, s);
        if (setting) test_setting_apply(setting, &c.problem), snprintf(c.features, sizeof c.features, "%s", setting->name);
        if (c.problem.packed || attend_problem_features(&c.problem) & ~supported) continue;
        if (c.problem.left_padded) c.layout = LAYOUT_BSHD;
        ran r;
        begin(&r, &c, contexts[s], NULL);
        for (int i = 0; i < 2; i++) expect_same(&r, page_sizes[(n + n / SIZES + 3 * i) % SIZES], (test_pools)((n + i) % POOLS));
        end(&r);
    }
    close_contexts();
}

/* All page sizes; lengths 0 and 1, and those around the end of the first page and of the last. */
static void all_lengths_have_their_bits(void **state)
{
    (void)state;
    enum { LENGTHS = 7 };
    open_contexts();
    for (int n = 0; n < SIZES * SCHEDULES; n++) {
        const int s = n % SCHEDULES;
        const int64_t size = page_sizes[n / SCHEDULES], keys = schedules[s].seqlen_k;
        const int64_t ends[LENGTHS] = {0, 1, size - 1, size, size + 1, keys - 1, keys};
        int64_t lengths[LENGTHS];
        for (int i = 0; i < LENGTHS; i++) lengths[i] = ends[i] < 0 ? 0 : ends[i] > keys ? keys : ends[i];
        test_case c = case_of(n, s);
        c.problem.batch = LENGTHS, c.problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT, c.lengths = false;
        ran r;
        begin(&r, &c, contexts[s], lengths);
        expect_same(&r, size, (test_pools)(n % POOLS));
        end(&r);
    }
    close_contexts();
}

/* A state that the first span of a cache leaves, taken up for the rest of it. */
static void parts_have_the_bits_of_one_run(void **state)
{
    (void)state;
    open_contexts();
    for (int n = 0; n < SIZES; n++) {
        const int s = 1 + n % 2;
        test_case c = case_of(n, s);
        c.lengths = false;
        ran r;
        begin(&r, &c, contexts[s], NULL);
        const int64_t span = attend_plan_key_span(r.plan), cut = span > 1 ? span : 700;
        const attend_problem *p = &r.f.problem;
        float *memory = malloc((size_t)(p->batch * p->seqlen_q * p->num_heads * (p->head_dim_v + 2)) * sizeof *memory);
        const int64_t rows = p->batch * p->seqlen_q * p->num_heads;
        const attend_state kept = {attend_tensor_4d(memory, ATTEND_F32, p->batch, p->seqlen_q, p->num_heads, p->head_dim_v),
                                   attend_tensor_3d(memory + rows * p->head_dim_v, ATTEND_F32, p->batch, p->num_heads, p->seqlen_q),
                                   attend_tensor_3d(memory + rows * (p->head_dim_v + 1), ATTEND_F32, p->batch, p->num_heads, p->seqlen_q)};
        test_cache cache = test_cache_of(&r.f, page_sizes[n], (test_pools)(n % POOLS), 3);
        attend_attention_args args = with_cache(&r.f, &cache), whole = args;
        go(&r, &whole, "one run");
        memcpy(r.out, r.f.out.bytes, r.f.out.size);
        args.end_key = cut, args.into = &kept, args.out = args.lse = (attend_tensor){0};
        go(&r, &args, "first part");
        args = whole, args.first_key = cut, args.from = &kept;
        go(&r, &args, "second part");
        if (span > 1 && memcmp(r.out, r.f.out.bytes, r.f.out.size)) fail_msg("pages of %d: parts have other bits", (int)page_sizes[n]);
        test_cache_free(&cache);
        free(memory);
        end(&r);
    }
    close_contexts();
}

/* Results of an inspection do not depend on pages either, and are right; so are those that compare() is given. */
static void inspection_and_comparison_read_caches(void **state)
{
    (void)state;
    open_contexts();
    for (int n = 0; n < SIZES; n++) {
        test_case c = case_of(n, 0);
        ran r;
        begin(&r, &c, contexts[0], NULL);
        test_cache cache = test_cache_of(&r.f, page_sizes[n], (test_pools)(n % POOLS), 7);
        attend_attention_args args = with_cache(&r.f, &cache);
        attend_comparison comparison;
        test_inspection plain, paged;
        go(&r, &args, "cache");
        if (attend_compare(&r.f.c.problem, &args, NULL, &comparison)) fail_msg("%s", attend_error_message());
        assert_true(comparison.passed);
        test_inspection_make(&plain, &r.f.problem), test_inspection_make(&paged, &r.f.problem);
        if (attend_attention_inspect(r.plan, &r.f.args, &plain.want) || attend_attention_inspect(r.plan, &args, &paged.want))
            fail_msg("%s", attend_error_message());
        const attend_tensor *a[] = {&plain.want.top_keys, &plain.want.entropy, &plain.want.weights, &plain.want.map},
                            *b[] = {&paged.want.top_keys, &paged.want.entropy, &paged.want.weights, &paged.want.map};
        for (int i = 0; i < 4; i++) {
            const attend_tensor dense = attend_tensor_row_major(*a[i]);
            const int64_t elements = dense.shape[0] * dense.stride[0];
            if (memcmp(a[i]->data, b[i]->data, (size_t)elements * attend_dtype_bytes(a[i]->dtype)))
                fail_msg("pages of %d: output %d of the inspection has other bits", (int)page_sizes[n], i);
        }
        test_inspection_free(&plain), test_inspection_free(&paged);
        test_cache_free(&cache);
        end(&r);
    }
    close_contexts();
}

int main(void)
{
    TEST_CACHES_IN_PLACE();
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_feature_has_its_bits), cmocka_unit_test(all_lengths_have_their_bits),
                                       cmocka_unit_test(parts_have_the_bits_of_one_run), cmocka_unit_test(inspection_and_comparison_read_caches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
