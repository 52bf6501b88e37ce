#include "bench/peak.h"

#include <math.h>
#include <omp.h>
#include <string.h>
#include <time.h>

bool bench_cpu_time;

double bench_now(void)
{
    struct timespec t;
    clock_gettime(bench_cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { CHAINS = 12, STEPS = 200000 };

/* Volatile, so that no compiler can work out a chain beforehand: 1·0.999 + 0.001 is 1 again. */
static volatile const float factor_here = 0.999f, term_here = 1e-3f;

/* Twelve chains hide a latency of up to six cycles at two multiply-adds a cycle. */
#define LOOP(name, bytes, isa)                                                                         \
    isa static float name(void)                                                                        \
    {                                                                                                  \
        typedef float vector __attribute__((vector_size(bytes)));                                      \
        vector sum[CHAINS], factor = (vector){0} + factor_here, term = (vector){0} + term_here;        \
        for (int i = 0; i < CHAINS; i++) sum[i] = (vector){0} + (float)i;                              \
        for (int n = 0; n < STEPS; n++) {                                                              \
            _Pragma("GCC unroll 12") for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * factor + term; \
            __asm__ volatile("");                                                                      \
        }                                                                                              \
        for (int i = 1; i < CHAINS; i++) sum[0] += sum[i];                                             \
        return sum[0][0];                                                                              \
    }

#if defined(__x86_64__)
LOOP(loop_avx512, 64, __attribute__((target("avx512f,fma"))))
LOOP(loop_avx2, 32, __attribute__((target("avx2,fma"))))
#endif
LOOP(loop_plain, 16, )

static volatile float sink;

typedef struct widest {
    float (*loop)(void);
    int lanes;
} widest;

static widest widest_here(void)
{
    widest w = {loop_plain, 4};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) w = (widest){loop_avx2, 8};
    if (__builtin_cpu_supports("avx512f")) w = (widest){loop_avx512, 16};
#endif
    return w;
}

double bench_peak_flops(int threads)
{
    const widest w = widest_here();
    double begin = 0, end = 0;
#pragma omp parallel num_threads(threads)
    {
#pragma omp barrier
#pragma omp master
        begin = bench_now();
        float x = w.loop();
#pragma omp barrier
#pragma omp master
        {
            end = bench_now();
            sink = x;
        }
    }
    return 2.0 * w.lanes * CHAINS * STEPS * threads / (end - begin);
}

double bench_clock(int threads)
{
    enum { TRIES = 5, TURNS = 2000 };
    double total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        double best = 0;
        for (int i = 0; i < TRIES; i++) {
            uint64_t x = 1;
            double begin = bench_now();
            for (int n = 0; n < TURNS; n++) _Pragma("GCC unroll 20") for (int k = 0; k < 20; k++)
                {
                    x += x;
                    __asm__ volatile("" : "+r"(x)); /* the compiler may not take two at once */
                }
            best = fmax(best, 20.0 * TURNS / (bench_now() - begin));
        }
        total += best;
    }
    return total / threads;
}

double bench_flop_a_cycle(int threads)
{
    enum { TRIES = 10 };
    const int lanes = widest_here().lanes;
    double most = 1;
    for (int i = 0; i < TRIES; i++) most = fmax(most, bench_peak_flops(threads) / (2 * lanes * threads * bench_clock(threads)));
    return 2 * lanes * round(most);
}

double bench_peak_read(const void *data, size_t bytes, int threads)
{
    typedef uint64_t vector __attribute__((vector_size(64)));
    double begin = bench_now();
    uint64_t total = 0;
#pragma omp parallel for num_threads(threads) reduction(+ : total)
    for (int t = 0; t < threads; t++) {
        const vector *p = (const vector *)data + bytes / 64 * (size_t)t / (size_t)threads;
        const vector *end = (const vector *)data + bytes / 64 * (size_t)(t + 1) / (size_t)threads;
        vector sum = {0}, other = {0};
        for (; p + 1 < end; p += 2) sum += p[0], other += p[1];
        total += sum[0] + other[1];
    }
    sink = (float)total;
    return (double)bytes / (bench_now() - begin);
}
