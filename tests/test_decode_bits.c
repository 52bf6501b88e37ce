/* A query's bits do not depend on how its sequence came to be: the whole prompt at once, in chunks of any size, token by token, alone
   or in a batch of other lengths, from one tensor or from pages. */
#include "support/caches.h"
#include "support/forget.h"
#include "support/plans.h"
#include "tool/values.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Keys are a span and 60; group: query heads a KV head. */
enum { TOKENS = 1084, DIM = 24, MOST_HEADS = 8, BATCH = 3 };
static const struct {
    attend_dtype dtype;
    int64_t kv_heads, group, page_size; /* of the pages; 0: one piece */
    int threads;
} cases[] = {{ATTEND_F32, 2, 1, 16, 1}, {ATTEND_F16, 2, 4, 1, 2}, {ATTEND_BF16, 1, 8, 3, 1}, {ATTEND_BF16, 2, 2, 64, 3}, {ATTEND_F32, 1, 5, 1000, 2}};
enum { CASES = sizeof cases / sizeof *cases };

static const int64_t chunks[] = {300, 1, 7, 64, 500, 2, 9, 130, 71}; /* all tokens */

typedef struct sequence {
    attend_problem p; /* of one run over all tokens */
    attend_context *context;
    attend_tensor q, k, v, out;
    test_cache cache; /* of BATCH sequences: this one, in the middle, and others */
} sequence;

static size_t row_bytes(const attend_tensor *t) { return (size_t)(t->shape[2] * t->shape[3]) * attend_dtype_bytes(t->dtype); }
static char *row(const attend_tensor *t, int64_t i) { return (char *)t->data + (size_t)i * row_bytes(t); }

static attend_tensor tensor(attend_dtype dtype, int64_t heads, uint64_t seed)
{
    attend_tensor t = attend_tensor_4d(NULL, dtype, 1, TOKENS, heads, DIM);
    t.data = calloc((size_t)(TOKENS * heads * DIM), attend_dtype_bytes(dtype));
    if (seed) attend_values_gauss(seed, 1.5f, &t);
    return t;
}

static void run(const sequence *s, const attend_problem *p, const attend_attention_args *args)
{
    attend_plan *plan;
    if (test_attention_plan(s->context, p, &plan) || attend_attention_forward(plan, args) || attend_synchronize(s->context))
        fail_msg("%s", attend_error_message());
    attend_plan_destroy(plan);
}

static sequence begin(int n)
{
    const int64_t heads = cases[n].kv_heads * cases[n].group;
    sequence s = {.p = {.batch = 1, .seqlen_q = TOKENS, .seqlen_k = TOKENS, .num_heads = heads, .num_kv_heads = cases[n].kv_heads, .head_dim = DIM,
                        .head_dim_v = DIM, .dtype = cases[n].dtype, .causal = ATTEND_CAUSAL_BOTTOM_RIGHT}};
    s.context = test_context();
    if (attend_context_device(s.context) == ATTEND_CPU) {
        assert_int_equal(attend_context_destroy(s.context), ATTEND_OK);
        assert_int_equal(attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = cases[n].threads}, &s.context), ATTEND_OK);
    }
    s.q = tensor(s.p.dtype, heads, 1), s.k = tensor(s.p.dtype, s.p.num_kv_heads, 2), s.v = tensor(s.p.dtype, s.p.num_kv_heads, 3);
    s.out = tensor(s.p.dtype, heads, 0);
    run(&s, &s.p, &(attend_attention_args){.q = s.q, .k = s.k, .v = s.v, .out = s.out});
    attend_problem many = s.p;
    many.batch = BATCH;
    s.cache = test_cache_make(&many, NULL, cases[n].page_size, POOLS_APART, false, 9);
    for (int64_t j = 0; j < TOKENS; j++)
        for (int64_t h = 0; h < s.p.num_kv_heads; h++) {
            const size_t bytes = row_bytes(&s.k) / (size_t)s.p.num_kv_heads;
            memcpy(test_cache_row(&s.cache, 0, 1, j, h), row(&s.k, j) + (size_t)h * bytes, bytes);
            memcpy(test_cache_row(&s.cache, 1, 1, j, h), row(&s.v, j) + (size_t)h * bytes, bytes);
        }
    return s;
}

static void end(sequence *s)
{
    free(s->q.data), free(s->k.data), free(s->v.data), free(s->out.data);
    test_cache_free(&s->cache);
    assert_int_equal(attend_context_destroy(s->context), ATTEND_OK);
}

/* Queries [first, first + count) of the sequence: alone or, in pages, in the middle of a batch whose others have other lengths. */
static void expect_chunk(sequence *s, const attend_problem *p, attend_plan *plan, int64_t first, int64_t count, const char *how)
{
    const int64_t batch = p->batch, at = batch / 2;
    const int64_t seqlens_q[] = {batch == 1 ? count : 1, count, 0}, seqlens_k[] = {batch == 1 ? first + count : 1, first + count, 77};
    const size_t bytes = row_bytes(&s->q);
    attend_tensor q = attend_tensor_4d(calloc((size_t)(batch * p->seqlen_q), bytes), p->dtype, batch, p->seqlen_q, p->num_heads, DIM), out = q;
    out.data = calloc((size_t)(batch * p->seqlen_q), bytes);
    memcpy(row(&q, at * p->seqlen_q), row(&s->q, first), (size_t)count * bytes);
    attend_attention_args args = {.q = q, .out = out, .features = &(attend_feature_args){.seqlens_q = seqlens_q, .seqlens_k = seqlens_k}};
    if (batch == 1)
        args.k = s->k, args.v = s->v;
    else
        args.cache = &s->cache.cache;
    test_forget_runs(plan);
    if (attend_attention_forward(plan, &args) || attend_synchronize(s->context)) fail_msg("%s: %s", how, attend_error_message());
    if (memcmp(row(&out, at * p->seqlen_q), row(&s->out, first), (size_t)count * bytes))
        fail_msg("%s: queries from %d on, %d of them, have other bits", how, (int)first, (int)count);
    free(q.data), free(out.data);
}

static void prefill_chunks_and_decoding_agree(void **state)
{
    (void)state;
    const bool brief = getenv("ATTEND_TEST_SHORT") != NULL;
    for (int n = 0; n < (brief ? 2 : CASES); n++)
        for (int paged = 0; paged < 2; paged++) {
            char how[80];
            sequence s = begin(n);
            attend_problem chunked = s.p, decoded = s.p;
            attend_plan *plans[2];
            chunked.seqlen_q = 500, decoded.seqlen_q = 1;
            chunked.batch = decoded.batch = paged ? BATCH : 1;
            if (test_attention_plan(s.context, &chunked, &plans[0]) || test_attention_plan(s.context, &decoded, &plans[1]))
                fail_msg("%s", attend_error_message());
            snprintf(how, sizeof how, "case %d, %s", n, paged ? "pages" : "one tensor");
            for (int64_t i = 0, first = 0; first < TOKENS; first += chunks[i++]) expect_chunk(&s, &chunked, plans[0], first, chunks[i], how);
            for (int64_t first = 0; first < TOKENS; first += brief ? 97 : 5) expect_chunk(&s, &decoded, plans[1], first, 1, how);
            attend_plan_destroy(plans[0]), attend_plan_destroy(plans[1]);
            end(&s);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(prefill_chunks_and_decoding_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
