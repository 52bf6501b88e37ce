/* Writes a PTX kernel around each row, runs it on a device of its own, and compares. */
#include "kernels/instruction.h"

#include "engine/engine.h"
#include "numbers/numbers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum { BLOCKS = 24, LANES = BLOCK * BLOCKS };

/* ---- operands ----------------------------------------------------------------------------------------------------------- */

static const uint64_t special_bits[] = {0, 1, 2, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000,
                                        0x12345678, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff,
                                        0x100000000, 0x123456789abcdef0, 0x7fffffffffffffff, 0x8000000000000000,
                                        0xffffffff00000000, 0xffffffffffffffff};
static const uint64_t special_floats[] = {0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x3effffff, 0x3f000000, 0x3f7fffff,
                                          0x3f800000, 0xbf800000, 0x3fc00000, 0xbfc00000, 0x40000000, 0x40200000, 0x40490fdb,
                                          0x4b000001, 0x4effffff, 0x4f000000, 0xcf000000, 0x4f800000, 0x5f000000, 0x33800000,
                                          0x34000000, 0x38800000, 0x477ff000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
                                          0x7fc00000, 0x7f800001};
static const uint64_t special_doubles[] = {0, 0x8000000000000000, 1, 0x000fffffffffffff, 0x0010000000000000, 0x3ff0000000000000,
                                           0xbff0000000000000, 0x3ff8000000000000, 0x4000000000000000, 0x3fe0000000000000,
                                           0x36a0000000000000, 0x380fffffffffffff, 0x41dfffffffc00000, 0x41e0000000000000,
                                           0xc1e0000000000000, 0x43dfffffffffffff, 0x43e0000000000000, 0x43f0000000000000,
                                           0x47efffffe0000000, 0x47effffff0000000, 0x3ff0000010000000, 0x7fefffffffffffff,
                                           0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0x4059000000000000,
                                           0x3ca0000000000000, 0x3cb0000000000000, 0x4340000000000001, 0x40f86a0000000000,
                                           0x3ff199999999999a, 0xc00921fb54442d18};
static const uint64_t special_halves[] = {0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x3bff, 0x3c00, 0xbc00, 0x3c01, 0x3e00, 0x4000,
                                          0x4248, 0x4900, 0x5640, 0x63ff, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 0x3555,
                                          0xb555, 0x3800, 0x1400, 0x7800, 0xf800, 0x3f80, 0xbf80, 0x4170, 0x0080};
enum { SPECIALS = 32 };

static uint64_t random_word(void) { return (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ (uint64_t)random(); }

static uint64_t special(inputs fill, int i)
{
    switch (fill) {
    case FLOATS: return special_floats[i] | special_floats[(i + 9) % SPECIALS] << 32;
    case DOUBLES: return special_doubles[i];
    case HALVES: return special_halves[i] | special_halves[(i + 5) % SPECIALS] << 16;
    case SMALL: return (uint64_t)i;
    default: return special_bits[i];
    }
}

/* Random floats of moderate size half of the time, any pattern otherwise. */
static uint64_t random_operand(inputs fill)
{
    uint64_t word = random_word();
    switch (fill) {
    case FLOATS: return word & 1 ? word : (word & 0x807fffff807fffff) | (0x38000000 + (word >> 33 & 0x0f800000));
    case DOUBLES: return word & 1 ? word : (word & 0x800fffffffffffff) | (0x3f00000000000000 + (word >> 7 & 0x01f0000000000000));
    case SMALL: return word % 64;
    default: return word;
    }
}

static uint64_t masked(uint64_t value, int bits) { return bits == 64 ? value : value & ((UINT64_C(1) << bits) - 1); }

static void fill_lanes(const instruction *row, operands *lanes)
{
    for (int i = 0; i < LANES; i++) {
        bool pairs = i < SPECIALS * SPECIALS;
        lanes[i].a = masked(pairs ? special(row->fill, i % SPECIALS) : random_operand(row->fill), row->a);
        lanes[i].b = row->b ? masked(pairs ? special(row->fill, i / SPECIALS) : random_operand(row->fill), row->b) : 0;
        lanes[i].c = row->c ? masked(i % 3 ? random_operand(row->fill) : special(row->fill, i / 3 % SPECIALS), row->c) : 0;
        lanes[i].d = 0;
    }
}

/* ---- the kernel ------------------------------------------------------------------------------------------------------- */

typedef struct text {
    char bytes[8192];
    size_t used;
} text;

__attribute__((format(printf, 2, 3))) static void add(text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    t->used += (size_t)vsnprintf(t->bytes + t->used, sizeof t->bytes - t->used, format, arguments);
    va_end(arguments);
    assert_true(t->used < sizeof t->bytes);
}

static void load_operand(text *t, char name, int bits, int offset)
{
    if (bits == 1) {
        add(t, "\tld.global.b32 %%t, [%%at+%d];\n\tsetp.ne.s32 %%%c, %%t, 0;\n", offset, name);
    } else if (bits == 8) {
        add(t, "\tld.global.b16 %%%c, [%%at+%d];\n", name, offset);
    } else if (bits) {
        add(t, "\tld.global.b%d %%%c, [%%at+%d];\n", bits, name, offset);
    }
}

/* The row's text with its operands put in. */
static void substitute(text *t, const char *source)
{
    add(t, "\t");
    for (; *source; source++)
        if (*source == '$')
            add(t, "%%");
        else
            add(t, "%c", *source);
    add(t, ";\n");
}

static void write_kernel(const instruction *row, text *t)
{
    static const char *const names = "dabc";
    const int widths[] = {row->d, row->a, row->b, row->c};
    t->used = 0;
    add(t, ".version 9.0\n.target sm_90\n.address_size 64\n.visible .entry kernel(.param .u64 lanes)\n{\n");
    add(t, "\t.reg .b64 %%at, %%v;\n\t.reg .b32 %%i, %%x, %%y, %%t, %%u;\n\t.reg .pred %%p, %%q;\n\t.reg .b16 %%h, %%k;\n");
    for (int i = 0; i < 4; i++)
        if (widths[i] == 1)
            add(t, "\t.reg .pred %%%c;\n", names[i]);
        else if (widths[i])
            add(t, "\t.reg .b%d %%%c;\n", widths[i] == 8 ? 16 : widths[i], names[i]);
    add(t, "\tmov.u32 %%x, %%ctaid.x;\n\tmov.u32 %%y, %%ntid.x;\n\tmov.u32 %%i, %%tid.x;\n\tmad.lo.s32 %%i, %%x, %%y, %%i;\n");
    add(t, "\t.shared .align 128 .b8 memory[4096];\n\t.reg .b32 %%s, %%l;\n\tmov.u32 %%l, %%tid.x;\n\tshr.u32 %%t, %%l, 5;\n");
    add(t, "\tand.b32 %%l, %%l, 31;\n\tmov.u32 %%s, memory;\n\tmad.lo.u32 %%s, %%t, 1024, %%s;\n");
    add(t, "\tld.param.u64 %%at, [lanes];\n\tmad.wide.u32 %%at, %%i, %d, %%at;\n", (int)sizeof(operands));
    for (int i = 1; i < 4; i++) load_operand(t, names[i], widths[i], (i - 1) * 8);
    substitute(t, row->text);
    if (row->d == 1) add(t, "\tselp.b32 %%t, 1, 0, %%d;\n\tst.global.b32 [%%at+24], %%t;\n");
    if (row->d > 1) add(t, "\tst.global.b%d [%%at+24], %%d;\n", row->d == 8 ? 16 : row->d);
    add(t, "\tret;\n}\n");
}

static void execute(sg_device *device, const instruction *row, operands *lanes)
{
    static text source;
    char error[512] = "";
    write_kernel(row, &source);
    sg_module *module = sg_module_load(source.bytes, source.used, error, sizeof error);
    if (!module) fail_msg("%s: %s", row->text, error);
    const sg_function *function = sg_module_function(module, "kernel");
    assert_non_null(function);
    uint64_t address = sg_memory_allocate(device, SG_MEMORY_DEVICE, LANES * (int64_t)sizeof *lanes, "test");
    memcpy(sg_memory_write(address, LANES * (int64_t)sizeof *lanes, "test"), lanes, LANES * sizeof *lanes);
    const void *arguments[] = {&address};
    sg_launch launch = {.grid = {BLOCKS, 1, 1}, .block = {BLOCK, 1, 1}, .cluster = {1, 1, 1}, .arguments = arguments};
    sg_status status = sg_execute(device, function, &launch);
    if (status != SG_OK) fail_msg("%s: status %d", row->text, (int)status);
    const operands *after = sg_memory_read(address, LANES * (int64_t)sizeof *lanes, "test");
    for (int i = 0; i < LANES; i++) lanes[i].d = after[i].d; /* what the instruction did to its operands' memory is its own affair */
    assert_true(sg_memory_free(address));
    sg_module_unload(module);
}

/* ---- comparing ------------------------------------------------------------------------------------------------------------ */

static bool is_nan(uint64_t bits, int width)
{
    return width == 64 ? isnan(as_double(bits)) : width == 32 ? isnan(as_float(bits)) : false;
}

static bool is_half_nan(uint64_t half) { return (half & 0x7fff) > 0x7c00; }

static bool close_enough(const instruction *row, float got, float expected, float a)
{
    if (isnan(expected) || isnan(got)) return isnan(expected) && isnan(got);
    if (row->how == ABSOLUTE) return fabs((double)a) > row->limit || fabs((double)got - (double)expected) <= row->bound;
    if (isinf(expected) || expected == 0) return got == expected;
    return fabs((double)got - (double)expected) <= row->bound * fabs((double)expected) + 0x1p-149;
}

static bool agrees(const instruction *row, const operands *at, uint64_t expected)
{
    uint64_t got = masked(at->d, row->d);
    expected = masked(expected, row->d);
    if (got == expected) return true;
    switch (row->how) {
    case ANY_NAN: return is_nan(got, row->d) && is_nan(expected, row->d);
    case PACKED_NAN:
        for (int half = 0; half < row->d; half += 16) {
            uint64_t x = got >> half & 0xffff, y = expected >> half & 0xffff;
            if (x != y && !(is_half_nan(x) && is_half_nan(y))) return false;
        }
        return true;
    case RELATIVE:
    case ABSOLUTE: return close_enough(row, as_float(got), as_float(expected), as_float(at->a));
    default: return false;
    }
}

void run_instructions(const instruction *rows, int count)
{
    static operands lanes[LANES];
    sg_properties properties;
    assert_true(sg_properties_named("h100", &properties));
    sg_device *device = sg_device_create(0, &properties);
    int wrong = 0;
    srandom(7);
    for (const instruction *row = rows; row < rows + count; row++) {
        fill_lanes(row, lanes);
        execute(device, row, lanes);
        for (int i = 0; i < LANES; i++) {
            uint64_t expected = row->group ? row->group(lanes + i / BLOCK * BLOCK, i % BLOCK)
                                           : row->expected(lanes[i].a, lanes[i].b, lanes[i].c);
            if (agrees(row, &lanes[i], expected)) continue;
            print_error("%s: a %#llx b %#llx c %#llx gives %#llx, expected %#llx\n", row->text, (unsigned long long)lanes[i].a,
                        (unsigned long long)lanes[i].b, (unsigned long long)lanes[i].c, (unsigned long long)masked(lanes[i].d, row->d),
                        (unsigned long long)masked(expected, row->d));
            wrong++;
            break;
        }
    }
    sg_device_destroy(device);
    if (wrong) fail_msg("%d of %d instructions differ", wrong, count);
}
