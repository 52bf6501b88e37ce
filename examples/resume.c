/* Attention over keys that arrive part after part, each freed before the next: the sums so far are a state
 * that every run takes up and leaves, and the last one finishes. The bits are those of one run over all keys.
 *
 *     cc resume.c $(pkg-config --cflags --libs attend) -o resume
 */
#include <attend/attend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES = 100, KEYS = 5000, HEADS = 4, DIM = 32 };

static void ok(attend_status status)
{
    if (status == ATTEND_OK) return;
    fprintf(stderr, "attend: %s\n", attend_error_message());
    exit(1);
}

/* [1, rows, HEADS, DIM], as if read from somewhere: an element depends on its place among all rows alone. */
static attend_tensor read_rows(unsigned seed, int64_t first, int64_t rows)
{
    float *data = malloc((size_t)(rows * HEADS * DIM) * sizeof *data);
    for (int64_t i = 0; data && i < rows * HEADS * DIM; i++) {
        unsigned x = (unsigned)(first * HEADS * DIM + i) * 2654435761u + seed;
        x ^= x >> 15, x *= 2246822519u, x ^= x >> 13;
        data[i] = (float)(x % 2001) / 1000 - 1;
    }
    return attend_tensor_4d(data, ATTEND_F32, 1, rows, HEADS, DIM);
}

static attend_attention_args args_of(attend_tensor q, int64_t first, int64_t end)
{
    return (attend_attention_args){
        .q = q, .k = read_rows(1, first, end - first), .v = read_rows(2, first, end - first)};
}

static void run(attend_plan *plan, attend_context *context, attend_attention_args args)
{
    ok(attend_attention_forward(plan, &args));
    ok(attend_synchronize(context));
    free(args.k.data), free(args.v.data);
}

int main(void)
{
    static float out[2][QUERIES * HEADS * DIM], sums[QUERIES * HEADS * DIM], max[QUERIES * HEADS],
        sum[QUERIES * HEADS];
    const attend_problem problem = {
        .batch = 1, .seqlen_q = QUERIES, .seqlen_k = KEYS, .num_heads = HEADS, .head_dim = DIM};
    const attend_state state = {attend_tensor_4d(sums, ATTEND_F32, 1, QUERIES, HEADS, DIM),
                                attend_tensor_3d(max, ATTEND_F32, 1, HEADS, QUERIES),
                                attend_tensor_3d(sum, ATTEND_F32, 1, HEADS, QUERIES)};
    const attend_tensor q = read_rows(0, 0, QUERIES);
    attend_context *context;
    attend_plan *plan;
    ok(attend_context_create(&(attend_context_options){.device = ATTEND_CPU}, &context));
    ok(attend_attention_plan(context, &problem, &plan));

    const int64_t part = 2 * attend_plan_key_span(plan); /* any number of spans */
    for (int64_t first = 0; first < KEYS; first += part) {
        const int64_t end = first + part < KEYS ? first + part : KEYS;
        attend_attention_args args = args_of(q, first, end);
        args.first_key = first, args.end_key = end;
        if (first > 0) args.from = &state;
        if (end < KEYS) args.into = &state; /* in place */
        if (end == KEYS) args.out = attend_tensor_4d(out[0], ATTEND_F32, 1, QUERIES, HEADS, DIM);
        run(plan, context, args);
    }

    attend_attention_args all = args_of(q, 0, KEYS);
    all.out = attend_tensor_4d(out[1], ATTEND_F32, 1, QUERIES, HEADS, DIM);
    run(plan, context, all);

    const int same = memcmp(out[0], out[1], sizeof out[0]) == 0;
    printf("%s, %d keys in parts of %lld: %s\n", attend_context_device_name(context), KEYS, (long long)part,
           same ? "the bits of one run" : "OTHER BITS");
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    free(q.data);
    return !same;
}
