/* What a feature costs on the CPU: each row's time over that of the same problem without it, the two in turns, so that both see the
   same machine. Medians of the times and of the ratios of neighbours.

       bench_features [--threads N] [--seconds S] [--save FILE] [name…]   rows whose name contains one of the names; --save: outputs' bits */
#include <attend/attend.h>

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1000, N = 2048, HEADS = 8, BLOCK = 128, KEYS = 32768, KV_HEADS = 8, GROUP = 4 };

static uint32_t state = 1;
static float uniform(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) * 0x1p-24f - 0.5f;
}

static void *reserve(int64_t elements, size_t bytes)
{
    void *data = aligned_alloc(64, ((size_t)elements * bytes + 63) / 64 * 64);
    if (!data) exit(3);
    return data;
}

static attend_tensor tensor(attend_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return attend_tensor_4d(reserve(a * b * c * d, attend_dtype_bytes(dtype)), dtype, a, b, c, d);
}

static attend_tensor values(attend_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    attend_tensor t = tensor(dtype, a, b, c, d);
    for (int64_t i = 0; i < a * b * c * d; i++) {
        const float x = 1.7f * (uniform() + uniform() + uniform() + uniform());
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (dtype == ATTEND_F32)
            ((float *)t.data)[i] = x;
        else
            ((uint16_t *)t.data)[i] = (uint16_t)(bits >> 16);
    }
    return t;
}

static void expect(attend_status status)
{
    if (!status) return;
    fprintf(stderr, "bench_features: %s\n", attend_error_message());
    exit(3);
}

/* ---- what rows bring ----------------------------------------------------------------------------------------------- */

typedef void bring(attend_problem *p, attend_feature_args *a);

static void one_bias(attend_problem *p, attend_feature_args *a) { a->bias = values(ATTEND_F32, 1, 1, p->seqlen_q, p->seqlen_k); }
static void head_bias(attend_problem *p, attend_feature_args *a) { a->bias = values(ATTEND_F32, 1, HEADS, p->seqlen_q, p->seqlen_k); }
static void key_bias(attend_problem *p, attend_feature_args *a) { a->bias = values(ATTEND_F32, 1, 1, 1, p->seqlen_k); }

/* What some frameworks make of a causal mask: 0, and -infinity above the diagonal. */
static void causal_bias(attend_problem *p, attend_feature_args *a)
{
    one_bias(p, a);
    for (int64_t i = 0; i < p->seqlen_q; i++)
        for (int64_t j = 0; j < p->seqlen_k; j++) ((float *)a->bias.data)[i * p->seqlen_k + j] = j > i ? -INFINITY : 0;
}

/* period: one of so many is hidden; 1: none, 0: those after the query. */
static attend_tensor mask(int64_t queries, int64_t keys, int64_t period)
{
    const attend_tensor t = tensor(ATTEND_U8, 1, 1, queries, keys);
    for (int64_t i = 0; i < queries; i++)
        for (int64_t j = 0; j < keys; j++)
            ((uint8_t *)t.data)[i * keys + j] = period == 0 ? j <= i : period == 1 ? 1 : uniform() + 0.5f > 1.0f / (float)period;
    return t;
}

static void full_mask(attend_problem *p, attend_feature_args *a) { a->mask = mask(p->seqlen_q, p->seqlen_k, 1); }
static void random_mask(attend_problem *p, attend_feature_args *a) { a->mask = mask(p->seqlen_q, p->seqlen_k, 4); }
static void causal_mask(attend_problem *p, attend_feature_args *a) { a->mask = mask(p->seqlen_q, p->seqlen_k, 0); }
static void key_mask(attend_problem *p, attend_feature_args *a) { a->mask = mask(1, p->seqlen_k, 4); }

/* Documents one after the other, of so many tokens; -length: all of them around 200. */
static void documents(attend_problem *p, attend_feature_args *a, int64_t length)
{
    a->segments_q = attend_tensor_2d(reserve(p->seqlen_q, 4), ATTEND_I32, 1, p->seqlen_q);
    a->segments_k = attend_tensor_2d(reserve(p->seqlen_k, 4), ATTEND_I32, 1, p->seqlen_k);
    int64_t left = length;
    int32_t id = 0;
    for (int64_t i = 0; i < p->seqlen_k; i++, left--) {
        if (left == 0) id += 7919, left = length + (length % 2 ? (int64_t)(40 * uniform()) : 0);
        ((int32_t *)a->segments_k.data)[i] = id;
        if (i < p->seqlen_q) ((int32_t *)a->segments_q.data)[i] = id;
    }
}

static void documents_256(attend_problem *p, attend_feature_args *a) { documents(p, a, 256); }
static void documents_ragged(attend_problem *p, attend_feature_args *a) { documents(p, a, 201); }

static void some_blocks(attend_problem *p, attend_feature_args *a)
{
    const int64_t rows = (p->seqlen_q + p->block_q - 1) / p->block_q, keys = (p->seqlen_k + p->block_k - 1) / p->block_k;
    a->block_mask = tensor(ATTEND_U8, 1, 1, rows, keys);
    for (int64_t i = 0; i < rows; i++) /* itself, and one somewhere else */
        for (int64_t j = 0; j < keys; j++) ((uint8_t *)a->block_mask.data)[i * keys + j] = i == j || (i > 0 && j == (i * 7 + 3) % keys);
}

static void all_blocks(attend_problem *p, attend_feature_args *a)
{
    some_blocks(p, a);
    memset(a->block_mask.data, 1, (size_t)(a->block_mask.shape[2] * a->block_mask.shape[3]));
}

static void table(attend_problem *p, attend_feature_args *a)
{
    a->relative_table = attend_tensor_2d(values(ATTEND_F32, 1, 1, p->num_heads, p->relative_buckets).data, ATTEND_F32, p->num_heads, p->relative_buckets);
}

static void by_head(attend_tensor *t, int64_t heads) { *t = attend_tensor_1d(values(ATTEND_F32, 1, 1, 1, heads).data, ATTEND_F32, heads); }
static void scales(attend_problem *p, attend_feature_args *a) { by_head(&a->head_scales, p->num_heads); }
static void sinks(attend_problem *p, attend_feature_args *a) { by_head(&a->sinks, p->num_heads); }

static void padding(attend_problem *p, attend_feature_args *a)
{
    a->starts_k = reserve(1, sizeof(int64_t));
    *(int64_t *)a->starts_k = p->seqlen_k / 8;
}

static void packed(attend_problem *p, attend_feature_args *a)
{
    int64_t *cu = reserve(9, sizeof *cu);
    for (int64_t i = 0; i <= 8; i++) cu[i] = i * 256;
    p->total_q = p->total_k = N, p->batch = 8, p->seqlen_q = p->seqlen_k = 256;
    a->cu_seqlens_q = a->cu_seqlens_k = cu;
}

/* Nothing: the row runs on a context with a progress callback. */
static void watched(attend_problem *p, attend_feature_args *a) { (void)p, (void)a; }

typedef struct row {
    const char *name;
    attend_problem fields; /* on top of the plain problem */
    bring *bring;
} row;

enum { PER_PAIR = ATTEND_PER_QUERY | ATTEND_PER_KEY };

static const row rows[] = {
    {"plain", {0}, NULL},
    {"progress callback", {0}, watched},
    {"head scales", {.head_scales = true}, scales},
    {"sinks", {.sinks = true}, sinks},
    {"causal", {.causal = ATTEND_CAUSAL_TOP_LEFT}, NULL},
    {"window of 256", {.windowed = true, .window_left = 255}, NULL},
    {"window of 256, prefix of 64", {.windowed = true, .window_left = 255, .prefix = 64}, NULL},
    {"chunks of 256", {.chunk = 256}, NULL},
    {"packed, 8 of 256", {.packed = true}, packed},
    {"left padding of an eighth", {.left_padded = true}, padding},
    {"segments of 256", {.segments = true}, documents_256},
    {"segments of about 200", {.segments = true}, documents_ragged},
    {"block mask, 31 of 256 blocks of 128", {.block_q = BLOCK, .block_k = BLOCK}, some_blocks},
    {"block mask, 127 of 4096 blocks of 32", {.block_q = 32, .block_k = 32}, some_blocks},
    {"block mask, all seen", {.block_q = BLOCK, .block_k = BLOCK}, all_blocks},
    {"mask, all seen", {.mask_axes = PER_PAIR}, full_mask},
    {"mask, causal", {.mask_axes = PER_PAIR}, causal_mask},
    {"mask, three quarters seen", {.mask_axes = PER_PAIR}, random_mask},
    {"mask by keys, three quarters seen", {.mask_axes = ATTEND_PER_KEY}, key_mask},
    {"bias, one for all heads", {.bias_axes = PER_PAIR}, one_bias},
    {"bias, one a head", {.bias_axes = PER_PAIR | ATTEND_PER_HEAD}, head_bias},
    {"bias by keys", {.bias_axes = ATTEND_PER_KEY}, key_bias},
    {"bias, causal", {.bias_axes = PER_PAIR}, causal_bias},
    {"ALiBi, symmetric", {.alibi = ATTEND_ALIBI_SYMMETRIC}, NULL},
    {"ALiBi, causal", {.alibi = ATTEND_ALIBI_CAUSAL, .causal = ATTEND_CAUSAL_TOP_LEFT}, NULL},
    {"relative bias", {.relative_buckets = 32, .relative_max_distance = 128, .relative_bidirectional = true}, table},
    {"softcap 50", {.softcap = 50}, NULL},
    {"softcap 30, causal, window of 1024", {.softcap = 30, .causal = ATTEND_CAUSAL_TOP_LEFT, .windowed = true, .window_left = 1023}, NULL},
};
static const row decoding[] = {
    {"decode, plain", {0}, NULL},
    {"decode, progress callback", {0}, watched},
    {"decode, mask by keys, three quarters seen", {.mask_axes = ATTEND_PER_KEY}, key_mask},
    {"decode, segments of 4096", {.segments = true}, NULL},
    {"decode, bias by keys", {.bias_axes = ATTEND_PER_KEY}, key_bias},
    {"decode, ALiBi", {.alibi = ATTEND_ALIBI_CAUSAL, .align_bottom_right = true}, NULL},
    {"decode, relative bias", {.relative_buckets = 32, .relative_max_distance = 128, .align_bottom_right = true}, table},
    {"decode, softcap 50", {.softcap = 50}, NULL},
};

/* ---- timing ---------------------------------------------------------------------------------------------------------- */

typedef struct job {
    attend_plan *plan;
    attend_attention_args args;
    attend_feature_args features;
} job;

static bool look(void *user, int64_t done, int64_t total) { return (void)user, done <= total; }

/* contexts: nobody looks; somebody does. */
static job make(attend_context *const contexts[2], const attend_problem *plain, const attend_attention_args *tensors, const row *row)
{
    job j = {.args = *tensors};
    attend_problem p = *plain;
    const unsigned char *from = (const unsigned char *)&row->fields;
    for (size_t i = 0; i < sizeof p; i++)
        if (from[i]) ((unsigned char *)&p)[i] = from[i];
    if (row->bring) row->bring(&p, &j.features);
    if (p.segments && !row->bring) documents(&p, &j.features, 4096);
    expect(attend_attention_plan(contexts[row->bring == watched], &p, &j.plan));
    return j;
}

static double timed(const job *j)
{
    attend_attention_args args = j->args;
    args.features = &j->features;
    const double start = omp_get_wtime();
    expect(attend_attention_forward(j->plan, &args));
    return omp_get_wtime() - start;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *of, int n)
{
    qsort(of, (size_t)n, sizeof *of, compare);
    return of[n / 2];
}

static void measure(const job *plain, const row *row, const job *j, double seconds)
{
    static double times[MOST], ratios[MOST], bases[MOST];
    int n = 0;
    timed(plain), timed(j);
    for (const double end = omp_get_wtime() + seconds; n < 5 || (n < MOST && omp_get_wtime() < end); n++) {
        bases[n] = timed(plain), times[n] = timed(j);
        ratios[n] = times[n] / bases[n];
    }
    printf("| %s | %.2f ms | %.2f |\n", row->name, 1e3 * median(times, n), median(ratios, n));
    fflush(stdout);
}

static void measure_all(attend_context *const contexts[2], const attend_problem *plain, const attend_attention_args *tensors, const row *of, size_t count,
                        double seconds, char **names, int name_count, FILE *save)
{
    const job base = make(contexts, plain, tensors, of);
    for (size_t i = 0; i < count; i++) {
        bool wanted = name_count == 0;
        for (int n = 0; n < name_count; n++) wanted = wanted || strstr(of[i].name, names[n]);
        if (!wanted) continue;
        const job j = make(contexts, plain, tensors, &of[i]);
        measure(&base, &of[i], &j, seconds);
        if (save) timed(&j), fwrite(tensors->out.data, 4, (size_t)(plain->seqlen_q * plain->num_heads * plain->head_dim) / (plain->dtype ? 2 : 1), save);
        attend_plan_destroy(j.plan);
    }
    attend_plan_destroy(base.plan);
}

int main(int argc, char **argv)
{
    attend_context_options options = {.device = ATTEND_CPU};
    double seconds = 0.5;
    FILE *save = NULL;
    int arg = 1;
    for (; arg + 1 < argc && !strncmp(argv[arg], "--", 2); arg += 2) {
        if (!strcmp(argv[arg], "--threads")) options.threads = atoi(argv[arg + 1]);
        if (!strcmp(argv[arg], "--seconds")) seconds = atof(argv[arg + 1]);
        if (!strcmp(argv[arg], "--save")) save = fopen(argv[arg + 1], "wb");
    }
    attend_context *contexts[2];
    expect(attend_context_create(&options, &contexts[0]));
    options.progress = look;
    expect(attend_context_create(&options, &contexts[1]));
    printf("%s; fp32, %d heads of 64, %d queries and keys; decoding: bf16, 1 query, %d heads of 128, %d KV heads, %d keys\n\n| | time | of plain |\n|---|---|---|\n",
           attend_context_device_name(contexts[0]), HEADS, N, KV_HEADS * GROUP, KV_HEADS, KEYS);
    const attend_problem square = {.batch = 1, .seqlen_q = N, .seqlen_k = N, .num_heads = HEADS, .head_dim = 64};
    const attend_attention_args square_args = {.q = values(ATTEND_F32, 1, N, HEADS, 64), .k = values(ATTEND_F32, 1, N, HEADS, 64),
                                               .v = values(ATTEND_F32, 1, N, HEADS, 64), .out = tensor(ATTEND_F32, 1, N, HEADS, 64)};
    measure_all(contexts, &square, &square_args, rows, sizeof rows / sizeof *rows, seconds, argv + arg, argc - arg, save);
    const attend_problem one = {.batch = 1, .seqlen_q = 1, .seqlen_k = KEYS, .num_heads = KV_HEADS * GROUP, .num_kv_heads = KV_HEADS, .head_dim = 128, .dtype = ATTEND_BF16};
    const attend_attention_args one_args = {.q = values(ATTEND_BF16, 1, 1, KV_HEADS * GROUP, 128), .k = values(ATTEND_BF16, 1, KEYS, KV_HEADS, 128),
                                            .v = values(ATTEND_BF16, 1, KEYS, KV_HEADS, 128), .out = tensor(ATTEND_BF16, 1, 1, KV_HEADS * GROUP, 128)};
    measure_all(contexts, &one, &one_args, decoding, sizeof decoding / sizeof *decoding, seconds, argv + arg, argc - arg, save);
    for (int i = 0; i < 2; i++) attend_context_destroy(contexts[i]);
    if (save) fclose(save);
    return 0;
}
