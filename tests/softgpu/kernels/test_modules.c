/* Modules as text: what is refused, with the line that is wrong; what an unknown instruction does, and when; variables and their values. */
#include "engine/finding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define HEAD  ".version 9.0\n.target sm_90\n.address_size 64\n"
#define ENTRY HEAD ".visible .entry kernel(.param .u64 out)\n{\n"

static void wrong_text_is_refused_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {HEAD "nonsense\n", "line 4"},
        {ENTRY "ret;\n", "does not end"},
        {ENTRY ".reg .b32 %r<2>;\nadd.s32 %r0, %r1, %r7;\n}\n", "line 7: %r7 is not declared"},
        {ENTRY ".reg .b32 %r<2>;\n.reg .b64 %d;\nadd.s32 %r0, %r1, %d;\n}\n", "line 8: add.s32: an operand of 64 bits where 32 are expected"},
        {ENTRY ".reg .b32 %r<2>;\nadd.s32 %r0, %r1;\n}\n", "too few"},
        {ENTRY ".reg .b32 %r<2>;\nadd.s32 %r0, %r1, %r1, %r1;\n}\n", "too many"},
        {ENTRY "bra nowhere;\n}\n", "there is no label nowhere"},
        {ENTRY ".reg .what %r;\n}\n", "line 6: a .reg of a type that is not known"},
        {ENTRY ".reg .b32 %r<4>;\nmov.u32 %r0, 1\nret;\n}\n", "line 8: expected \",\" or \";\" before \"ret\""},
        {HEAD ".global .b32 table[2] = {1, 2, 3};\n", "more initial values than elements"},
        {HEAD ".global .b64 table[9223372036854775807][9223372036854775807];\n", "a size that does not fit"},
        {ENTRY ".reg .b32 %r;\n.reg .b64 %d;\ncp.async.cg.shared.global [%r], [%d], 8;\n}\n", "copies 8 bytes at a time"},
        {ENTRY ".reg .b32 %r;\n.reg .b64 %d;\ncp.async.ca.shared.global [%r], [%d], 12;\n}\n", "copies 12 bytes at a time"},
        {HEAD ".file 1 \"unfinished\n", "a string that does not end"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char error[512] = "";
        assert_null(sg_module_load(cases[i].text, strlen(cases[i].text), error, sizeof error));
        if (!strstr(error, cases[i].sentence)) fail_msg("\"%s\" where \"%s\" was expected", error, cases[i].sentence);
    }
}

/* Any prefix of a module is read or refused, never followed beyond its end. */
static void cut_off_text_is_refused(void **state)
{
    (void)state;
    static const char text[] = ENTRY ".reg .b32 %r<3>;\n.shared .align 16 .b8 tile[64];\n.loc 1 2 3, function_name $L0, inlined_at 1 4 5\n"
                                     "@!%p bra L1; ld.shared.v2.b32 {%r0, %r1}, [tile+8];\nL1: ret;\n}\n.section .debug { .b8 1 }\n";
    for (size_t length = 0; length < sizeof text - 1; length++) {
        char error[512] = "";
        sg_module *module = sg_module_load(text, length, error, sizeof error);
        if (module)
            sg_module_unload(module);
        else
            assert_true(strlen(error) > 0);
    }
}

static sg_status run(const char *text, uint32_t *result)
{
    char error[512] = "";
    sg_properties properties;
    assert_true(sg_properties_named("h100", &properties));
    sg_device *device = sg_device_create(0, &properties);
    sg_module *module = sg_module_load(text, strlen(text), error, sizeof error);
    if (!module) fail_msg("%s", error);
    uint64_t out = sg_memory_allocate(device, SG_MEMORY_DEVICE, 128, "test");
    assert_true(sg_memory_fill(out, 0, 128, "test"));
    const void *arguments[] = {&out};
    sg_launch launch = {.grid = {1, 1, 1}, .block = {32, 1, 1}, .cluster = {1, 1, 1}, .arguments = arguments};
    sg_status status = sg_execute(device, sg_module_function(module, "kernel"), &launch);
    memcpy(result, sg_memory_read(out, 128, "test"), 128);
    assert_true(sg_memory_free(out));
    sg_module_unload(module);
    sg_device_destroy(device);
    return status;
}

#define OWN_PLACE                                                                                                                          \
    ".reg .b64 %o;\n.reg .b32 %r<8>;\n.reg .pred %p;\nld.param.u64 %o, [out];\nmov.u32 %r7, %tid.x;\nmad.wide.u32 %o, %r7, 4, %o;\n"

static void unknown_instructions_matter_when_they_are_reached(void **state)
{
    (void)state;
    uint32_t result[32];
    assert_int_equal(run(ENTRY OWN_PLACE "bra OVER;\nfrobnicate.b32 %r0, %r1;\nOVER: st.global.u32 [%o], 7;\n}\n", result), SG_OK);
    assert_int_equal(result[31], 7);
    int64_t before = sg_findings();
    assert_int_equal(run(ENTRY OWN_PLACE "frobnicate.b32 %r0, %r1;\n}\n", result), SG_ILLEGAL_INSTRUCTION);
    assert_int_equal(sg_findings(), before + 1);
}

static void variables_have_their_values_and_addresses(void **state)
{
    (void)state;
    static const uint32_t sums[] = {40, 50, 60, 30};
    uint32_t result[32];
    assert_int_equal(run(HEAD ".const .align 4 .b32 numbers[4] = {10, 20, 30};\n.global .align 8 .u64 to = generic(numbers)+8;\n"
                              ".visible .entry kernel(.param .u64 out)\n{\n" OWN_PLACE ".reg .b64 %a;\nand.b32 %r1, %r7, 3;\n"
                              "mov.u64 %a, numbers;\nmad.wide.u32 %a, %r1, 4, %a;\nld.const.u32 %r0, [%a];\n"
                              "ld.global.u64 %a, [to];\nld.u32 %r2, [%a];\nadd.u32 %r0, %r0, %r2;\nst.global.u32 [%o], %r0;\nret;\n}\n",
                         result),
                     SG_OK);
    for (uint32_t i = 0; i < 32; i++) assert_int_equal(result[i], sums[i % 4]);
}

static void tables_of_branches_part_lanes(void **state)
{
    (void)state;
    uint32_t result[32];
    assert_int_equal(run(ENTRY OWN_PLACE "and.b32 %r1, %r7, 1;\nTABLE: .branchtargets EVEN, ODD;\nbrx.idx %r1, TABLE;\n"
                                         "EVEN: mov.u32 %r0, 100; bra JOIN;\nODD: mov.u32 %r0, 200;\nJOIN: st.global.u32 [%o], %r0;\nret;\n}\n",
                         result),
                     SG_OK);
    for (uint32_t i = 0; i < 32; i++) assert_int_equal(result[i], i % 2 ? 200 : 100);
}

/* A lane that waits for another lane of its warp: the other must get its turn. */
static void spinning_lanes_let_others_pass(void **state)
{
    (void)state;
    uint32_t result[32];
    assert_int_equal(run(ENTRY OWN_PLACE ".shared .align 4 .b32 flag;\nsetp.ne.u32 %p, %r7, 0;\n@!%p st.volatile.shared.u32 [flag], 0;\nbar.warp.sync -1;\n"
                                         "@!%p bra WAIT;\nbra.uni GIVE;\nWAIT: ld.volatile.shared.u32 %r0, [flag];\nsetp.eq.u32 %p, %r0, 0;\n"
                                         "@%p bra WAIT;\nbra JOIN;\nGIVE: mov.u32 %r0, 5;\nst.volatile.shared.u32 [flag], 5;\n"
                                         "JOIN: st.global.u32 [%o], %r0;\nret;\n}\n",
                         result),
                     SG_OK);
    for (uint32_t i = 0; i < 32; i++) assert_int_equal(result[i], 5);
}

/* For cases of one test: a place is reported once, so that each needs lines of its own. */
static const char *empty_lines(size_t count)
{
    static char lines[256];
    memset(lines, '\n', count);
    lines[count] = 0;
    return lines;
}

/* A load may be wider than what its values are: only what it says it uses must have been written. */
static void padding_may_be_read_where_it_is_not_used(void **state)
{
    (void)state;
    static const struct {
        const char *pragma;
        int findings;
    } cases[] = {{"", 1}, {".pragma \"used_bytes_mask 4095\";\n", 0}, {".pragma \"used_bytes_mask 0x1fff\";\n", 1},
                 {"\n.pragma \"nounroll\";\n", 1}}; /* a line of its own each: it is reported once */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        uint32_t result[32];
        const int64_t before = sg_findings();
        snprintf(text, sizeof text,
                 "%sst.shared.v2.u32 [padded], {%%r7, 2};\nst.shared.u32 [padded+8], 3;\n%sld.shared.v4.u32 {%%r0, %%r1, %%r2, %%r3}, [padded];\n"
                 "add.u32 %%r1, %%r1, %%r2;\nst.global.u32 [%%o], %%r1;\nret;\n}\n",
                 ENTRY OWN_PLACE ".shared .align 16 .b8 padded[16];\nsetp.ne.u32 %p, %r7, 0;\n@%p exit;\n", cases[i].pragma);
        assert_int_equal(run(text, result), SG_OK);
        assert_int_equal(result[0], 5);
        assert_int_equal(sg_findings() - before, cases[i].findings);
    }
}

/* Warps hand registers to each other through a pool: what nobody gave cannot be taken, and a warpgroup asks for one number. */
static void registers_are_taken_from_those_given(void **state)
{
    (void)state;
    static const struct {
        int at_start, given, taken, odd; /* given: down to; odd: what one warp of the takers asks for instead */
        sg_status status;
        const char *said;
    } cases[] = {
        {168, 40, 232, 232, SG_OK, NULL},
        {168, 152, 232, 232, SG_TIMEOUT, "waits for ever"},
        {0, 152, 232, 232, SG_OK, NULL}, /* unknown */
        {168, 40, 160, 160, SG_OK, "160 registers, which is less than the 168 that it has"},
        {168, 40, 224, 232, SG_OK, "of its warpgroup asks for"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[2048], error[512] = "";
        int64_t times, before = sg_findings();
        snprintf(text, sizeof text,
                 HEAD "%s.visible .entry kernel()\n{\n.reg .b32 %%r<4>;\n.reg .pred %%p;\nmov.u32 %%r0, %%tid.x;\nsetp.lt.u32 %%p, %%r0, 128;\n@%%p bra GIVE;\n"
                      "setp.ge.u32 %%p, %%r0, 224;\n@%%p bra ODD;\nsetmaxnreg.inc.sync.aligned.u32 %d;\nret;\nODD: setmaxnreg.inc.sync.aligned.u32 %d;\nret;\n"
                      "GIVE: setmaxnreg.dec.sync.aligned.u32 %d;\nret;\n}\n",
                 empty_lines(40 + 20 * i),
                 cases[i].taken, cases[i].odd, cases[i].given);
        sg_properties properties;
        assert_true(sg_properties_named("h100", &properties));
        sg_device *device = sg_device_create(0, &properties);
        sg_module *module = sg_module_load(text, strlen(text), error, sizeof error);
        if (!module) fail_msg("%s", error);
        sg_module_resources(module, "kernel", &(sg_resources){.registers = cases[i].at_start});
        sg_launch launch = {.grid = {1, 1, 1}, .block = {256, 1, 1}, .cluster = {1, 1, 1}};
        assert_int_equal(sg_execute(device, sg_module_function(module, "kernel"), &launch), cases[i].status);
        bool said = false;
        for (int64_t f = before; f < sg_findings(); f++) said |= cases[i].said && strstr(sg_finding_text(f, &times), cases[i].said);
        if (!cases[i].said != (sg_findings() == before) || (cases[i].said && !said)) fail_msg("case %d", (int)i);
        sg_module_unload(module);
        sg_device_destroy(device);
    }
}

/* However deep code was inlined: a finding says what is wrong, where, and in which kernel's line it all began. */
static void findings_keep_their_reason_in_deep_code(void **state)
{
    (void)state;
    enum { DEPTH = 40 };
    char text[32768];
    uint32_t result[32];
    int64_t times, before = sg_findings();
    size_t length = (size_t)snprintf(text, sizeof text, "%s", HEAD ".file 1 \"/a/folder/whose/name/is/as/long/as/those/of/cutlass/headers/mostly/are/innermost.hpp\"\n"
                                     ".file 2 \"/a/folder/whose/name/is/as/long/as/those/of/cutlass/headers/mostly/are/outermost.cu\"\n"
                                     ".visible .entry kernel(.param .u64 out)\n{\n" OWN_PLACE ".loc 2 1000 1\n");
    for (int d = 1; d < DEPTH; d++)
        length += (size_t)snprintf(text + length, sizeof text - length, ".loc 1 %d 1, function_name $L0, inlined_at %d %d 1\n", 1000 + d, d > 1 ? 1 : 2, 999 + d);
    snprintf(text + length, sizeof text - length, ".local .align 4 .b8 frame[8];\nld.local.u32 %%r1, [frame];\nst.global.u32 [%%o], %%r1;\nret;\n}\n");
    assert_int_equal(run(text, result), SG_OK);
    assert_int_equal(sg_findings(), before + 1);
    const char *said = sg_finding_text(before, &times);
    static const char *const parts[] = {"innermost.hpp:1039", "outermost.cu:1000", "never written: local memory"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(said, parts[i])) fail_msg("no \"%s\" in \"%s\"", parts[i], said);
    assert_true(strlen(said) < 1000);
}

/* A compiler may load what it then does not choose: only a choice of what was never written is wrong. */
static void what_is_not_chosen_need_not_be_written(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int findings;
    } cases[] = {
        {"ld.local.u32 %r1, [frame+4]; selp.u32 %r0, %r1, 9, %p;", 0},
        {"ld.local.u32 %r1, [frame+4]; selp.u32 %r0, 9, %r1, %p;", 1},
        {"st.local.u32 [frame+4], 3; ld.local.u32 %r1, [frame+4]; selp.u32 %r0, 9, %r1, %p;", 0},
        {"ld.local.u32 %r1, [frame+4]; selp.u32 %r2, %r1, 9, %p; add.u32 %r0, %r1, %r2;", 1},
        {"selp.u32 %r0, %r5, 9, %p;", 0},
        {"selp.u32 %r0, 9, %r5, %p;", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[1024];
        uint32_t result[32];
        const int64_t before = sg_findings();
        snprintf(text, sizeof text, "%s%s.local .align 4 .b8 frame[8];\nsetp.ne.u32 %%p, %%r7, %%r7;\n%s\nst.global.u32 [%%o], %%r0;\nret;\n}\n",
                 ENTRY OWN_PLACE, empty_lines(10 + i), cases[i].text);
        assert_int_equal(run(text, result), SG_OK);
        if (sg_findings() - before != cases[i].findings)
            fail_msg("%s: %d findings", cases[i].text, (int)(sg_findings() - before));
    }
}

/* What ptxas would assign is not guessed: unknown registers limit nothing, neither launches nor blocks on a multiprocessor. */
static void registers_are_known_from_ptxas_alone(void **state)
{
    (void)state;
    enum { REGISTERS = 200, THREADS = 1024 };
    char text[32768], error[512] = "";
    size_t length = (size_t)snprintf(text, sizeof text, "%s.reg .b32 %%v<%d>;\n", ENTRY OWN_PLACE, REGISTERS + 1);
    for (int r = 0; r < REGISTERS; r++)
        length += (size_t)snprintf(text + length, sizeof text - length, "ld.volatile.global.u32 %%v%d, [%%o];\n", r);
    for (int r = 1; r < REGISTERS; r++)
        length += (size_t)snprintf(text + length, sizeof text - length, "add.u32 %%v0, %%v0, %%v%d;\n", r);
    snprintf(text + length, sizeof text - length, "st.global.u32 [%%o], %%v0;\nret;\n}\n");
    sg_properties properties;
    sg_function_info info;
    assert_true(sg_properties_named("h100", &properties));
    sg_device *device = sg_device_create(0, &properties);
    sg_module *module = sg_module_load(text, strlen(text), error, sizeof error);
    if (!module) fail_msg("%s", error);
    const sg_function *kernel = sg_module_function(module, "kernel");
    sg_function_describe(kernel, &info);
    assert_int_equal(info.registers, 0);
    assert_in_range(info.places, REGISTERS, 255);
    assert_int_equal(sg_occupancy(device, kernel, THREADS, 0), 2);
    sg_module_resources(module, "kernel", &(sg_resources){.registers = 128});
    assert_int_equal(sg_occupancy(device, kernel, THREADS, 0), 0);
    sg_module_unload(module);
    sg_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_text_is_refused_with_its_line),
        cmocka_unit_test(cut_off_text_is_refused),
        cmocka_unit_test(unknown_instructions_matter_when_they_are_reached),
        cmocka_unit_test(variables_have_their_values_and_addresses),
        cmocka_unit_test(tables_of_branches_part_lanes),
        cmocka_unit_test(spinning_lanes_let_others_pass),
        cmocka_unit_test(registers_are_known_from_ptxas_alone),
        cmocka_unit_test(what_is_not_chosen_need_not_be_written),
        cmocka_unit_test(findings_keep_their_reason_in_deep_code),
        cmocka_unit_test(registers_are_taken_from_those_given),
        cmocka_unit_test(padding_may_be_read_where_it_is_not_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
