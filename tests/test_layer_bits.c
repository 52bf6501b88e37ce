/* Bits of a layer on the CPU: a row's depend on its sequence and the weights, not on threads, the batch
   around it, rows after it or how the work was cut. CMakeLists.txt runs it again where oneDNN has no 1×1
   convolution for some of the shapes. */
#include "support/layers.h"
#include "core/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static const struct bits_case {
    const char *name;
    attend_problem problem;
} cases[] = {
    {"f32",
     {.batch = 3,
      .seqlen_q = 75,
      .num_heads = 4,
      .head_dim = 32,
      .hidden_size = 128,
      .causal = ATTEND_CAUSAL_TOP_LEFT}},
    {"wide",
     {.batch = 2,
      .seqlen_q = 40,
      .num_heads = 8,
      .num_kv_heads = 2,
      .head_dim = 64,
      .hidden_size = 768,
      .output_size = 300,
      .causal = ATTEND_CAUSAL_TOP_LEFT}},
    {"odd widths",
     {.batch = 2,
      .seqlen_q = 67,
      .num_heads = 3,
      .head_dim = 10,
      .hidden_size = 77,
      .output_size = 41,
      .causal = ATTEND_CAUSAL_TOP_LEFT}},
    {"bf16, turned",
     {.batch = 2,
      .seqlen_q = 130,
      .num_heads = 2,
      .head_dim = 40,
      .hidden_size = 100,
      .dtype = ATTEND_BF16,
      .causal = ATTEND_CAUSAL_TOP_LEFT,
      .rotary = ATTEND_ROTARY_HALVES}},
    {"f16, many rows",
     {.batch = 4,
      .seqlen_q = 300,
      .num_heads = 2,
      .head_dim = 16,
      .hidden_size = 48,
      .dtype = ATTEND_F16,
      .causal = ATTEND_CAUSAL_TOP_LEFT}},
};
enum { CASES = sizeof cases / sizeof *cases };

static void run(const test_layer *l, int threads)
{
    attend_context *context;
    if (attend_context_create(&(attend_context_options){.device = ATTEND_CPU, .threads = threads}, &context))
        fail_msg("%s", attend_error_message());
    test_layer_go(l, context);
    attend_context_destroy(context);
}

static char *row_of(const attend_tensor *t, int64_t b, int64_t i)
{
    return (char *)t->data + (size_t)(b * t->stride[0] + i * t->stride[1]) * attend_dtype_bytes(t->dtype);
}

/* `part` ran the first rows of entries from `first` on; `whole` all of them. */
static void expect_same(const char *name, const char *what, const test_layer *part, const test_layer *whole,
                        int64_t first)
{
    const attend_tensor *is = &part->args.out, *wanted = &whole->args.out;
    const size_t bytes = (size_t)is->shape[2] * attend_dtype_bytes(is->dtype);
    for (int64_t b = 0; b < is->shape[0]; b++)
        for (int64_t i = 0; i < is->shape[1]; i++)
            if (memcmp(row_of(is, b, i), row_of(wanted, first + b, i), bytes))
                fail_msg("%s: row %d of entry %d differs %s", name, (int)i, (int)(first + b), what);
}

static void of_whatever_threads(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        test_layer one, many;
        test_layer_make(&one, &cases[i].problem);
        test_layer_make(&many, &cases[i].problem);
        run(&one, 1);
        for (int threads = 2; threads <= 20; threads = threads * 2 + 1) {
            char what[32];
            snprintf(what, sizeof what, "with %d threads", threads);
            memset(many.args.out.data, 0xff,
                   (size_t)(many.p.batch * many.p.seqlen_q * many.p.output_size) *
                       attend_dtype_bytes(many.p.dtype));
            run(&many, threads);
            expect_same(cases[i].name, what, &many, &one, 0);
        }
        test_layer_free(&one), test_layer_free(&many);
    }
}

/* Causal: rows after it are no concern of a row. */
static void of_whatever_is_beside(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        test_layer whole;
        test_layer_make(&whole, &cases[i].problem);
        run(&whole, 2);
        const int64_t rows = whole.p.seqlen_q, lengths[] = {1, 2, 3, 7, 16, 17, rows - 1, rows};
        for (int n = 0; n < 8; n++) {
            test_layer part = {
                .given = whole.given, .p = whole.p, .weights = whole.weights, .args = {.x = whole.args.x}};
            part.given.batch = 1, part.given.seqlen_q = lengths[n];
            const int64_t entry = n % whole.p.batch;
            part.args.x.data = row_of(&whole.args.x, entry, 0), part.args.x.shape[0] = 1,
            part.args.x.shape[1] = lengths[n];
            part.args.out =
                test_layer_tensor(&part, part.p.dtype, 3, (int64_t[]){1, lengths[n], part.p.output_size});
            char what[32];
            snprintf(what, sizeof what, "among %d alone", (int)lengths[n]);
            run(&part, 1 + n % 3);
            expect_same(cases[i].name, what, &part, &whole, entry);
            test_layer_free(&part);
        }
        test_layer_free(&whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(of_whatever_threads),
                                       cmocka_unit_test(of_whatever_is_beside)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
