/* wmma: matrices as fragments whose layout is the device's own business. Ours: element e of a matrix, row by row, is in lane e modulo 32,
   place e/32; where a fragment has more places than elements, the rest repeats them, as on hardware. */
#include "numbers/mma.h"
#include "engine/finding.h"
#include "engine/lanes.h"

#include <stdio.h>
#include <string.h>

typedef struct matrix {
    int rows, columns, bits; /* bits of an element */
} matrix;

static bool whole_warp(warp *w, const insn *i, uint32_t mask)
{
    if (mask == UINT32_MAX) return true;
    warp_finding(w, i, __builtin_ctz(mask), "barrier", "only lanes %08x run it; it takes the whole warp", mask);
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    return false;
}

static int bits_of(ptx_type type) { return type == T_F16 || type == T_BF16 ? 16 : 32; }

/* which: 'a' is m × k, 'b' k × n, 'c' and 'd' m × n. */
static matrix matrix_of(const insn *i, char which, ptx_type type)
{
    const int *s = i->shape;
    return (matrix){which == 'b' ? s[2] : s[0], which == 'a' ? s[2] : s[1], bits_of(type)};
}

static uint32_t get(const warp *w, const operand *registers, matrix m, int element)
{
    int place = element / LANES, lane = element % LANES;
    if (m.bits == 32) return lanes32(w, &registers[place])[lane];
    return lanes32(w, &registers[place / 2])[lane] >> (place % 2 * 16) & 0xffff;
}

static void set(const warp *w, const operand *registers, matrix m, int lane, int place, uint32_t value)
{
    uint32_t *at = &lanes32(w, &registers[m.bits == 32 ? place : place / 2])[lane];
    int shift = m.bits == 32 ? 0 : place % 2 * 16;
    *at = m.bits == 32 ? value : (*at & ~(0xffffu << shift)) | value << shift;
}

/* ---- load and store ----------------------------------------------------------------------------------------------------------- */

/* Where the elements of one place lie in memory, with the stride between rows, or columns, of the last source. */
static bool place_hosts(warp *w, const insn *i, matrix m, int place, access_kind kind, char *hosts[LANES])
{
    uint64_t base[LANES], addresses[LANES];
    bool by_column = i->flags & F_COL, strided = i->s_count == (i->d_count ? 2 : 1 + (int)i->imm[1] + 1);
    int64_t stride = strided ? (int64_t)lanes32(w, &i->s[i->s_count - 1])[0] : by_column ? m.rows : m.columns;
    warp_addresses(w, i, 0, i->offset[0], base);
    for (int l = 0; l < LANES; l++) {
        int element = place * LANES + l, row = element / m.columns, column = element % m.columns;
        addresses[l] = base[l] + (uint64_t)((by_column ? column * stride + row : row * stride + column) * (m.bits / 8));
    }
    warp_access access = {.insn = i, .space = i->space, .lanes = UINT32_MAX, .addresses = addresses, .bytes = m.bits / 8, .kind = kind};
    warp_access_hosts(w, &access, hosts);
    for (int l = 0; l < LANES; l++)
        if (!hosts[l]) return false;
    return true;
}

static void load_fragment(warp *w, const insn *i, uint32_t mask)
{
    matrix m = matrix_of(i, (char)i->imm[0], i->type[0]);
    int places = m.rows * m.columns / LANES, room = i->d_count * 32 / m.bits;
    char *hosts[LANES];
    if (!whole_warp(w, i, mask)) return;
    for (int place = 0; place < places; place++) {
        if (!place_hosts(w, i, m, place, ACCESS_READ, hosts)) return;
        for (int l = 0; l < LANES; l++) {
            uint32_t value = 0;
            memcpy(&value, hosts[l], (size_t)m.bits / 8);
            for (int copy = place; copy < room; copy += places) set(w, i->d, m, l, copy, value);
        }
    }
}

static void store_fragment(warp *w, const insn *i, uint32_t mask)
{
    matrix m = matrix_of(i, 'd', i->type[0]);
    char *hosts[LANES];
    if (!whole_warp(w, i, mask)) return;
    for (int place = 0; place < m.rows * m.columns / LANES; place++) {
        if (!place_hosts(w, i, m, place, ACCESS_WRITE, hosts)) return;
        for (int l = 0; l < LANES; l++) {
            uint32_t value = get(w, i->s + 1, m, place * LANES + l);
            memcpy(hosts[l], &value, (size_t)m.bits / 8);
        }
    }
}

/* ---- multiply ------------------------------------------------------------------------------------------------------------------ */

static float widened(ptx_type type, uint32_t bits)
{
    switch (type) {
    case T_F16: return sg_f16_to_float((uint16_t)bits);
    case T_BF16: return sg_bf16_to_float((uint16_t)bits);
    case T_TF32: return sg_tf32_to_float(bits);
    default: return sg_bits_float(bits);
    }
}

static void gather(const warp *w, const operand *registers, matrix m, ptx_type type, float *values)
{
    for (int e = 0; e < m.rows * m.columns; e++) values[e] = widened(type, get(w, registers, m, e));
}

/* The accumulator's and the factors' types: .d.c for fp16 factors, else .d.a.b.c. */
static ptx_type factor_type(const insn *i) { return i->type_count == 4 ? i->type[1] : T_F16; }
static ptx_type addend_type(const insn *i) { return i->type[i->type_count - 1]; }

static int registers_of(matrix m, ptx_type type, bool factor)
{
    int needed = m.rows * m.columns / LANES * m.bits / 32;
    return factor && type == T_F16 ? 8 : needed;
}

static void multiply_fragments(warp *w, const insn *i, uint32_t mask)
{
    ptx_type factor = factor_type(i), addend = addend_type(i), result = i->type[0];
    matrix a = matrix_of(i, 'a', factor), b = matrix_of(i, 'b', factor), c = matrix_of(i, 'c', addend), d = matrix_of(i, 'd', result);
    float left[32 * 16], right[32 * 16], sum[32 * 32];
    static const sg_type kinds[PTX_TYPES] = {[T_F16] = SG_TYPE_F16, [T_BF16] = SG_TYPE_BF16, [T_TF32] = SG_TYPE_TF32};
    int at_b = registers_of(a, factor, true), at_c = at_b + registers_of(b, factor, true);
    if (!whole_warp(w, i, mask)) return;
    gather(w, i->s, a, factor, left);
    gather(w, i->s + at_b, b, factor, right);
    gather(w, i->s + at_c, c, addend, sum);
    sg_mma_tile(kinds[factor], i->shape[0], i->shape[1], i->shape[2], left, right, sum, result == T_F16, (sg_mma_mode){.rounds = sg_settings.mma_rounds});
    for (int e = 0; e < d.rows * d.columns; e++)
        set(w, i->d, d, e % LANES, e / LANES, result == T_F16 ? sg_f16_from_float(sum[e]) : sg_float_bits(sum[e]));
}

/* ---- checks --------------------------------------------------------------------------------------------------------------------- */

static bool refuse(char *error, size_t bytes)
{
    snprintf(error, bytes, "a shape, types or registers that wmma does not have, or that are not known here");
    return false;
}

static bool known_shape(const insn *i, ptx_type factor)
{
    const int *s = i->shape;
    if (factor == T_TF32) return s[0] == 16 && s[1] == 16 && s[2] == 8;
    return s[2] == 16 && ((s[0] == 16 && s[1] == 16) || (s[0] == 32 && s[1] == 8) || (s[0] == 8 && s[1] == 32));
}

static bool check_load(insn *i, char which, char *error, size_t bytes)
{
    bool factor = which != 'c';
    i->imm[0] = which;
    matrix m = matrix_of(i, which, i->type[0]);
    if (!known_shape(i, factor ? i->type[0] : i->shape[2] == 8 ? T_TF32 : T_F16)) return refuse(error, bytes);
    return i->d_count == registers_of(m, i->type[0], factor) ? true : refuse(error, bytes);
}

static bool check_a(insn *i, char *error, size_t bytes) { return check_load(i, 'a', error, bytes); }
static bool check_b(insn *i, char *error, size_t bytes) { return check_load(i, 'b', error, bytes); }
static bool check_c(insn *i, char *error, size_t bytes) { return check_load(i, 'c', error, bytes); }

static bool check_store(insn *i, char *error, size_t bytes)
{
    int registers = registers_of(matrix_of(i, 'd', i->type[0]), i->type[0], false);
    i->imm[1] = registers;
    bool fits = i->s_count == 1 + registers || i->s_count == 2 + registers;
    return fits && known_shape(i, i->shape[2] == 8 ? T_TF32 : T_F16) ? true : refuse(error, bytes);
}

static bool check_multiply(insn *i, char *error, size_t bytes)
{
    if (i->type_count != 2 && i->type_count != 4) return refuse(error, bytes);
    ptx_type factor = factor_type(i), addend = addend_type(i), result = i->type[0];
    int a = registers_of(matrix_of(i, 'a', factor), factor, true), b = registers_of(matrix_of(i, 'b', factor), factor, true);
    int c = registers_of(matrix_of(i, 'c', addend), addend, false), d = registers_of(matrix_of(i, 'd', result), result, false);
    bool floats = (addend == T_F32 || addend == T_F16) && (result == T_F32 || result == T_F16);
    bool factors = factor == T_F16 || factor == T_BF16 || factor == T_TF32;
    if (!floats || !factors || !known_shape(i, factor) || i->s_count != a + b + c || i->d_count != d) return refuse(error, bytes);
    i->tensor_flops = (int64_t)2 * i->shape[0] * i->shape[1] * i->shape[2];
    return true;
}

#define LAYOUT (F_ALIGNED | F_ROW | F_COL)

const ptx_row ptx_wmma_rows[] = {
    {"wmma.load.a.sync", "f16|bf16|tf32", LAYOUT, "ms", "d=32 a s=32?", PIPE_GLOBAL, 0, load_fragment, check_a},
    {"wmma.load.b.sync", "f16|bf16|tf32", LAYOUT, "ms", "d=32 a s=32?", PIPE_GLOBAL, 0, load_fragment, check_b},
    {"wmma.load.c.sync", "f16|f32", LAYOUT, "ms", "d=32 a s=32?", PIPE_GLOBAL, 0, load_fragment, check_c},
    {"wmma.store.d.sync", "f16|f32", LAYOUT, "ms", "a s=32 s=32?", PIPE_GLOBAL, 0, store_fragment, check_store},
    {"wmma.mma.sync", "*", LAYOUT, "m", "d=32 s=32 s=32 s=32", PIPE_TENSOR, 0, multiply_fragments, check_multiply},
    {0},
};
