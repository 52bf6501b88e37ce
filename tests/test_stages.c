/* What a command says that it is at, which a terminal shows where it takes long: tests/preload/stages.c writes each stage down. */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void each_stage_has_its_name(void **state)
{
    (void)state;
#define CPU " --device cpu --threads 1 --quiet"
#define SMALL " --random heads=1,seqlen_q=2,head_dim=4"
    static const char *const cases[][2] = {
        {"attention " QKV " --output z.npy" CPU, "reading\nplanning\nattention on CPU, 1 thread, portable\nwriting z.npy\n"},
        {"compare " QKV CPU, "reading\nplanning\nattention on CPU, 1 thread, portable\nfp64 reference\n"},
        {"gradients " QKV " --dout q.npy --dq z.npy" CPU, "reading\nplanning\nattention on CPU, 1 thread, portable\ngradients on CPU, 1 thread, portable\n"},
        {"inspect " QKV CPU, "reading\nplanning\nattention on CPU, 1 thread, portable\ninspection\n"},
        {"rotary --input q.npy --rotary halves --output r.npy" CPU, "reading\nrotary on CPU, 1 thread, portable\n"},
        {"rotary --input q.npy --rotary halves --result r.npy" CPU, "reading\nfp64 reference\n"},
        {"bench --seconds 0" SMALL CPU, "reading\nplanning\nattend, warming up\nattend, run 1\nnaive, warming up\nnaive, run 1\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size;
        remove(test_path("stages"));
        test_expect(0, "", "%s", cases[i][0]);
        char *stages = test_read_file(test_path("stages"), &size);
        if (strcmp(stages, cases[i][1])) fail_msg("attend %s: \"%s\", expected \"%s\"", cases[i][0], stages, cases[i][1]);
        free(stages);
    }
}

static int preload(void **state)
{
    setenv("ATTEND_CPU_ISA", "portable", 1);
    setenv("LD_PRELOAD", ATTEND_TEST_STAGES, 1), setenv("ATTEND_TEST_STAGES", test_path("stages"), 1);
    return test_write_inputs(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_stage_has_its_name)};
    return cmocka_run_group_tests(tests, preload, NULL);
}
