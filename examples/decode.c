/* Four sequences of different lengths in one cache of pages: their prompts in chunks, then token by token.
 * New keys are rotated and appended, queries attend to all keys so far, and every step is held against the
 * fp64 reference as it goes.
 *
 *     cc decode.c $(pkg-config --cflags --libs attend) -o decode && ./decode [tokens]
 *
 * With -DON_CUDA and -lcudart the same on a CUDA device, whose caches lie in memory that host and device
 * share; examples/graph.c is how a server would do it there.
 */
#include <attend/attend.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef ON_CUDA
#include <cuda_runtime_api.h>
#endif

enum {
    BATCH = 4,
    HEADS = 8,
    KV_HEADS = 2,
    DIM = 64,
    CHUNK = 32,
    PAGE = 16,
    TABLE = 16,
    PAGES = BATCH * TABLE
};

static const int64_t prompts[BATCH] = {70, 1, 33, 100};

static void ok(attend_status status)
{
    if (status == ATTEND_OK) return;
    fprintf(stderr, "attend: %s\n", attend_error_message());
    exit(1);
}

static double seconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *reserve(size_t bytes)
{
    void *memory = NULL;
#ifdef ON_CUDA
    if (cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal)) exit(1);
#else
    if (!(memory = malloc(bytes))) exit(1);
#endif
    return memory;
}

static void release(void *memory)
{
#ifdef ON_CUDA
    cudaFree(memory);
#else
    free(memory);
#endif
}

/* What the model around attention would project; a token's numbers depend on its place alone. */
static void project(float *to, unsigned seed, int64_t sequence, int64_t token, int64_t heads)
{
    for (int64_t i = 0; i < heads * DIM; i++) {
        unsigned x = (unsigned)((sequence * 100000 + token) * heads * DIM + i) * 2654435761u + seed;
        x ^= x >> 15, x *= 2246822519u, x ^= x >> 13;
        to[i] = (float)(x % 2001) / 1000 - 1;
    }
}

/* The caller's side of a cache: pools, who has which page, how many keys each sequence has. */
enum { POOL_BYTES = PAGES * PAGE * KV_HEADS * DIM * sizeof(float) };
static float *k_pool, *v_pool;
static int32_t table[BATCH][TABLE], next_page;
static int64_t cached[BATCH];

static void take_pages(int64_t sequence, int64_t keys)
{
    for (int64_t page = (cached[sequence] + PAGE - 1) / PAGE; page * PAGE < keys; page++) {
        if (page == TABLE) fprintf(stderr, "more than %d tokens\n", TABLE * PAGE), exit(1);
        table[sequence][page] = next_page++;
    }
}

/* At most `rows` new tokens of each sequence: counts[b] of them. The plan is for that many. Returns the time
   that attention and cache took. */
static double step(attend_context *context, attend_plan *plan, int64_t rows, const int64_t counts[BATCH])
{
    static float q[BATCH * CHUNK * HEADS * DIM], k[BATCH * CHUNK * KV_HEADS * DIM],
        v[BATCH * CHUNK * KV_HEADS * DIM], out[BATCH * CHUNK * HEADS * DIM];
    const attend_problem rotated = {.batch = BATCH,
                                    .seqlen_q = rows,
                                    .num_heads = HEADS,
                                    .num_kv_heads = KV_HEADS,
                                    .head_dim = DIM,
                                    .rotary = ATTEND_ROTARY_HALVES};
    const attend_cache cache = {.k = attend_tensor_4d(k_pool, ATTEND_F32, PAGES, PAGE, KV_HEADS, DIM),
                                .v = attend_tensor_4d(v_pool, ATTEND_F32, PAGES, PAGE, KV_HEADS, DIM),
                                .block_table = attend_tensor_2d(table, ATTEND_I32, BATCH, TABLE),
                                .seqlens = cached};
    const attend_feature_args new_tokens = {.seqlens_q = counts};
    const attend_cache_append_args append = {
        .k = attend_tensor_4d(k, ATTEND_F32, BATCH, rows, KV_HEADS, DIM),
        .v = attend_tensor_4d(v, ATTEND_F32, BATCH, rows, KV_HEADS, DIM),
        .features = &new_tokens,
    };
    const attend_rotary_args rotate = {.q = attend_tensor_4d(q, ATTEND_F32, BATCH, rows, HEADS, DIM),
                                       .first_positions = cached,
                                       .seqlens_q = counts};
    for (int64_t b = 0; b < BATCH; b++) {
        take_pages(b, cached[b] + counts[b]);
        for (int64_t i = 0; i < counts[b]; i++) {
            const int64_t row = b * rows + i, token = cached[b] + i;
            project(q + row * HEADS * DIM, 1, b, token, HEADS);
            project(k + row * KV_HEADS * DIM, 2, b, token, KV_HEADS);
            project(v + row * KV_HEADS * DIM, 3, b, token, KV_HEADS);
        }
    }

    const double begin = seconds();
    ok(attend_rotary_apply(context, &rotated, &rotate));
    ok(attend_cache_append(context, &rotated, &cache, &append, NULL));
    for (int64_t b = 0; b < BATCH; b++) cached[b] += counts[b];
    const attend_feature_args lengths = {.seqlens_q = counts, .seqlens_k = cached};
    const attend_attention_args args = {.q = rotate.q,
                                        .out = attend_tensor_4d(out, ATTEND_F32, BATCH, rows, HEADS, DIM),
                                        .features = &lengths,
                                        .cache = &cache};
    ok(attend_attention_forward(plan, &args));
    ok(attend_synchronize(context));
    const double took = seconds() - begin;

    attend_problem problem = rotated;
    attend_comparison comparison;
    problem.rotary = ATTEND_ROTARY_NONE, problem.seqlen_k = TABLE * PAGE;
    problem.causal = ATTEND_CAUSAL_BOTTOM_RIGHT;
    ok(attend_compare(&problem, &args, NULL, &comparison));
    if (!comparison.passed) fprintf(stderr, "a step is off by %g\n", comparison.max_error), exit(1);
    return took;
}

static attend_plan *plan_for(attend_context *context, int64_t rows)
{
    const attend_problem problem = {.batch = BATCH,
                                    .seqlen_q = rows,
                                    .seqlen_k = TABLE * PAGE,
                                    .num_heads = HEADS,
                                    .num_kv_heads = KV_HEADS,
                                    .head_dim = DIM,
                                    .causal = ATTEND_CAUSAL_BOTTOM_RIGHT};
    attend_plan *plan;
    ok(attend_attention_plan_with(context, &problem, &(attend_plan_options){.host_tensors = ATTEND_HOST_ALL},
                                  &plan));
    return plan;
}

int main(int argc, char **argv)
{
    const int tokens = argc > 1 ? atoi(argv[1]) : 20;
    attend_context *context;
#ifdef ON_CUDA
    ok(attend_context_create(&(attend_context_options){.device = ATTEND_CUDA}, &context));
#else
    ok(attend_context_create(&(attend_context_options){.device = ATTEND_CPU}, &context));
#endif
    k_pool = reserve(POOL_BYTES), v_pool = reserve(POOL_BYTES);
    attend_plan *prefill = plan_for(context, CHUNK), *decode = plan_for(context, 1);
    memset(k_pool, 0xff, POOL_BYTES), memset(v_pool, 0xff, POOL_BYTES); /* NaN in slots of nobody */

    int64_t prompt_tokens = 0, counts[BATCH];
    double took = 0;
    for (bool more = true; more;) {
        more = false;
        for (int64_t b = 0; b < BATCH; b++) {
            const int64_t left = prompts[b] - cached[b];
            counts[b] = left < CHUNK ? left : CHUNK;
            prompt_tokens += counts[b], more = more || left > CHUNK;
        }
        took += step(context, prefill, CHUNK, counts);
    }
    printf("prompts of 70, 1, 33 and 100 tokens: %.0f tokens/s\n", (double)prompt_tokens / took);

    took = 0;
    for (int64_t b = 0; b < BATCH; b++) counts[b] = 1;
    for (int i = 0; i < tokens; i++) took += step(context, decode, 1, counts);
    printf("%d more each: %.0f tokens/s; all within the fp64 reference's bounds\n", tokens,
           (double)(BATCH * tokens) / took);
    release(k_pool), release(v_pool);
    attend_plan_destroy(prefill), attend_plan_destroy(decode);
    attend_context_destroy(context);
    return 0;
}
