/* An allocation of the command that fails, any of them: exit 1 and a sentence, or the whole report, but never
 * half of one, and never an input that is said to be bad. */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static int lines_of(const char *text)
{
    int lines = 0;
    for (; *text; text++) lines += *text == '\n';
    return lines;
}

static int count_allocations(const char *words, int *lines)
{
    size_t size;
    setenv("ATTEND_TEST_FAIL", "0", 1), setenv("ATTEND_TEST_COUNT", test_path("count"), 1);
    test_process whole = test_attend("%s", words);
    if (whole.code != 0) fail_msg("attend %s: exit %d, %s", words, whole.code, whole.err);
    *lines = lines_of(whole.out);
    test_process_free(&whole);
    unsetenv("ATTEND_TEST_COUNT");
    char *text = test_read_file(test_path("count"), &size);
    int count = atoi(text);
    free(text);
    return count;
}

/* Ever fewer of them: later ones are of the same kinds. */
static void it_fails_whole(void **state)
{
    static const char *const commands[] = {
        "run " LAYER " --output z.npy --device cpu --threads 1 --json",
        "compare --random heads=1,seqlen_q=3,head_dim=4 --device cpu --threads 1 --explain",
        "info --device cpu --json",
        "inspect " QKV " --queries 0 --output p.png --device cpu --threads 1 --json",
    };
    char number[16];
    (void)state;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        int lines, count = count_allocations(commands[i], &lines);
        assert_true(count > 10);
        for (int n = 1; n <= count; n += 1 + n / 2) {
            snprintf(number, sizeof number, "%d", n);
            setenv("ATTEND_TEST_FAIL", number, 1);
            test_process p = test_attend("%s", commands[i]);
            bool whole = p.code == 0 && lines_of(p.out) == lines,
                 refused = p.code == 1 && strstr(p.err, "memory");
            if (!whole && !refused)
                fail_msg("attend %s, allocation %d of %d fails: exit %d, %d lines of %d, stderr \"%s\"",
                         commands[i], n, count, p.code, lines_of(p.out), lines, p.err);
            test_process_free(&p);
        }
    }
}

static int preload(void **state)
{
    setenv("LD_PRELOAD", ATTEND_TEST_MEMORY, 1);
    return test_write_inputs(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_fails_whole)};
    return cmocka_run_group_tests(tests, preload, NULL);
}
