/* What is counted and modelled. wgmma's operands are read by core matrices, 8 rows of 16 bytes, so that no layout of theirs has
   bank conflicts; a persistent grid takes the time of the blocks that work. */
#include "engine/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { M = 64, N = 64, K = 16, BYTES = 16384, MATRIX = 8 };

/* Descriptor: a tile at 0, of rows of 128 bytes (or, unswizzled, core matrices that follow each other). */
static const struct {
    const char *name;
    uint64_t descriptor;
    int transposed;
} cases[] = {
    {"along k, swizzled by 128 bytes", UINT64_C(1) << 16 | UINT64_C(64) << 32 | UINT64_C(1) << 62, 0},
    {"along k, core matrices behind each other", UINT64_C(8) << 16 | UINT64_C(16) << 32, 0},
    {"along the rows, swizzled by 128 bytes", UINT64_C(64) << 16 | UINT64_C(64) << 32 | UINT64_C(1) << 62, 1},
};

static void operands_are_read_by_core_matrices(void **state)
{
    (void)state;
    sg_configure(&(sg_options){.count = true, .checks = true, .seed = 1, .threads = 1});
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        char text[4096], results[512] = "", error[512] = "";
        for (int r = 0; r < N / 2; r++) snprintf(results + strlen(results), sizeof results - strlen(results), "%s%%f%d", r ? "," : "", r);
        snprintf(text, sizeof text,
                 ".version 9.0\n.target sm_90a\n.address_size 64\n.visible .entry kernel%zu()\n{\n.shared .align 1024 .b8 tile[%d];\n"
                 ".reg .f32 %%f<%d>;\n.reg .b64 %%d;\n.reg .b32 %%r<3>;\n.reg .pred %%p;\n"
                 "mov.u32 %%r0, %%tid.x;\nLOOP: mul.lo.u32 %%r1, %%r0, 4;\nmov.u32 %%r2, tile;\nadd.u32 %%r1, %%r1, %%r2;\nst.shared.b32 [%%r1], 0;\n"
                 "add.u32 %%r0, %%r0, 128;\nsetp.lt.u32 %%p, %%r0, %d;\n@%%p bra LOOP;\nfence.proxy.async.shared::cta;\nbar.sync 0;\n"
                 "mov.b64 %%d, %llu;\nsetp.ne.u32 %%p, %%r0, %%r0;\nwgmma.fence.sync.aligned;\n"
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%s}, %%d, %%d, %%p, 1, 1, %d, %d;\n"
                 "wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\nret;\n}\n",
                 c, BYTES, N / 2, BYTES / 4, (unsigned long long)cases[c].descriptor, results, cases[c].transposed, cases[c].transposed);
        sg_properties properties;
        assert_true(sg_properties_named("h100", &properties));
        sg_device *device = sg_device_create(0, &properties);
        sg_module *module = sg_module_load(text, strlen(text), error, sizeof error);
        if (!module) fail_msg("%s", error);
        char name[16];
        snprintf(name, sizeof name, "kernel%zu", c);
        const sg_function *kernel = sg_module_function(module, name);
        sg_launch launch = {.grid = {1, 1, 1}, .block = {128, 1, 1}, .cluster = {1, 1, 1}};
        assert_int_equal(sg_execute(device, kernel, &launch), SG_OK);
        assert_int_equal(sg_findings(), 0);
        const counted_kernel *counted = counts_first();
        while (counted && counted->function != kernel) counted = counted->next;
        assert_non_null(counted);
        for (int i = 0; i < counted->instructions; i++) {
            const counts *of = &counted->totals[i];
            if (!counted->insns[i].warpgroup) continue;
            const int matrices = (M + N) / MATRIX * (K * 2 / 16);
            if (of->wavefronts != matrices || of->ideal_wavefronts != matrices)
                fail_msg("%s: %d wavefronts, ideal %d, of %d matrices", cases[c].name, (int)of->wavefronts, (int)of->ideal_wavefronts, matrices);
        }
        sg_module_unload(module);
        sg_device_destroy(device);
    }
}

/* Blocks that find nothing to do, as those of a persistent grid may, do not make the others faster. */
static void idle_blocks_do_not_count(void **state)
{
    (void)state;
    static const char text[] = ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry work(.param .u32 busy)\n{\n.reg .b32 %r<4>;\n.reg .f32 %f;\n.reg .pred %p;\n"
                               "mov.u32 %r0, %ctaid.x;\nld.param.u32 %r1, [busy];\nsetp.ge.u32 %p, %r0, %r1;\n@%p ret;\nmov.u32 %r2, 0;\nmov.f32 %f, 0f00000000;\n"
                               "LOOP: fma.rn.f32 %f, %f, %f, %f;\nadd.u32 %r2, %r2, 1;\nsetp.lt.u32 %p, %r2, 1000;\n@%p bra LOOP;\nret;\n}\n";
    static const struct {
        unsigned blocks, busy;
    } grids[] = {{4, 4}, {64, 4}, {64, 64}};
    double seconds[3];
    char error[512] = "";
    sg_properties properties;
    sg_configure(&(sg_options){.count = true, .seed = 1, .threads = 1});
    assert_true(sg_properties_named("h100", &properties));
    sg_device *device = sg_device_create(0, &properties);
    for (int g = 0; g < 3; g++) {
        sg_module *module = sg_module_load(text, strlen(text), error, sizeof error);
        if (!module) fail_msg("%s", error);
        const sg_function *kernel = sg_module_function(module, "work");
        const void *arguments[] = {&grids[g].busy};
        sg_launch launch = {.grid = {grids[g].blocks, 1, 1}, .block = {128, 1, 1}, .cluster = {1, 1, 1}, .arguments = arguments};
        assert_int_equal(sg_execute(device, kernel, &launch), SG_OK);
        const counted_kernel *counted = counts_first();
        while (counted && counted->function != kernel) counted = counted->next;
        assert_non_null(counted);
        seconds[g] = model_time(counted, counted->totals).seconds;
        sg_module_unload(module);
    }
    sg_device_destroy(device);
    for (int g = 1; g < 3; g++)
        if (seconds[g] < seconds[0] || seconds[g] > 1.03 * seconds[0])
            fail_msg("%u blocks, %u of them busy: %g s instead of %g s", grids[g].blocks, grids[g].busy, seconds[g], seconds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(operands_are_read_by_core_matrices), cmocka_unit_test(idle_blocks_do_not_count)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
