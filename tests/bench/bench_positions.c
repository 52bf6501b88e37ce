/* What positions cost: rotary embedding of Q and K by itself, beside the memory that it moves, and absolute positions as the time of a layer with
   them less that of one without, the two in turns, so that both see the same machine. docs/measured/positions.md quotes what it prints.

       bench_positions [--device cuda] [--threads N] [--seconds S]     S 0: one run of each, for counting on the software device */
#include <attend/attend.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N = 1024, HEADS = 32, KV_HEADS = 8, DIM = 128, HIDDEN = HEADS * DIM, MOST = 1000 };

static void expect(attend_status status)
{
    if (!status) return;
    fprintf(stderr, "bench_positions: %s\n", attend_error_message());
    exit(3);
}

static attend_tensor values(attend_dtype dtype, int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int64_t count = a * b * c * d;
    uint32_t state = 1;
    uint16_t *data = aligned_alloc(64, ((size_t)count * attend_dtype_bytes(dtype) + 63) / 64 * 64);
    if (!data) exit(3);
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        const float x = (float)(state >> 8) * 0x1p-24f - 0.5f;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (dtype == ATTEND_F32)
            memcpy((float *)(void *)data + i, &x, 4);
        else
            data[i] = (uint16_t)(bits >> 16);
    }
    return rank == 2 ? attend_tensor_2d(data, dtype, c, d) : rank == 3 ? attend_tensor_3d(data, dtype, b, c, d) : attend_tensor_4d(data, dtype, a, b, c, d);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) { return *(const double *)a < *(const double *)b ? -1 : 1; }

static double median(double *of, int n)
{
    qsort(of, (size_t)n, sizeof *of, ascending);
    return of[n / 2];
}

static void rotary(attend_context *context, const char *name, attend_dtype dtype, attend_rotary kind, attend_qk_norm norm, int64_t rows, double seconds)
{
    static double times[MOST];
    const attend_problem p = {.batch = 1, .seqlen_q = rows, .num_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim = DIM, .dtype = dtype, .rotary = kind, .qk_norm = norm};
    const attend_rotary_args args = {.q = values(dtype, 4, 1, rows, HEADS, DIM), .k = values(dtype, 4, 1, rows, KV_HEADS, DIM)};
    const double begin = now(), bytes = 2. * (double)(rows * (HEADS + KV_HEADS) * DIM) * (double)attend_dtype_bytes(dtype);
    int n = 0;
    do {
        const double start = now();
        expect(attend_rotary_apply(context, &p, &args));
        expect(attend_synchronize(context));
        times[n++] = now() - start;
    } while (n < MOST && now() - begin < seconds);
    const double time = median(times, n);
    printf("| %s, %s, %lld tokens | %.3f ms | %.1f GB/s |\n", name, attend_dtype_name(dtype), (long long)rows, 1e3 * time, bytes / time * 1e-9);
    free(args.q.data), free(args.k.data);
}

/* One head of 64 on a wide x: little but what reads x. */
static attend_plan *layer(attend_context *context, attend_dtype dtype, attend_absolute kind)
{
    static attend_layer_weights made[3];
    attend_layer_weights *w = &made[dtype], given;
    if (!w->wq.data) {
        w->wq = w->wk = w->wv = values(dtype, 2, 1, 1, 64, HIDDEN), w->wo = values(dtype, 2, 1, 1, 64, 64);
        w->position_table = values(dtype, 2, 1, 1, N, HIDDEN);
    }
    given = *w;
    if (kind != ATTEND_ABSOLUTE_LEARNED) given.position_table = (attend_tensor){0};
    const attend_problem p = {.batch = 1, .seqlen_q = N, .num_heads = 1, .head_dim = 64, .dtype = dtype, .hidden_size = HIDDEN, .output_size = 64,
                              .absolute = kind, .max_positions = kind == ATTEND_ABSOLUTE_LEARNED ? N : 0};
    attend_plan *plan;
    expect(attend_layer_plan(context, &p, &given, &plan));
    return plan;
}

static double run(attend_context *context, attend_plan *plan, const attend_layer_args *args)
{
    const double start = now();
    expect(attend_layer_forward(plan, args));
    expect(attend_synchronize(context));
    return now() - start;
}

static void absolute(attend_context *context, const char *name, attend_dtype dtype, attend_absolute kind, double seconds)
{
    static double plain[MOST], more[MOST];
    attend_plan *without = layer(context, dtype, ATTEND_ABSOLUTE_NONE), *with = layer(context, dtype, kind);
    const attend_layer_args args = {.x = values(dtype, 3, 1, 1, N, HIDDEN), .out = values(dtype, 3, 1, 1, N, 64)};
    attend_explanation e;
    expect(attend_plan_explain(with, NULL, &e));
    const double begin = now();
    int n = 0;
    do {
        plain[n] = run(context, without, &args);
        more[n] = run(context, with, &args) - plain[n];
        n++;
    } while (n < MOST && now() - begin < seconds);
    const double time = median(more, n);
    printf("| %s, %s, %d tokens of %d | %.3f ms | %.1f GB/s |\n", name, attend_dtype_name(dtype), N, HIDDEN, 1e3 * time, e.position_bytes / time * 1e-9);
    attend_plan_destroy(without), attend_plan_destroy(with);
    free(args.x.data), free(args.out.data);
}

/* What stands beside: all projections of a layer of these heads. Every token is a sequence of its own, so that attention is next to nothing. */
static void projections(attend_context *context, attend_dtype dtype, double seconds)
{
    static double times[MOST];
    const attend_tensor wide = values(dtype, 2, 1, 1, HIDDEN, HIDDEN), narrow = values(dtype, 2, 1, 1, KV_HEADS * DIM, HIDDEN);
    const attend_layer_weights weights = {.wq = wide, .wk = narrow, .wv = narrow, .wo = wide};
    const attend_problem p = {.batch = N, .seqlen_q = 1, .num_heads = HEADS, .num_kv_heads = KV_HEADS, .head_dim = DIM, .dtype = dtype, .hidden_size = HIDDEN};
    const attend_layer_args args = {.x = values(dtype, 3, 1, N, 1, HIDDEN), .out = values(dtype, 3, 1, N, 1, HIDDEN)};
    attend_plan *plan;
    expect(attend_layer_plan(context, &p, &weights, &plan));
    const double begin = now();
    int n = 0;
    do times[n++] = run(context, plan, &args);
    while (n < MOST && now() - begin < seconds);
    printf("| for comparison: all projections, %s, %d tokens of %d | %.3f ms | |\n", attend_dtype_name(dtype), N, HIDDEN, 1e3 * median(times, n));
    attend_plan_destroy(plan);
    free(wide.data), free(narrow.data), free(args.x.data), free(args.out.data);
}

int main(int argc, char **argv)
{
    attend_context_options options = {.device = ATTEND_CPU};
    double seconds = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--device") && !strcmp(argv[i + 1], "cuda")) options.device = ATTEND_CUDA;
        if (!strcmp(argv[i], "--threads")) options.threads = atoi(argv[i + 1]);
        if (!strcmp(argv[i], "--seconds")) seconds = atof(argv[i + 1]);
    }
    attend_context *context;
    expect(attend_context_create(&options, &context));
    printf("%s; %d heads of %d, %d KV heads\n\n| | time | moved |\n|---|---|---|\n", attend_context_device_name(context), HEADS, DIM, KV_HEADS);
    for (int bf16 = 0; bf16 < 2; bf16++) {
        const attend_dtype dtype = bf16 ? ATTEND_BF16 : ATTEND_F32;
        rotary(context, "rotary, halves", dtype, ATTEND_ROTARY_HALVES, ATTEND_QK_NORM_NONE, N, seconds);
        rotary(context, "rotary, interleaved", dtype, ATTEND_ROTARY_INTERLEAVED, ATTEND_QK_NORM_NONE, N, seconds);
        rotary(context, "rotary, halves, RMS norm", dtype, ATTEND_ROTARY_HALVES, ATTEND_QK_NORM_RMS, N, seconds);
        rotary(context, "rotary, halves", dtype, ATTEND_ROTARY_HALVES, ATTEND_QK_NORM_NONE, 1, seconds);
        absolute(context, "sinusoidal", dtype, ATTEND_ABSOLUTE_SINUSOIDAL, seconds);
        absolute(context, "sinusoidal, halves", dtype, ATTEND_ABSOLUTE_SINUSOIDAL_HALVES, seconds);
        absolute(context, "learned", dtype, ATTEND_ABSOLUTE_LEARNED, seconds);
        if (seconds > 0) projections(context, dtype, 4 * seconds);
    }
    attend_context_destroy(context);
    return 0;
}
