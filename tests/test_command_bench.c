/* attend bench beside the naive algorithm, on the device under test: it runs where it can, agrees, and says why where it cannot. */
#include "support/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const char *device(void)
{
    const char *name = getenv("ATTEND_TEST_DEVICE");
    return name ? name : "cpu";
}

static cJSON *bench(const char *options) { return test_json(0, "bench --device %s --json %s", device(), options); }

/* Rounding 16-bit scores moves an output by less than 2^-6 here; a wrong mask, head or scale by more than 0.1. */
static void the_naive_algorithm_agrees(void **state)
{
    static const char *const problems[] = {
        "--random seqlen_q=40,seqlen_k=70,heads=3,head_dim=32 --dtype f32",
        "--random batch=2,seqlen_q=64,heads=4,kv_heads=2,head_dim=32 --causal=top-left --dtype f32",
        "--random batch=2,seqlen_q=33,seqlen_k=50,heads=2,head_dim=40 --causal=bottom-right --dtype f16",
        "--random seqlen_q=50,seqlen_k=33,heads=4,kv_heads=1,head_dim=16 --causal=top-left --dtype bf16",
    };
    (void)state;
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        cJSON *json = bench(problems[i]);
        const double limit = strstr(problems[i], "bf16") ? 0x1p-3 : strstr(problems[i], "f16") ? 0x1p-6 : 0x1p-13;
        assert_true(test_json_number(json, "naive_seconds") > 0);
        assert_true(test_json_number(json, "naive_score_bytes") > 0);
        const double difference =
            test_json_number(json, "difference"); /* in hundreds of roundings, some are not the same */
        if (!(difference > 0 && difference < limit)) fail_msg("%s: off by %g", problems[i], difference);
        cJSON_Delete(json);
    }
}

static void what_it_cannot_do_it_says(void **state)
{
    static const struct {
        const char *options, *why;
    } cases[] = {{"--random seqlen_q=32,heads=2,head_dim=16 --window 7,0", "it knows causal attention alone"},
                 {"--random seqlen_q=0,heads=2,head_dim=16", "there are no scores"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cJSON *json = bench(cases[i].options);
        assert_string_equal(test_json_text(json, "naive"), cases[i].why);
        cJSON_Delete(json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_naive_algorithm_agrees), cmocka_unit_test(what_it_cannot_do_it_says)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
