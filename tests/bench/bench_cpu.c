/* The CPU path against the machine's limits, measured in the same run: FLOP/s as a share of what multiply-adds in registers
   reach, bytes/s as a share of what plain reading reaches. Peak and problem take turns, so that both see the same clock.

       bench_cpu [--threads N | --cpu-time] [--seconds S] [--csv] [name…]   rows whose name begins with one of the names; all
                                                                            without one. gemm: oneDNN's, as a yardstick */
#include "bench/peak.h"

#include <attend/attend.h>
#include <oneapi/dnnl/dnnl.h>

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct row {
    const char *name; /* backward…: gradients of q, k and v, 10·n²·d·heads FLOP */
    attend_problem problem;
} row;

#define SQUARE(n, d, ...)                                                                    \
    {                                                                                        \
        .batch = 1, .seqlen_q = n, .seqlen_k = n, .num_heads = 8, .head_dim = d, __VA_ARGS__ \
    }
#define CAUSAL .causal = ATTEND_CAUSAL_TOP_LEFT

static const row rows[] = {
    {"n512-d64", SQUARE(512, 64, )},
    {"n512-d128", SQUARE(512, 128, )},
    {"n2048-d64", SQUARE(2048, 64, )},
    {"n2048-d128", SQUARE(2048, 128, )},
    {"n8192-d64", SQUARE(8192, 64, )},
    {"n8192-d128", SQUARE(8192, 128, )},
    {"causal-n2048-d64", SQUARE(2048, 64, CAUSAL)},
    {"causal-n2048-d128", SQUARE(2048, 128, CAUSAL)},
    {"causal-n8192-d64", SQUARE(8192, 64, CAUSAL)},
    {"causal-n8192-d128", SQUARE(8192, 128, CAUSAL)},
    {"long-n65536-d128", {.batch = 1, .seqlen_q = 65536, .seqlen_k = 65536, .num_heads = 1, .head_dim = 128, CAUSAL}},
    {"bf16-n2048-d128", SQUARE(2048, 128, .dtype = ATTEND_BF16)},
    {"f16-n2048-d128", SQUARE(2048, 128, .dtype = ATTEND_F16)},
    {"backward-n2048-d64", SQUARE(2048, 64, )},
    {"backward-n2048-d128", SQUARE(2048, 128, )},
    {"backward-causal-n2048-d64", SQUARE(2048, 64, CAUSAL)},
    {"backward-causal-n2048-d128", SQUARE(2048, 128, CAUSAL)},
    {"backward-bf16-n2048-d128", SQUARE(2048, 128, .dtype = ATTEND_BF16)},
    {"layer-minilm", {.batch = 1, .seqlen_q = 512, .num_heads = 12, .head_dim = 32, .hidden_size = 384}},
    {"decode-bf16",
     {.batch = 1, .seqlen_q = 1, .seqlen_k = 32768, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .dtype = ATTEND_BF16}},
    {"decode-f16",
     {.batch = 1, .seqlen_q = 1, .seqlen_k = 32768, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .dtype = ATTEND_F16}},
    {"decode-f32", {.batch = 1, .seqlen_q = 1, .seqlen_k = 32768, .num_heads = 32, .num_kv_heads = 8, .head_dim = 128}},
    {"decode-near-bf16",
     {.batch = 1, .seqlen_q = 1, .seqlen_k = 262144, .num_heads = 4, .num_kv_heads = 1, .head_dim = 128, .dtype = ATTEND_BF16}},
    {"decode-mha-bf16", {.batch = 1, .seqlen_q = 1, .seqlen_k = 32768, .num_heads = 8, .head_dim = 128, .dtype = ATTEND_BF16}},
};

static void *filled(int64_t elements, attend_dtype dtype)
{
    size_t bytes = ((size_t)elements * attend_dtype_bytes(dtype) + 63) / 64 * 64;
    uint32_t state = 1;
    unsigned char *data = aligned_alloc(64, bytes);
    if (!data) exit(3);
    for (int64_t i = 0; i < elements; i++) {
        float x = 0;
        for (int k = 0; k < 4; k++) state = state * 1664525u + 1013904223u, x += (float)(state >> 8) * 0x1p-24f - 0.5f;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        uint16_t half =
            (uint16_t)(dtype == ATTEND_BF16 ? bits >> 16 : (bits >> 16 & 0x8000) | (((bits >> 13) & 0x3ffff) - (112 << 10)));
        if (dtype == ATTEND_F16 && fabsf(x) < 0x1p-13f) half = 0;
        if (dtype == ATTEND_F32)
            memcpy(data + 4 * i, &x, 4);
        else
            memcpy(data + 2 * i, &half, 2);
    }
    return data;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double visible_pairs(const attend_problem *p)
{
    double all = (double)p->seqlen_q * (double)(p->seqlen_k ? p->seqlen_k : p->seqlen_q);
    return p->causal ? 0.5 * (all + (double)p->seqlen_q) : all;
}

static void expect(attend_status status)
{
    if (!status) return;
    fprintf(stderr, "bench_cpu: %s\n", attend_error_message());
    exit(3);
}

/* What is timed: attention, or a layer with weights of its own. */
typedef struct job {
    attend_plan *plan;
    attend_attention_args attention;
    attend_attention_grads grads;
    attend_layer_args layer;
    bool is_layer, backward;
} job;

static void run(const job *j)
{
    if (j->backward) {
        expect(attend_attention_backward(j->plan, &j->attention, &j->grads, NULL));
        return;
    }
    expect(j->is_layer ? attend_layer_forward(j->plan, &j->layer) : attend_attention_forward(j->plan, &j->attention));
}

static attend_tensor activations(attend_dtype dtype, int64_t b, int64_t n, int64_t h, int64_t d)
{
    return attend_tensor_4d(filled(b * n * h * d, dtype), dtype, b, n, h, d);
}

static attend_tensor matrix(attend_dtype dtype, int64_t out, int64_t in)
{
    return attend_tensor_2d(filled(out * in, dtype), dtype, out, in);
}

static void job_make(attend_context *context, const attend_problem *p, job *j)
{
    int64_t kv = p->num_kv_heads ? p->num_kv_heads : p->num_heads, width = p->num_heads * p->head_dim;
    if (p->hidden_size) {
        attend_layer_weights w = {.wq = matrix(p->dtype, width, p->hidden_size),
                                  .wk = matrix(p->dtype, width, p->hidden_size),
                                  .wv = matrix(p->dtype, width, p->hidden_size),
                                  .wo = matrix(p->dtype, p->hidden_size, width)};
        attend_tensor *biases[] = {&w.bq, &w.bk, &w.bv, &w.bo};
        for (int i = 0; i < 4; i++)
            *biases[i] = attend_tensor_1d(filled(width, p->dtype), p->dtype, i < 3 ? width : p->hidden_size);
        j->is_layer = true;
        j->layer.x = attend_tensor_3d(filled(p->batch * p->seqlen_q * p->hidden_size, p->dtype), p->dtype, p->batch, p->seqlen_q,
                                      p->hidden_size);
        j->layer.out = attend_tensor_3d(filled(p->batch * p->seqlen_q * p->hidden_size, p->dtype), p->dtype, p->batch,
                                        p->seqlen_q, p->hidden_size);
        expect(attend_layer_plan(context, p, &w, &j->plan));
    } else {
        j->attention.q = activations(p->dtype, p->batch, p->seqlen_q, p->num_heads, p->head_dim);
        j->attention.k = activations(p->dtype, p->batch, p->seqlen_k, kv, p->head_dim);
        j->attention.v = activations(p->dtype, p->batch, p->seqlen_k, kv, p->head_dim);
        j->attention.out = activations(p->dtype, p->batch, p->seqlen_q, p->num_heads, p->head_dim);
        expect(attend_attention_plan_with(context, p, &(attend_plan_options){.backward = j->backward}, &j->plan));
    }
    if (!j->backward) return;
    j->attention.lse = attend_tensor_3d(filled(p->batch * p->num_heads * p->seqlen_q, ATTEND_F32), ATTEND_F32, p->batch, p->num_heads,
                                        p->seqlen_q);
    expect(attend_attention_forward(j->plan, &j->attention));
    j->grads = (attend_attention_grads){.dout = activations(p->dtype, p->batch, p->seqlen_q, p->num_heads, p->head_dim),
                                        .dq = activations(p->dtype, p->batch, p->seqlen_q, p->num_heads, p->head_dim),
                                        .dk = activations(p->dtype, p->batch, p->seqlen_k, kv, p->head_dim),
                                        .dv = activations(p->dtype, p->batch, p->seqlen_k, kv, p->head_dim)};
}

/* The least cycles that each piece of a run of one thread took in any of the runs: pieces end where the progress callback is
   called, after each unit of work, and are short enough that nobody else had a part of the core in one run or another. Their sum
   is a run that nobody disturbed. */
typedef struct pieces {
    double last, seconds[8192], least[8192];
    int64_t at, count;
} pieces;

static bool end_piece(void *user, int64_t done, int64_t total)
{
    pieces *p = user;
    const double now = bench_now();
    if (p->at < (int64_t)(sizeof p->least / sizeof *p->least)) p->seconds[p->at++] = now - p->last;
    p->last = now;
    return done <= total;
}

static void fold_pieces(pieces *p, double clock)
{
    for (int64_t i = 0; i < p->at; i++)
        p->least[i] = i < p->count ? fmin(p->least[i], p->seconds[i] * clock) : p->seconds[i] * clock;
    p->count = p->at;
}

static double undisturbed_cycles(const pieces *p)
{
    double sum = 0;
    for (int64_t i = 0; i < p->count; i++) sum += p->least[i];
    return sum;
}

/* Shares of what the machine could do, of runs that took turns with the measures themselves. */
typedef struct shares {
    double times[400], peak[400]; /* seconds, and of the peak as it was beside each run */
    double slots[400];            /* of the FLOP that the cores could begin in the cycles that went by */
    double highest_peak;
    int count;
} shares;

enum { MOST_RUNS = 400 };

static void note(shares *s, double work, double seconds, double peak, double slots_a_second)
{
    s->times[s->count] = seconds, s->peak[s->count] = work / seconds / peak, s->slots[s->count] = work / seconds / slots_a_second;
    s->highest_peak = fmax(s->highest_peak, peak);
    s->count++;
}

static bool goes_on(const shares *s, double begin, double seconds)
{
    return s->count < 3 || (s->count < MOST_RUNS && bench_now() - begin < seconds);
}

static void sort(shares *s)
{
    qsort(s->times, (size_t)s->count, sizeof(double), compare);
    qsort(s->peak, (size_t)s->count, sizeof(double), compare);
    qsort(s->slots, (size_t)s->count, sizeof(double), compare);
}

static void print(const char *name, const shares *s, double work, bool reads)
{
    printf("%-18s %3d runs  best %9.3f ms, median %9.3f ms  %7.1f %s  %5.1f %% of %s (quartiles %.1f, %.1f)", name, s->count,
           s->times[0] * 1e3, s->times[s->count / 2] * 1e3, work / s->times[0] * 1e-9, reads ? "GB/s   " : "GFLOP/s",
           100 * s->peak[s->count / 2], reads ? "plain reading" : "the FMA peak", 100 * s->peak[s->count / 4],
           100 * s->peak[s->count * 3 / 4]);
    if (!reads) printf("  slots %5.1f %%, best %5.1f %%", 100 * s->slots[s->count / 2], 100 * s->slots[s->count - 1]);
}

static void measure(attend_context *context, pieces *pieces, const row *r, int threads, double seconds, bool csv)
{
    static shares s;
    const attend_problem *p = &r->problem;
    job j = {.backward = !strncmp(r->name, "backward", 8)};
    attend_plan_memory memory;
    job_make(context, p, &j);
    expect(attend_plan_memory_usage(j.plan, &memory));
    run(&j);
    bool reads = p->seqlen_q == 1;
    size_t kv_bytes = (size_t)(p->batch * p->seqlen_k * (p->num_kv_heads ? p->num_kv_heads : p->num_heads) * p->head_dim) *
                      attend_dtype_bytes(p->dtype);
    double work = (j.backward ? 10.0 : 4.0) * (double)(p->batch * p->num_heads * p->head_dim) * visible_pairs(p), clock = 0;
    if (p->hidden_size) work += 8.0 * (double)(p->batch * p->seqlen_q * p->hidden_size * p->num_heads * p->head_dim);
    if (reads) work = 2.0 * (double)kv_bytes;
    const double flop_a_cycle = bench_flop_a_cycle(threads);
    pieces->count = 0, s.count = 0, s.highest_peak = 0;
    for (double begin = bench_now(); goes_on(&s, begin, seconds);) {
        double before = reads ? bench_peak_read(j.attention.k.data, kv_bytes, threads) : bench_peak_flops(threads);
        clock = bench_clock(threads);
        const double start = bench_now();
        pieces->at = 0, pieces->last = start;
        run(&j);
        const double time = bench_now() - start;
        end_piece(pieces, 0, 0);
        double after = reads ? bench_peak_read(j.attention.v.data, kv_bytes, threads) : bench_peak_flops(threads);
        clock = fmax(clock, bench_clock(threads)); /* one of the two may have been interrupted */
        fold_pieces(pieces, clock);
        note(&s, work, time, fmax(before, after), flop_a_cycle * clock * threads);
    }
    sort(&s);
    const double undisturbed = threads == 1 && !reads ? work / flop_a_cycle / undisturbed_cycles(pieces) : 0;
    if (csv) {
        printf("%s,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g\n", r->name, s.times[0], s.times[s.count / 2], work,
               s.peak[s.count / 2], s.highest_peak, s.slots[s.count / 2], s.slots[s.count - 1], undisturbed);
    } else {
        print(r->name, &s, work, reads);
        if (undisturbed > 0) printf(", undisturbed %5.1f %%", 100 * undisturbed);
        printf("  at %.2f GHz  plan %.1f MB\n", clock * 1e-9, (double)memory.host_bytes * 1e-6);
    }
    fflush(stdout);
    attend_plan_destroy(j.plan);
    void *data[] = {j.attention.q.data,   j.attention.k.data, j.attention.v.data,
                    j.attention.out.data, j.layer.x.data,     j.layer.out.data,   j.attention.lse.data,
                    j.grads.dout.data,    j.grads.dq.data,    j.grads.dk.data,    j.grads.dv.data};
    for (size_t i = 0; i < sizeof data / sizeof *data; i++) free(data[i]); /* a layer's weights stay: the process ends soon */
}

/* What memory and neighbours leave of the peak to a product of matrices that is as good as they come: a yardstick for the rows'
   shares. In the shapes of one head's products each thread has a head of its own. */
static void measure_gemm(const char *name, int64_t m, int64_t n, int64_t k, bool each, int threads, double seconds)
{
    static shares s;
    const int64_t copies = each ? threads : 1;
    float *a = filled(copies * m * k, ATTEND_F32), *b = filled(copies * k * n, ATTEND_F32),
          *c = filled(copies * m * n, ATTEND_F32);
    const double work = 2.0 * (double)(m * n * k * copies), slots_a_cycle = bench_flop_a_cycle(threads) * threads;
    omp_set_num_threads(threads);
    s.count = 0, s.highest_peak = 0;
    for (double begin = bench_now(); goes_on(&s, begin, seconds);) {
        double before = bench_peak_flops(threads), start = bench_now();
#pragma omp parallel for num_threads((int)copies)
        for (int64_t i = 0; i < copies; i++)
            dnnl_sgemm('N', 'N', m, n, k, 1, a + i * m * k, k, b + i * k * n, n, 0, c + i * m * n, n);
        double time = bench_now() - start;
        note(&s, work, time, fmax(before, bench_peak_flops(threads)), slots_a_cycle * bench_clock(threads));
    }
    sort(&s);
    print(name, &s, work, false);
    puts("  oneDNN");
    free(a), free(b), free(c);
}

static void measure_gemms(int threads, double seconds)
{
    measure_gemm("gemm-n2048", 2048, 2048, 2048, false, threads, seconds);
    measure_gemm("gemm-scores-d64", 512, 512, 64, true, threads, seconds / 4);
    measure_gemm("gemm-output-d64", 512, 64, 512, true, threads, seconds / 4);
    measure_gemm("gemm-scores-d128", 512, 512, 128, true, threads, seconds / 4);
    measure_gemm("gemm-output-d128", 512, 128, 512, true, threads, seconds / 4);
}

/* Threads of OpenMP, which measure the peak, spin for milliseconds after a region, on processors that the next measurement is to
   have. libgomp reads how long when the process starts: starts it again with some 20 µs. */
static void spin_briefly(char **argv)
{
    if (getenv("GOMP_SPINCOUNT")) return;
    setenv("GOMP_SPINCOUNT", "1000", 1);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    spin_briefly(argv);
    int threads = 0, names = 0;
    double seconds = 1;
    bool csv = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--threads") && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--cpu-time"))
            threads = 1, bench_cpu_time = true;
        else if (!strcmp(argv[i], "--csv"))
            csv = true;
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            seconds = atof(argv[++i]);
        else
            argv[++names] = argv[i];
    }
    static pieces pieces;
    attend_context *context;
    expect(attend_context_create(
        &(attend_context_options){.device = ATTEND_CPU, .threads = threads, .progress = end_piece, .progress_user = &pieces},
        &context));
    if (!threads) threads = omp_get_num_procs();
    if (csv)
        puts("name,best_s,median_s,work,share,peak,slots,best_slots,undisturbed_slots");
    else
        printf("%s\n", attend_context_device_name(context));
    bool gemm = names == 0 && !csv;
    for (int n = 1; n <= names; n++) gemm |= !strcmp(argv[n], "gemm") && !csv;
    if (gemm) measure_gemms(threads, seconds);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        bool wanted = names == 0;
        for (int n = 1; n <= names; n++) wanted |= !strncmp(rows[r].name, argv[n], strlen(argv[n]));
        if (wanted) measure(context, &pieces, &rows[r], threads, seconds, csv);
    }
    attend_context_destroy(context);
    return 0;
}
