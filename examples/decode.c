/* A layer decodes four sequences of different lengths over one cache of pages: their prompts in chunks, then
 * token by token. Each step projects x, rotates, appends keys and values and attends to all so far; it is held
 * against the fp64 reference as it goes.
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
    WIDTH = 128,
    HEADS = 8,
    KV_HEADS = 2,
    DIM = 32,
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

/* A tensor's numbers depend on its seed alone. */
static void fill(float *to, int64_t elements, unsigned seed, float size)
{
    for (int64_t i = 0; i < elements; i++) {
        unsigned x = (unsigned)i * 2654435761u + seed * 2246822519u;
        x ^= x >> 15, x *= 2246822519u, x ^= x >> 13;
        to[i] = size * ((float)(x % 2001) / 1000 - 1);
    }
}

static attend_layer_weights weights_of(void)
{
    static float wq[HEADS * DIM * WIDTH], wk[KV_HEADS * DIM * WIDTH], wv[KV_HEADS * DIM * WIDTH],
        wo[WIDTH * HEADS * DIM];
    fill(wq, HEADS * DIM * WIDTH, 1, 0.2f), fill(wk, KV_HEADS * DIM * WIDTH, 2, 0.2f);
    fill(wv, KV_HEADS * DIM * WIDTH, 3, 0.2f), fill(wo, WIDTH * HEADS * DIM, 4, 0.2f);
    return (attend_layer_weights){.wq = attend_tensor_2d(wq, ATTEND_F32, HEADS * DIM, WIDTH),
                                  .wk = attend_tensor_2d(wk, ATTEND_F32, KV_HEADS * DIM, WIDTH),
                                  .wv = attend_tensor_2d(wv, ATTEND_F32, KV_HEADS * DIM, WIDTH),
                                  .wo = attend_tensor_2d(wo, ATTEND_F32, WIDTH, HEADS * DIM)};
}

/* At most `rows` new tokens of each sequence, over at most TABLE pages of keys. */
static attend_problem problem_of(int64_t rows)
{
    return (attend_problem){.batch = BATCH,
                            .seqlen_q = rows,
                            .seqlen_k = TABLE * PAGE,
                            .num_heads = HEADS,
                            .num_kv_heads = KV_HEADS,
                            .head_dim = DIM,
                            .hidden_size = WIDTH,
                            .causal = ATTEND_CAUSAL_BOTTOM_RIGHT,
                            .rotary = ATTEND_ROTARY_HALVES};
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

/* counts[b] new tokens of each sequence, by a plan for `rows`. Returns the time that the layer took. */
static double step(attend_context *context, attend_plan *plan, const attend_layer_weights *weights,
                   int64_t rows, const int64_t counts[BATCH])
{
    static float x[BATCH * CHUNK * WIDTH], out[BATCH * CHUNK * WIDTH], q[BATCH * CHUNK * HEADS * DIM],
        heads[BATCH * CHUNK * HEADS * DIM];
    int64_t keys[BATCH];
    const attend_cache cache = {.k = attend_tensor_4d(k_pool, ATTEND_F32, PAGES, PAGE, KV_HEADS, DIM),
                                .v = attend_tensor_4d(v_pool, ATTEND_F32, PAGES, PAGE, KV_HEADS, DIM),
                                .block_table = attend_tensor_2d(table, ATTEND_I32, BATCH, TABLE),
                                .seqlens = cached};
    const attend_feature_args lengths = {.seqlens_q = counts, .seqlens_k = keys};
    const attend_layer_args args = {
        .x = attend_tensor_3d(x, ATTEND_F32, BATCH, rows, WIDTH),
        .out = attend_tensor_3d(out, ATTEND_F32, BATCH, rows, WIDTH),
        .q = attend_tensor_4d(q, ATTEND_F32, BATCH, rows, HEADS, DIM), /* this and heads for the comparison */
        .heads = attend_tensor_4d(heads, ATTEND_F32, BATCH, rows, HEADS, DIM),
        .features = &lengths,
        .cache = &cache,
    };
    for (int64_t b = 0; b < BATCH; b++) {
        keys[b] = cached[b] + counts[b];
        take_pages(b, keys[b]);
        for (int64_t i = 0; i < counts[b]; i++) /* what the model makes of a token */
            fill(x + (b * rows + i) * WIDTH, WIDTH, (unsigned)(b * 100000 + cached[b] + i), 1);
    }

    const double begin = seconds();
    ok(attend_layer_forward(plan, &args));
    ok(attend_synchronize(context));
    const double took = seconds() - begin;

    const attend_problem problem = problem_of(rows);
    attend_layer_comparison comparison;
    ok(attend_layer_compare(&problem, weights, &args, NULL, &comparison));
    if (!comparison.passed) fprintf(stderr, "a step is off by %g\n", comparison.max_error), exit(1);
    memcpy(cached, keys, sizeof cached);
    return took;
}

/* Rows of x that hold no token are projected too: single tokens have a plan of their own. */
static attend_plan *plan_for(attend_context *context, const attend_layer_weights *weights, int64_t rows)
{
    const attend_problem problem = problem_of(rows);
    const attend_plan_options options = {.host_tensors = ATTEND_HOST_ALL};
    attend_plan *plan;
    ok(attend_layer_plan_with(context, &problem, weights, &options, &plan));
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
    const attend_layer_weights weights = weights_of();
    attend_plan *prefill = plan_for(context, &weights, CHUNK), *decode = plan_for(context, &weights, 1);
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
        took += step(context, prefill, &weights, CHUNK, counts);
    }
    printf("prompts of 70, 1, 33 and 100 tokens: %.0f tokens/s\n", (double)prompt_tokens / took);

    took = 0;
    for (int64_t b = 0; b < BATCH; b++) counts[b] = 1;
    for (int i = 0; i < tokens; i++) took += step(context, decode, &weights, 1, counts);
    printf("%d more each: %.0f tokens/s; all within the fp64 reference's bounds\n", tokens,
           (double)(BATCH * tokens) / took);
    release(k_pool), release(v_pool);
    attend_plan_destroy(prefill), attend_plan_destroy(decode);
    attend_context_destroy(context);
    return 0;
}
