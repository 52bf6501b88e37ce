/* What needs no reference, for every row of the CUDA kernel table: a row of the result has the same bits whatever is computed
   beside it, and NaN and infinity go where mathematics sends them and nowhere else. test_properties has the rest. ATTEND_TEST_ROWS,
   a part of a name, leaves the other rows out. */
#include "support/fixture.h"
#include "support/run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static attend_context *context;
static attend_kernel_info row;

static test_run make(int64_t batch, int64_t seqlen_q, int64_t seqlen_k, int64_t heads, int64_t kv_heads, attend_causal causal)
{
    return test_run_make(row.dtype, row.head_dim_max, batch, seqlen_q, seqlen_k, heads, kv_heads, causal);
}
static void go(test_run *r) { test_run_go(r, context, row.name); }

/* ---- the cases; each is run for each row ---- */

enum { QUERIES = 150, KEYS = 197 };

/* Query 0 to 8 alone, in a batch of one, gets the bits that it has among 150 in a batch of two. */
static void bits_do_not_depend_on_the_neighbours(void)
{
    test_run all = make(2, QUERIES, KEYS, 2, 1, ATTEND_CAUSAL_TOP_LEFT), few = make(1, 9, KEYS, 2, 1, ATTEND_CAUSAL_TOP_LEFT);
    memcpy(few.q.data, test_row(&all.q, 1, 0), 9 * test_row_bytes(&all.q));
    memcpy(few.k.data, test_row(&all.k, 1, 0), KEYS * test_row_bytes(&all.k));
    memcpy(few.v.data, test_row(&all.v, 1, 0), KEYS * test_row_bytes(&all.v));
    go(&all), go(&few);
    for (int64_t i = 0; i < 9; i++)
        if (memcmp(test_row(&all.out, 1, i), test_row(&few.out, 0, i), test_row_bytes(&all.out)))
            fail_msg("%s: query %d changes with its neighbours", row.name, (int)i);
    test_run_free(&all), test_run_free(&few);
}

/* Keys after the causal edge, and their values, may be anything: not a bit changes before it. From the edge on, NaN; and
   infinity of the value's sign, or NaN where the weight is too small for the dtype of P, as few are; of both signs, NaN. */
static void nan_reaches_what_sees_it(void)
{
    enum { BAD = 70 };
    int infinite = 0;
    test_run clean = make(1, QUERIES, KEYS, 2, 2, ATTEND_CAUSAL_TOP_LEFT), bad = make(1, QUERIES, KEYS, 2, 2, ATTEND_CAUSAL_TOP_LEFT);
    go(&clean);
    test_set(&bad.v, 0, BAD, 1, 3, NAN);
    test_set(&bad.v, 0, BAD + 1, 1, 5, INFINITY);
    test_set(&bad.v, 0, BAD + 2, 1, 6, -INFINITY);
    test_set(&bad.v, 0, BAD + 1, 1, 8, INFINITY), test_set(&bad.v, 0, BAD + 2, 1, 8, -INFINITY);
    test_set(&bad.k, 0, BAD + 60, 0, 2, NAN);
    test_set(&bad.q, 0, 5, 0, 1, NAN);
    go(&bad);
    for (int64_t i = 0; i < QUERIES; i++)
        for (int64_t h = 0; h < 2; h++)
            for (int64_t c = 0; c < row.head_dim_max; c++) {
                const float was = test_get(&clean.out, 0, i, h, c), is = test_get(&bad.out, 0, i, h, c);
                const bool nan = h == 0 ? i == 5 || i >= BAD + 60 : (c == 3 && i >= BAD) || (c == 8 && i >= BAD + 2),
                           plus = h == 1 && (c == 5 || c == 8) && i > BAD, minus = h == 1 && c == 6 && i > BAD + 1;
                if (nan ? !isnan(is) : plus || minus ? is != (plus ? INFINITY : -INFINITY) && !isnan(is) : is != was)
                    fail_msg("%s: query %d, head %d, column %d is %g, without NaN %g", row.name, (int)i, (int)h, (int)c,
                             (double)is, (double)was);
                infinite += isinf(is) != 0;
            }
    if (infinite < QUERIES - BAD) fail_msg("%s: only %d elements are infinite", row.name, infinite);
    test_run_free(&clean), test_run_free(&bad);
}

/* A key that is NaN, with values that are none, changes no bit of the rows that it is hidden from, few as they are, and reaches the others. */
static void hidden_nan_reaches_nothing(void)
{
    enum { FEW = 5, LONG = 1100 };
    static const int64_t bad_keys[] = {70, 1090}; /* in the first span, and in the last */
    static uint8_t mask[FEW * LONG];
    for (int n = 0; n < 2; n++) {
        test_run clean = make(1, FEW, LONG, 2, 1, ATTEND_CAUSAL_NONE), bad = make(1, FEW, LONG, 2, 1, ATTEND_CAUSAL_NONE);
        for (int64_t at = 0; at < FEW * LONG; at++) mask[at] = at % 7 != 3;
        for (int64_t i = 0; i < FEW; i++) mask[i * LONG + bad_keys[n]] = i % 2;
        clean.mask = bad.mask = attend_tensor_4d(mask, ATTEND_U8, 1, 1, FEW, LONG);
        clean.p.mask_axes = bad.p.mask_axes = ATTEND_PER_QUERY | ATTEND_PER_KEY;
        for (int64_t c = 0; c < row.head_dim_max; c++)
            test_set(&bad.k, 0, bad_keys[n], 0, c, NAN), test_set(&bad.v, 0, bad_keys[n], 0, c, c % 2 ? NAN : INFINITY);
        go(&clean), go(&bad);
        for (int64_t i = 0; i < FEW; i++) {
            if (i % 2 == 0 && memcmp(test_row(&clean.out, 0, i), test_row(&bad.out, 0, i), test_row_bytes(&bad.out)))
                fail_msg("%s: query %d changes with key %d, which it does not see", row.name, (int)i, (int)bad_keys[n]);
            if (i % 2 && !isnan(test_get(&bad.out, 0, i, 1, 0))) fail_msg("%s: query %d does not notice key %d", row.name, (int)i, (int)bad_keys[n]);
        }
        test_run_free(&clean), test_run_free(&bad);
    }
}

/* Long keys and few queries: the tensor-core rows give spans to blocks of their own. Within the rules, and the same bits for each batch
 * entry, alone or not. Other rows do not split: one case of each kind and fewer heads do. */
static void split_keys_are_within_the_rules(void)
{
    static const int64_t seqlens_k[] = {1024, 1025, 2049, 1100};
    const bool splits = strstr(row.name, "mma_") != NULL;
    for (int j = splits ? 0 : 1; j < 4; j += splits ? 1 : 2) {
        test_case c = {.problem = {.batch = 2,
                                   .seqlen_q = j == 3 ? 1 : 5,
                                   .seqlen_k = seqlens_k[j],
                                   .num_heads = splits ? 6 : 2,
                                   .num_kv_heads = splits ? 2 : 1,
                                   .head_dim = row.head_dim_max,
                                   .dtype = row.dtype,
                                   .causal = j % 2 ? ATTEND_CAUSAL_BOTTOM_RIGHT : ATTEND_CAUSAL_NONE,
                                   .sinks = j == 2}, /* with lengths: padding has no sink */
                       .values = j == 1 ? ATTEND_VALUES_ASCEND : ATTEND_VALUES_NEEDLE,
                       .lengths = j == 2,
                       .seed = (uint64_t)j + 3};
        test_fixture f;
        test_fixture_make(&f, &c);
        test_fixture_run(&f, context);
        test_fixture_check(&f);
        test_fixture_free(&f);
    }
    test_run two = make(2, 2, 1100, 4, 1, ATTEND_CAUSAL_BOTTOM_RIGHT), one = make(1, 2, 1100, 4, 1, ATTEND_CAUSAL_BOTTOM_RIGHT);
    memcpy(one.q.data, test_row(&two.q, 1, 0), 2 * test_row_bytes(&two.q));
    memcpy(one.k.data, test_row(&two.k, 1, 0), 1100 * test_row_bytes(&two.k));
    memcpy(one.v.data, test_row(&two.v, 1, 0), 1100 * test_row_bytes(&two.v));
    go(&two), go(&one);
    if (memcmp(test_row(&two.out, 1, 0), one.out.data, 2 * test_row_bytes(&two.out))) fail_msg("%s: bits depend on the batch", row.name);
    test_run_free(&two), test_run_free(&one);
}

static uint64_t digest(uint64_t hash, int64_t batch, int64_t queries, int64_t keys, int64_t heads, attend_causal causal)
{
    test_run r = make(batch, queries, keys, heads, heads / 2, causal);
    go(&r);
    for (int64_t i = 0; i < batch * queries; i++)
        for (size_t j = 0; j < test_row_bytes(&r.out); j++) hash = (hash ^ (unsigned char)test_row(&r.out, 0, i)[j]) * 1099511628211u;
    test_run_free(&r);
    return hash;
}

/* A digest of what ran, for a second run in another order of blocks and warps to be held against: blocks of one span, and some whose
 * totals rest between two. */
static void print_bits(void)
{
    uint64_t hash = digest(14695981039346656037u, 2, QUERIES, KEYS, 4, ATTEND_CAUSAL_TOP_LEFT);
    hash = digest(hash, 1, 33, 1030, 2, ATTEND_CAUSAL_NONE);
    printf("bits of %s: %016llx\n", row.name, (unsigned long long)hash);
}

static void for_each_row(int promise, void (*check)(void))
{
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        if (!test_wants_promise(&row, promise)) continue;
        setenv("ATTEND_KERNEL", row.name, 1);
        context = test_context();
        check();
        attend_context_destroy(context);
        unsetenv("ATTEND_KERNEL");
    }
}

static void neighbours(void **state) { (void)state, for_each_row(0, bits_do_not_depend_on_the_neighbours); }
static void nan_and_infinity(void **state) { (void)state, for_each_row(1, nan_reaches_what_sees_it); }
static void hidden_nan(void **state) { (void)state, for_each_row(2, hidden_nan_reaches_nothing); }
static void split_keys(void **state) { (void)state, for_each_row(3, split_keys_are_within_the_rules); }

int main(int argc, char **argv)
{
    setenv("ATTEND_TEST_DEVICE", "cuda", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(neighbours), cmocka_unit_test(nan_and_infinity),
                                       cmocka_unit_test(hidden_nan), cmocka_unit_test(split_keys)};
    if (argc > 1 && !strcmp(argv[1], "bits")) {
        for_each_row(4, print_bits);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
