/* The command line as people write it: help wherever it is looked for, numbers as they are spoken, and for a
 * slip the name that was meant. */
#include "support/command.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void help_is_found_wherever_it_is_looked_for(void **state)
{
    static const struct {
        const char *words, *first, *later;
    } cases[] = {
        {"-h", "attend: multi-head attention", "attend COMMAND --help"},
        {"--help", "attend: multi-head attention", "4k (4096"},
        {"help", "attend: multi-head attention", "attend inspect"},
        {"run -h", "attend run --weights", "--layout NAME"},
        {"run --help", "attend run --weights", "--layout NAME"},
        {"help run", "attend run --weights", "--layout NAME"},
        {"-h run", "attend run --weights", "--layout NAME"},
        {"bench --json -h", "attend bench", "--sweep"},
        {"-V", "attend ", "."},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_process p = test_attend("%s", cases[i].words);
        if (p.code != 0 || *p.err || strncmp(p.out, cases[i].first, strlen(cases[i].first)) != 0 ||
            !strstr(p.out, cases[i].later))
            fail_msg("attend %s: exit %d, \"%s\", stderr \"%s\"", cases[i].words, p.code, p.out, p.err);
        test_process_free(&p);
    }
    test_expect(2, "\"frob\" is not a command", "help frob");
}

static void slips_are_answered_with_what_was_meant(void **state)
{
    static const char *const cases[][2] = {
        {"compar", "\"compar\" is not a command; did you mean compare?"},
        {"bnech", "did you mean bench?"},
        {"batch", "there are run, attention"}, /* two of five letters differ: nothing is near */
        {"walk", "there are run, attention, compare, bench, inspect, rotary, gradients, info"},
        {"--json info", "--json comes before a command; options follow one of run,"},
        {"run --weight w", "--weight is not an option of attend run; did you mean --weights?"},
        {"run --Output z.npy", "did you mean --output?"},
        {"run --wieghts w", "did you mean --weights?"},
        {"run --frobnicate", "attend run --help lists them"},
        {"run --seed 4", "--seed is not an option of attend run; it is one of compare, bench, inspect"},
        {"run -x", "-x is not an option of attend run"},
        {"bench -json", "-json is not an option of attend bench; did you mean --json?"},
        {"bench --seqlen-q 64", "did you mean --random seqlen_q=…?"},
        {"bench --head_dim=64", "did you mean --random head_dim=…?"},
        {"bench --random seq=64", "unknown key \"seq\"; did you mean seqlen_q?"},
        {"bench --random head=64", "did you mean heads?"},
        {"compare --random seqlen_q=4 --values neddle",
         "expected one of gauss, sharp, constant, offset, cancel, needle, ascend, descend, "
         "uniform, negative, exact; did you mean needle?"},
        {"compare --random seqlen_q=4 --dtype fp16", "expected one of f32, f16, bf16; did you mean f16?"},
        {"compare --random seqlen_q=4 --causal bottom-right",
         "--causal takes its value after =: --causal=bottom-right"},
        {"rotary --input q.npy --rotary-scaling yarn",
         "--rotary-scaling is \"yarn\", expected a factor after it: yarn,4"},
        {"rotary --input q.npy --rotary-base 0", "--rotary-base is \"0\", expected a number above 1"},
        {"bench --random tokens=64",
         "the keys are batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim, head_dim_v, hidden"},
        {"bench --seconds -1", "--seconds is \"-1\", expected a number of at least 0"},
        {"bench --random hidden=8,seqlen_q=4,seqlen_k=5", "a layer of self-attention: it takes seqlen_q, no seqlen_k"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_expect(2, cases[i][1], "%s", cases[i][0]);
}

/* A sweep has its own lengths, dims and masks: what it would not do must not be asked for in vain. */
static void a_sweep_ignores_nothing(void **state)
{
    static const char *const cases[][2] = {
        {"--window 7,0", "--window and --sweep exclude each other"},
        {"--softcap 3", "--softcap and --sweep exclude each other"},
        {"--mask m.npy", "--mask and --sweep exclude each other"},
        {"--cu-seqlens-q c.npy", "--cu-seqlens-q and --sweep exclude each other"},
        {"--random seqlen_q=512,seqlen_k=64", "--sweep takes seqlen_q for queries and keys"},
        {"--random head_dim=64,head_dim_v=128", "and head_dim for V too"},
        {"--random head_dim=64,hidden=128", "--sweep takes seqlen_q for queries and keys"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        test_expect(2, cases[i][1], "bench --sweep %s", cases[i][0]);
    test_expect(0, "",
                "bench --sweep --random seqlen_q=512,head_dim=64,heads=1 --causal --scale 0.1 --values exact "
                "--seed 4 --dtype f16 "
                "--device cpu --strict --threads 1 --quiet --output s.png");
}

static void numbers_are_read_as_they_are_spoken(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } cases[] = {
        {"4k", 4096},    {"1M", 1048576}, {"0.5k", 512}, {"1.5k", 1536}, {"1e3", 1000},   {"1E+3", 1000},
        {"12.5e1", 125}, {"1e1k", 10240}, {"007", 7},    {"5.", 5},      {"0e999999", 0},
    };
    static const char *const wrong[] = {"",     "k",    ".",           "e3",        "1e",
                                        "1e-3", "1.5",  "0.1k",        "1kk",       "1K",
                                        "4 k",  "0x4",  "1,5",         "1..2",      "+4",
                                        "inf",  "1e19", "8589934592G", "1e1000000", "1e99999999999999999999"};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *json =
            test_json(0, "compare --random seqlen_k=%s,seqlen_q=1,heads=1,head_dim=1 --device cpu --json",
                      cases[i].text);
        if (test_json_number(json, "seqlen_k") != (double)cases[i].value)
            fail_msg("%s was read as %g", cases[i].text, test_json_number(json, "seqlen_k"));
        cJSON_Delete(json);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        test_expect(2, "--random", "compare --random seqlen_k='%s',seqlen_q=1", wrong[i]);
    test_expect(0, "", "compare --random seqlen_q=%054d --quiet --device cpu", 4); /* 63 characters */
    test_expect(2, "--random has \"seqlen_q=0000", "compare --random seqlen_q=%055d", 4);
    test_expect(
        0, "", "compare --random seqlen_q=4 --seed 18446744073709551615 --window 1k,-1 --quiet --device cpu");
    test_expect(2, "below 2^64", "compare --random seqlen_q=4 --seed 18446744073709551616");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_is_found_wherever_it_is_looked_for),
        cmocka_unit_test(slips_are_answered_with_what_was_meant),
        cmocka_unit_test(a_sweep_ignores_nothing),
        cmocka_unit_test(numbers_are_read_as_they_are_spoken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
