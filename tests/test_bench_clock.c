/* The seconds that attend bench and attend attention print, held to a clock: tests/preload/clock.c says how
 * long each run takes, and the report must say the same. */
#include "support/arrays.h"
#include "support/command.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Microseconds of calls in order, the last of them for all that follow. Two products make a naive run. */
typedef struct bench_case {
    const char *attend, *naive;
    double median, least;
    int runs;
    double naive_median;
} bench_case;

/* A warm-up of any length, then five runs and two seconds, or three runs and ten seconds, or 101 runs. */
static const bench_case on_a_cpu[] = {
    {"5000000,400000,100000,300000,200000,500000,600000,7",
     "9000000,9000000,1000000,2000000,3000000,4000000,2000000,3000000,7", 0.35, 0.1, 6, 5},
    {"1000000,4000000,5000000,3000000,7", "10,250000", 4, 3, 3, 0.5},
    {"90000,300000,800000,400000,500000,600000,7", "700,300", 0.5, 0.3, 5, 600e-6},
    {"10", "30,10", 10e-6, 10e-6, 101, 20e-6},
    {"2,1", "1,2", 1e-6, 1e-6, 101, 4e-6},
};

/* Runs shorter than two milliseconds are timed many at once, and reported one by one; the first two tell how
 * many. */
static const bench_case on_a_device[] = {
    {"90000,500", "80000,4000,300", 500e-6, 500e-6, 101, 600e-6},
    {"90000,10", "80000,4000,500", 10e-6, 10e-6, 101, 1e-3},
    {"90000,3,1", "80000,250000", 1e-6, 1e-6, 101, 0.5},
    {"1000000,1000000,1000000,4000000,5000000,3000000,7", "10,250000", 4, 3, 3, 0.5},
};

static void expect(const bench_case *c, const char *field, double seconds, double expected)
{
    /* differences of times of day in double precision: 2^-43 of some thousand seconds */
    if (!(fabs(seconds - expected) < 1e-9))
        fail_msg("runs of %s, %s us: %s is %.9g, expected %.9g", c->attend, c->naive, field, seconds,
                 expected);
}

static void check(const bench_case *c, const char *device)
{
    setenv("ATTEND_TEST_ATTEND", c->attend, 1), setenv("ATTEND_TEST_NAIVE", c->naive, 1);
    cJSON *json = test_json(
        0, "bench --device %s --threads 1 --random heads=1,seqlen_q=1,seqlen_k=2,head_dim=4 --json", device);
    const double seconds = test_json_number(json, "seconds");
    expect(c, "seconds", seconds, c->median);
    expect(c, "seconds_least", test_json_number(json, "seconds_least"), c->least);
    expect(c, "naive_seconds", test_json_number(json, "naive_seconds"), c->naive_median);
    assert_int_equal(test_json_number(json, "runs"), c->runs);
    assert_float_equal(test_json_number(json, "tflops") * 1e12 * seconds, 2 * 2 * (4 + 4), 1e-3);
    assert_float_equal(test_json_number(json, "gbps") * 1e9 * seconds, 4 * (4 + 2 * 4 + 2 * 4 + 4), 1e-3);
    assert_float_equal(test_json_number(json, "speedup"), c->naive_median / c->median, 1e-2);
    cJSON_Delete(json);
}

static const char *device(void)
{
    const char *name = getenv("ATTEND_TEST_DEVICE");
    return name ? name : "cpu";
}

static void seconds_are_those_of_the_clock(void **state)
{
    const bool cuda = !strcmp(device(), "cuda");
    const bench_case *cases = cuda ? on_a_device : on_a_cpu;
    const size_t count = cuda ? sizeof on_a_device / sizeof *on_a_device : sizeof on_a_cpu / sizeof *on_a_cpu;
    (void)state;
    for (size_t i = 0; i < count; i++) check(&cases[i], device());
    setenv("ATTEND_TEST_ATTEND", "125000,7", 1);
    cJSON *json = test_json(0, "attention " QKV " --output o.npy --device %s --json", device());
    assert_float_equal(test_json_number(json, "seconds"), 0.125, 1e-9);
    cJSON_Delete(json);
}

/* In a person's units: three digits and the prefix that fits, never 0.00000320 TFLOP/s. */
static void a_person_reads_fitting_units(void **state)
{
    static const char *const lines[] = {"time           10.0 µs, median of 101 (least 10.0 µs)\n",
                                        "speed          3.20 MFLOP/s, 32 FLOP\n",
                                        "traffic        9.60 MB/s, 96 B read and written\n",
                                        "against naive  100.00 times as fast"};
    (void)state;
    setenv("ATTEND_TEST_ATTEND", "10", 1), setenv("ATTEND_TEST_NAIVE", "500", 1);
    test_process p = test_attend(
        "bench --device %s --threads 1 --random heads=1,seqlen_q=1,seqlen_k=2,head_dim=4", device());
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(p.out, lines[i])) fail_msg("no \"%s\" in:\n%s%s", lines[i], p.out, p.err);
    test_process_free(&p);
    p = test_attend("bench --device %s --threads 1 --random heads=1,seqlen_q=1,seqlen_k=25,head_dim=10",
                    device());
    if (!strstr(p.out, ", 1.00 kFLOP\n")) fail_msg("4 * 25 * 10 FLOP are not 1.00 kFLOP in:\n%s%s", p.out, p.err);
    test_process_free(&p);
}

static int preload_the_clock(void **state)
{
    const char *others = getenv("LD_PRELOAD");
    char preload[4096];
    snprintf(preload, sizeof preload, "%s%s%s", ATTEND_TEST_CLOCK, others ? ":" : "", others ? others : "");
    setenv("LD_PRELOAD", preload, 1);
    return test_write_inputs(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(seconds_are_those_of_the_clock),
                                       cmocka_unit_test(a_person_reads_fitting_units)};
    return cmocka_run_group_tests(tests, preload_the_clock, NULL);
}
