/* What needs no reference, for every row of the CUDA kernel table: a row of the result has the same bits whatever is computed
   beside it, NaN and infinity go where mathematics sends them and nowhere else, and results over parts of the keys merge to the
   whole. ATTEND_TEST_ROWS, a part of a name, leaves the other rows out. */
#include "support/fixture.h"
#include "float16.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static attend_context *context;
static attend_kernel_info row;

/* A problem's tensors, without gaps. */
typedef struct run {
    attend_problem p;
    attend_tensor q, k, v, out, lse;
} run;

static attend_tensor tensor(attend_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return attend_tensor_4d(calloc((size_t)(a * b * c * d + 1), attend_dtype_bytes(dtype)), dtype, a, b, c, d);
}

static run make(int64_t batch, int64_t seqlen_q, int64_t seqlen_k, int64_t heads, int64_t kv_heads, attend_causal causal)
{
    int64_t d = row.head_dim_max;
    run r = {.p = {.batch = batch,
                   .seqlen_q = seqlen_q,
                   .seqlen_k = seqlen_k,
                   .num_heads = heads,
                   .num_kv_heads = kv_heads,
                   .head_dim = d,
                   .head_dim_v = d,
                   .dtype = row.dtype,
                   .causal = causal,
                   .softmax_scale = 0.125f}};
    r.q = tensor(row.dtype, batch, seqlen_q, heads, d), r.out = tensor(row.dtype, batch, seqlen_q, heads, d);
    r.k = tensor(row.dtype, batch, seqlen_k, kv_heads, d), r.v = tensor(row.dtype, batch, seqlen_k, kv_heads, d);
    r.lse = attend_tensor_3d(calloc((size_t)(batch * heads * seqlen_q + 1), sizeof(float)), ATTEND_F32, batch, heads, seqlen_q);
    const attend_tensor *inputs[] = {&r.q, &r.k, &r.v};
    for (int i = 0; i < 3; i++) {
        attend_tensor t = *inputs[i];
        t.stride[3] = 1, t.stride[2] = d, t.stride[1] = d * t.shape[2], t.stride[0] = t.stride[1] * t.shape[1];
        attend_values_gauss((uint64_t)i + 1, 1.5f, &t);
    }
    return r;
}

static void go(run *r)
{
    attend_plan *plan;
    attend_attention_args args = {.q = r->q, .k = r->k, .v = r->v, .out = r->out, .lse = r->lse};
    if (attend_attention_plan(context, &r->p, &plan) || attend_attention_forward(plan, &args) || attend_synchronize(context))
        fail_msg("%s: %s", row.name, attend_error_message());
    attend_plan_destroy(plan);
}

static void drop(run *r) { free(r->q.data), free(r->k.data), free(r->v.data), free(r->out.data), free(r->lse.data); }

static size_t row_bytes(const attend_tensor *t) { return (size_t)(t->shape[2] * t->shape[3]) * attend_dtype_bytes(t->dtype); }
/* Row i of a batch entry, all heads. */
static char *at(const attend_tensor *t, int64_t b, int64_t i)
{
    return (char *)t->data + (size_t)(b * t->shape[1] + i) * row_bytes(t);
}

static float get(const attend_tensor *t, int64_t b, int64_t i, int64_t h, int64_t c)
{
    const char *element = at(t, b, i) + (size_t)(h * t->shape[3] + c) * attend_dtype_bytes(t->dtype);
    uint16_t bits;
    if (t->dtype == ATTEND_F32) return *(const float *)(const void *)element;
    memcpy(&bits, element, 2);
    return t->dtype == ATTEND_F16 ? attend_from_f16(bits) : attend_from_bf16(bits);
}

static void set(const attend_tensor *t, int64_t b, int64_t i, int64_t h, int64_t c, float value)
{
    char *element = at(t, b, i) + (size_t)(h * t->shape[3] + c) * attend_dtype_bytes(t->dtype);
    uint16_t bits = t->dtype == ATTEND_F16 ? attend_to_f16(value) : attend_to_bf16(value);
    if (t->dtype == ATTEND_F32)
        memcpy(element, &value, 4);
    else
        memcpy(element, &bits, 2);
}

/* ---- the cases; each is run for each row ---- */

enum { QUERIES = 150, KEYS = 197 };

/* Query 0 to 8 alone, in a batch of one, gets the bits that it has among 150 in a batch of two. */
static void bits_do_not_depend_on_the_neighbours(void)
{
    run all = make(2, QUERIES, KEYS, 2, 1, ATTEND_CAUSAL_TOP_LEFT), few = make(1, 9, KEYS, 2, 1, ATTEND_CAUSAL_TOP_LEFT);
    memcpy(few.q.data, at(&all.q, 1, 0), 9 * row_bytes(&all.q));
    memcpy(few.k.data, at(&all.k, 1, 0), KEYS * row_bytes(&all.k));
    memcpy(few.v.data, at(&all.v, 1, 0), KEYS * row_bytes(&all.v));
    go(&all), go(&few);
    for (int64_t i = 0; i < 9; i++)
        if (memcmp(at(&all.out, 1, i), at(&few.out, 0, i), row_bytes(&all.out)))
            fail_msg("%s: query %d changes with its neighbours", row.name, (int)i);
    drop(&all), drop(&few);
}

/* Keys after the causal edge, and their values, may be anything: not a bit changes before it. From the edge on, NaN; and
   infinity, or NaN where the weight is too small for the dtype of P. */
static void nan_reaches_what_sees_it(void)
{
    enum { BAD = 70 };
    run clean = make(1, QUERIES, KEYS, 2, 2, ATTEND_CAUSAL_TOP_LEFT), bad = make(1, QUERIES, KEYS, 2, 2, ATTEND_CAUSAL_TOP_LEFT);
    go(&clean);
    set(&bad.v, 0, BAD, 1, 3, NAN);
    set(&bad.v, 0, BAD + 1, 1, 5, INFINITY);
    set(&bad.k, 0, BAD + 60, 0, 2, NAN);
    set(&bad.q, 0, 5, 0, 1, NAN);
    go(&bad);
    for (int64_t i = 0; i < QUERIES; i++)
        for (int64_t h = 0; h < 2; h++)
            for (int64_t c = 0; c < row.head_dim_max; c++) {
                const float was = get(&clean.out, 0, i, h, c), is = get(&bad.out, 0, i, h, c);
                const bool nan = h == 0 ? i == 5 || i >= BAD + 60 : c == 3 && i >= BAD, inf = h == 1 && c == 5 && i > BAD;
                if (nan ? !isnan(is) : inf ? is != INFINITY && !isnan(is) : is != was)
                    fail_msg("%s: query %d, head %d, column %d is %g, without NaN %g", row.name, (int)i, (int)h, (int)c,
                             (double)is, (double)was);
            }
    drop(&clean), drop(&bad);
}

/* exp(lse) weighs the outputs over two parts of the keys; the whole is their mean, within the rounding of three results. */
static void parts_of_the_keys_merge_to_the_whole(void)
{
    enum { SPLIT = 101 };
    run whole = make(1, 20, KEYS, 1, 1, ATTEND_CAUSAL_NONE),
        parts[2] = {make(1, 20, SPLIT, 1, 1, ATTEND_CAUSAL_NONE), make(1, 20, KEYS - SPLIT, 1, 1, ATTEND_CAUSAL_NONE)};
    const double unit = row.dtype == ATTEND_F32 ? 0x1p-20 : row.dtype == ATTEND_F16 ? 0x1p-11 : 0x1p-8;
    go(&whole);
    for (int j = 0; j < 2; j++) {
        size_t from = j * SPLIT, count = j ? KEYS - SPLIT : SPLIT;
        memcpy(parts[j].q.data, whole.q.data, 20 * row_bytes(&whole.q));
        memcpy(parts[j].k.data, at(&whole.k, 0, (int64_t)from), count * row_bytes(&whole.k));
        memcpy(parts[j].v.data, at(&whole.v, 0, (int64_t)from), count * row_bytes(&whole.v));
        go(&parts[j]);
    }
    for (int64_t i = 0; i < 20; i++) {
        const double lse = ((float *)whole.lse.data)[i], a = exp(((float *)parts[0].lse.data)[i] - lse),
                     b = exp(((float *)parts[1].lse.data)[i] - lse);
        if (fabs(a + b - 1) > 0x1p-18) fail_msg("%s: query %d: the parts have %.9g of the weight", row.name, (int)i, a + b);
        for (int64_t c = 0; c < row.head_dim_max; c++) {
            const double x = get(&parts[0].out, 0, i, 0, c), y = get(&parts[1].out, 0, i, 0, c), z = get(&whole.out, 0, i, 0, c);
            if (fabs(a * x + b * y - z) > 4 * unit * (fabs(a * x) + fabs(b * y) + fabs(z)) + 4 * unit)
                fail_msg("%s: query %d, column %d: %g of the parts, %g of the whole", row.name, (int)i, (int)c, a * x + b * y, z);
        }
    }
    drop(&whole), drop(&parts[0]), drop(&parts[1]);
}

/* Long keys and few queries: the keys go to several blocks. Within the rules, and the same bits for each batch entry, alone or
 * not. */
static void split_keys_are_within_the_rules(void)
{
    static const int64_t seqlens_k[] = {512, 513, 1025, 1100};
    for (int j = 0; j < 4; j++) {
        test_case c = {.problem = {.batch = 2,
                                   .seqlen_q = j == 3 ? 1 : 5,
                                   .seqlen_k = seqlens_k[j],
                                   .num_heads = 6,
                                   .num_kv_heads = 2,
                                   .head_dim = row.head_dim_max,
                                   .dtype = row.dtype,
                                   .causal = j % 2 ? ATTEND_CAUSAL_BOTTOM_RIGHT : ATTEND_CAUSAL_NONE},
                       .values = j == 1 ? ATTEND_VALUES_ASCEND : ATTEND_VALUES_NEEDLE,
                       .lengths = j == 2,
                       .seed = (uint64_t)j + 3};
        test_fixture f;
        test_fixture_make(&f, &c);
        test_fixture_run(&f, context);
        test_fixture_check(&f);
        test_fixture_free(&f);
    }
    run two = make(2, 2, 1100, 4, 1, ATTEND_CAUSAL_BOTTOM_RIGHT), one = make(1, 2, 1100, 4, 1, ATTEND_CAUSAL_BOTTOM_RIGHT);
    memcpy(one.q.data, at(&two.q, 1, 0), 2 * row_bytes(&two.q));
    memcpy(one.k.data, at(&two.k, 1, 0), 1100 * row_bytes(&two.k));
    memcpy(one.v.data, at(&two.v, 1, 0), 1100 * row_bytes(&two.v));
    go(&two), go(&one);
    if (memcmp(at(&two.out, 1, 0), one.out.data, 2 * row_bytes(&two.out))) fail_msg("%s: bits depend on the batch", row.name);
    drop(&two), drop(&one);
}

/* A digest of what ran, for a second run in another order of blocks and warps to be held against. */
static void print_bits(void)
{
    run r = make(2, QUERIES, KEYS, 4, 2, ATTEND_CAUSAL_TOP_LEFT);
    uint64_t hash = 14695981039346656037u;
    go(&r);
    for (int64_t i = 0; i < 2 * QUERIES; i++)
        for (size_t j = 0; j < row_bytes(&r.out); j++) hash = (hash ^ (unsigned char)at(&r.out, 0, i)[j]) * 1099511628211u;
    printf("bits of %s: %016llx\n", row.name, (unsigned long long)hash);
    drop(&r);
}

static void for_each_row(void (*check)(void))
{
    const char *part = getenv("ATTEND_TEST_ROWS");
    for (size_t i = 0; attend_kernel(i, &row); i++) {
        if (row.device != ATTEND_CUDA || (part && !strstr(row.name, part))) continue;
        setenv("ATTEND_KERNEL", row.name, 1);
        context = test_context();
        check();
        attend_context_destroy(context);
        unsetenv("ATTEND_KERNEL");
    }
}

static void neighbours(void **state) { (void)state, for_each_row(bits_do_not_depend_on_the_neighbours); }
static void nan_and_infinity(void **state) { (void)state, for_each_row(nan_reaches_what_sees_it); }
static void merging(void **state) { (void)state, for_each_row(parts_of_the_keys_merge_to_the_whole); }
static void split_keys(void **state) { (void)state, for_each_row(split_keys_are_within_the_rules); }

int main(int argc, char **argv)
{
    setenv("ATTEND_TEST_DEVICE", "cuda", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(neighbours), cmocka_unit_test(nan_and_infinity),
                                       cmocka_unit_test(merging), cmocka_unit_test(split_keys)};
    if (argc > 1 && !strcmp(argv[1], "bits")) {
        for_each_row(print_bits);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
