/* Instructions that look beyond their own lane: shuffles, votes, matrices through shared memory, mma, atomics, asynchronous
   copies, barriers with reduction. The expectation sees the operands of the whole block. */
#include "kernels/instruction.h"

#include "numbers/mma.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#define ROWS(rows) run_instructions(rows, sizeof(rows) / sizeof *(rows))

#define ROW(text, d, a, b, c, group, fill) {text, d, a, b, c, NULL, fill, EXACT, 0, 0, group}

/* `warp` is the first thread of the caller's warp, `lane` its place in it. */
#define GROUP(name, expression)                                                                                        \
    static uint64_t name(const operands *block, int thread)                                                            \
    {                                                                                                                  \
        const operands *warp = block + thread / 32 * 32;                                                               \
        const int lane = thread % 32;                                                                                  \
        (void)warp, (void)lane;                                                                                        \
        return (uint64_t)(expression);                                                                                 \
    }

/* ---- shuffles, votes, reductions ---------------------------------------------------------------------------------------- */

GROUP(shfl_idx, warp[warp[lane].b & 31].a)
GROUP(shfl_idx_8, warp[(lane & ~7) | (warp[lane].b & 7)].a)
GROUP(shfl_up_8, warp[lane % 8 >= 3 ? lane - 3 : lane].a)
GROUP(shfl_down_8, warp[lane % 8 + 5 < 8 ? lane + 5 : lane].a)
GROUP(shfl_up, warp[lane >= 3 ? lane - 3 : lane].a)
GROUP(shfl_up_in, lane >= 3)
GROUP(shfl_down, warp[lane + 5 < 32 ? lane + 5 : lane].a)
GROUP(shfl_bfly, warp[lane ^ 12].a)
GROUP(shfl_bfly_8, warp[(lane ^ 12) < (lane | 7) + 1 ? lane ^ 12 : lane].a)

static uint32_t ballot(const operands *warp)
{
    uint32_t mask = 0;
    for (int i = 0; i < 32; i++) mask |= (uint32_t)(warp[i].a & 1) << i;
    return mask;
}

GROUP(vote_ballot, ballot(warp))
GROUP(vote_any, ballot(warp) != 0)
GROUP(vote_all, ballot(warp) == UINT32_MAX)
GROUP(vote_uni, ballot(warp) == UINT32_MAX || ballot(warp) == 0)

static uint32_t like(const operands *warp, int lane)
{
    uint32_t mask = 0;
    for (int i = 0; i < 32; i++) mask |= (uint32_t)(warp[i].a == warp[lane].a) << i;
    return mask;
}

GROUP(match_any, like(warp, lane))
GROUP(match_all, like(warp, 0) == UINT32_MAX ? UINT32_MAX : 0)

#define OVER_WARP(name, type, start, step)                                                                             \
    GROUP(name, ({                                                                                                     \
              type r = start;                                                                                          \
              for (int i = 0; i < 32; i++) {                                                                           \
                  type x = (type)warp[i].a;                                                                            \
                  r = step;                                                                                            \
              }                                                                                                        \
              (uint32_t) r;                                                                                            \
          }))
OVER_WARP(redux_add, uint32_t, 0, r + x)
OVER_WARP(redux_min_s, int32_t, INT32_MAX, x < r ? x : r)
OVER_WARP(redux_max_u, uint32_t, 0, x > r ? x : r)
OVER_WARP(redux_and, uint32_t, UINT32_MAX, r &x)
OVER_WARP(redux_or, uint32_t, 0, r | x)
OVER_WARP(redux_xor, uint32_t, 0, r ^ x)

GROUP(all_lanes, UINT32_MAX)
GROUP(lower_lanes, UINT32_MAX >> (31 - lane))
GROUP(own_lane, lane)
GROUP(first_half, lane < 16 ? 0xffff : 0xffff0000)
GROUP(own_thread, thread)
GROUP(block_size, BLOCK)
GROUP(first_lane, lane == 0)

static void lanes(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW("and.b32 $b, $b, 31; shfl.sync.idx.b32 $d, $a, $b, 31, -1", 32, 32, 32, 0, shfl_idx, BITS),
        ROW("and.b32 $b, $b, 7; shfl.sync.idx.b32 $d, $a, $b, 6175, -1", 32, 32, 32, 0, shfl_idx_8, BITS),
        ROW("and.b32 $b, $b, 31; shfl.sync.idx.b32 $d, $a, $b, 6175, -1", 32, 32, 32, 0, shfl_idx_8, BITS),
        ROW("shfl.sync.up.b32 $d, $a, 3, 6144, -1", 32, 32, 0, 0, shfl_up_8, BITS),
        ROW("shfl.sync.down.b32 $d, $a, 5, 6175, -1", 32, 32, 0, 0, shfl_down_8, BITS),
        ROW("shfl.sync.up.b32 $d|$p, $a, 3, 0, -1", 32, 32, 0, 0, shfl_up, BITS),
        ROW("shfl.sync.up.b32 $t|$d, $a, 3, 0, -1", 1, 32, 0, 0, shfl_up_in, BITS),
        ROW("shfl.sync.down.b32 $d, $a, 5, 31, -1", 32, 32, 0, 0, shfl_down, BITS),
        ROW("shfl.sync.bfly.b32 $d, $a, 12, 31, -1", 32, 32, 0, 0, shfl_bfly, BITS),
        ROW("shfl.sync.bfly.b32 $d, $a, 12, 6175, -1", 32, 32, 0, 0, shfl_bfly_8, BITS),
        ROW("vote.sync.ballot.b32 $d, $a, -1", 32, 1, 0, 0, vote_ballot, BITS),
        ROW("vote.sync.any.pred $d, $a, -1", 1, 1, 0, 0, vote_any, BITS),
        ROW("vote.sync.all.pred $d, $a, -1", 1, 1, 0, 0, vote_all, BITS),
        ROW("vote.sync.uni.pred $d, $a, -1", 1, 1, 0, 0, vote_uni, BITS),
        ROW("match.any.sync.b32 $d, $a, -1", 32, 32, 0, 0, match_any, SMALL),
        ROW("match.any.sync.b64 $d, $a, -1", 32, 64, 0, 0, match_any, SMALL),
        ROW("match.all.sync.b32 $d|$p, $a, -1", 32, 32, 0, 0, match_all, SMALL),
        ROW("redux.sync.add.s32 $d, $a, -1", 32, 32, 0, 0, redux_add, BITS),
        ROW("redux.sync.min.s32 $d, $a, -1", 32, 32, 0, 0, redux_min_s, BITS),
        ROW("redux.sync.max.u32 $d, $a, -1", 32, 32, 0, 0, redux_max_u, BITS),
        ROW("redux.sync.and.b32 $d, $a, -1", 32, 32, 0, 0, redux_and, BITS),
        ROW("redux.sync.or.b32 $d, $a, -1", 32, 32, 0, 0, redux_or, BITS),
        ROW("redux.sync.xor.b32 $d, $a, -1", 32, 32, 0, 0, redux_xor, BITS),
        ROW("activemask.b32 $d", 32, 32, 0, 0, all_lanes, BITS),
        ROW("setp.lt.u32 $p, $l, 16; @$p bra L1; activemask.b32 $d; bra L2; L1: activemask.b32 $d; L2: bar.warp.sync -1", 32, 32, 0, 0,
            first_half, BITS),
        ROW("mov.u32 $d, $lanemask_le", 32, 32, 0, 0, lower_lanes, BITS),
        ROW("mov.u32 $d, $laneid", 32, 32, 0, 0, own_lane, BITS),
        ROW("mov.u32 $d, $tid.x", 32, 32, 0, 0, own_thread, BITS),
        ROW("mov.u32 $d, $ntid.x", 32, 32, 0, 0, block_size, BITS),
        ROW("elect.sync $t|$d, -1", 1, 32, 0, 0, first_lane, BITS),
    };
    ROWS(rows);
}

/* ---- matrices ---------------------------------------------------------------------------------------------------------- */

/* Lane l holds row l % 8 of matrix l / 8: 8 halves, a then b. */
static uint64_t element(const operands *warp, int matrix, int row, int column)
{
    const operands *at = &warp[matrix * 8 + row];
    return (column < 4 ? at->a >> 16 * column : at->b >> 16 * (column - 4)) & 0xffff;
}

static uint64_t fragment(const operands *warp, int lane, int matrix)
{
    return element(warp, matrix, lane / 4, lane % 4 * 2) | element(warp, matrix, lane / 4, lane % 4 * 2 + 1) << 16;
}

static uint64_t transposed_fragment(const operands *warp, int lane, int matrix)
{
    return element(warp, matrix, lane % 4 * 2, lane / 4) | element(warp, matrix, lane % 4 * 2 + 1, lane / 4) << 16;
}

GROUP(matrix_0, fragment(warp, lane, 0))
GROUP(matrices_01, fragment(warp, lane, 0) | fragment(warp, lane, 1) << 32)
GROUP(matrices_23, fragment(warp, lane, 2) | fragment(warp, lane, 3) << 32)
GROUP(matrices_01_trans, transposed_fragment(warp, lane, 0) | transposed_fragment(warp, lane, 1) << 32)
GROUP(matrices_23_trans, transposed_fragment(warp, lane, 2) | transposed_fragment(warp, lane, 3) << 32)

/* What stmatrix left in the first 8 bytes of the row that this lane addressed: registers a.lo, a.hi, b.lo, b.hi are four fragments. */
static uint64_t stored(const operands *warp, int lane, int column, bool transpose)
{
    int matrix = lane / 8, row = lane % 8;
    int owner = transpose ? column * 4 + row / 2 : row * 4 + column / 2, half = transpose ? row % 2 : column % 2;
    uint64_t word = matrix < 2 ? warp[owner].a >> 32 * matrix : warp[owner].b >> 32 * (matrix - 2);
    return word >> 16 * half & 0xffff;
}

GROUP(row_start, stored(warp, lane, 0, false) | stored(warp, lane, 1, false) << 16 | stored(warp, lane, 2, false) << 32 |
                     stored(warp, lane, 3, false) << 48)
GROUP(row_start_trans, stored(warp, lane, 0, true) | stored(warp, lane, 1, true) << 16 | stored(warp, lane, 2, true) << 32 |
                           stored(warp, lane, 3, true) << 48)

#define TO_SHARED "mad.lo.u32 $s, $l, 16, $s; st.shared.v2.b64 [$s], {$a, $b}; bar.warp.sync -1; "
#define SPLIT     "mov.b64 {$t, $u}, $a; mov.b64 {$x, $y}, $b; mad.lo.u32 $s, $l, 16, $s; "

static void matrices(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW(TO_SHARED "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {$d}, [$s]", 32, 64, 64, 0, matrix_0, BITS),
        ROW(TO_SHARED "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {$t, $u}, [$s]; mov.b64 $d, {$t, $u}", 64, 64, 64, 0, matrices_01, BITS),
        ROW(TO_SHARED "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$t, $u, $x, $y}, [$s]; mov.b64 $d, {$t, $u}", 64, 64, 64, 0,
            matrices_01, BITS),
        ROW(TO_SHARED "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$t, $u, $x, $y}, [$s]; mov.b64 $d, {$x, $y}", 64, 64, 64, 0,
            matrices_23, BITS),
        ROW(TO_SHARED "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {$t, $u, $x, $y}, [$s]; mov.b64 $d, {$t, $u}", 64, 64, 64, 0,
            matrices_01_trans, BITS),
        ROW(TO_SHARED "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {$t, $u, $x, $y}, [$s]; mov.b64 $d, {$x, $y}", 64, 64, 64, 0,
            matrices_23_trans, BITS),
        ROW(SPLIT "stmatrix.sync.aligned.m8n8.x4.shared.b16 [$s], {$t, $u, $x, $y}; bar.warp.sync -1; ld.shared.b64 $d, [$s]", 64, 64,
            64, 0, row_start, BITS),
        ROW(SPLIT "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [$s], {$t, $u, $x, $y}; bar.warp.sync -1; ld.shared.b64 $d, [$s]", 64,
            64, 64, 0, row_start_trans, BITS),
    };
    ROWS(rows);
}

/* mma's registers from the operands: a is a.lo a.hi b.lo b.hi, b is c.lo c.hi, the accumulator 0; the result's registers 0 and 1, or 2
   and 3. The arithmetic has its own tests; here it is the operands' way in and out. */
static uint64_t product(const operands *warp, int lane, int m, int k, sg_type accumulator, sg_type a, sg_type b, int first)
{
    static uint32_t registers[10][32]; /* one program, one thread */
    const sg_mma *mma = sg_mma_find(m, 8, k, accumulator, a, b);
    assert_non_null(mma);
    for (int i = 0; i < 32; i++)
        for (int half = 0; half < 2; half++) {
            registers[half][i] = (uint32_t)(warp[i].a >> 32 * half);
            registers[2 + half][i] = (uint32_t)(warp[i].b >> 32 * half);
            registers[4 + half][i] = (uint32_t)(warp[i].c >> 32 * half);
        }
    const void *ra[] = {registers[0], registers[1], registers[2], registers[3]}, *rb[] = {registers[4], registers[5]};
    for (int i = 6; i < 10; i++) memset(registers[i], 0, sizeof registers[i]);
    void *rd[] = {registers[6], registers[7], registers[8], registers[9]};
    mma->run(mma, rd, ra, rb, (const void *const *)rd, (sg_mma_mode){0});
    return registers[6 + first][lane] | (uint64_t)registers[7 + first][lane] << 32;
}

GROUP(f16_k16_low, product(warp, lane, 16, 16, SG_TYPE_F32, SG_TYPE_F16, SG_TYPE_F16, 0))
GROUP(f16_k16_high, product(warp, lane, 16, 16, SG_TYPE_F32, SG_TYPE_F16, SG_TYPE_F16, 2))
GROUP(f16_k16_half, product(warp, lane, 16, 16, SG_TYPE_F16, SG_TYPE_F16, SG_TYPE_F16, 0))
GROUP(f16_k8, product(warp, lane, 16, 8, SG_TYPE_F32, SG_TYPE_F16, SG_TYPE_F16, 0))
GROUP(bf16_k16, product(warp, lane, 16, 16, SG_TYPE_F32, SG_TYPE_BF16, SG_TYPE_BF16, 2))
GROUP(bf16_k8, product(warp, lane, 16, 8, SG_TYPE_F32, SG_TYPE_BF16, SG_TYPE_BF16, 0))
GROUP(tf32_k8, product(warp, lane, 16, 8, SG_TYPE_F32, SG_TYPE_TF32, SG_TYPE_TF32, 2))
GROUP(tf32_k4, product(warp, lane, 16, 4, SG_TYPE_F32, SG_TYPE_TF32, SG_TYPE_TF32, 0))
GROUP(e4m3_k32, product(warp, lane, 16, 32, SG_TYPE_F32, SG_TYPE_E4M3, SG_TYPE_E5M2, 2))
GROUP(s8_k32, product(warp, lane, 16, 32, SG_TYPE_S32, SG_TYPE_S8, SG_TYPE_U8, 2))
GROUP(s8_k16, product(warp, lane, 16, 16, SG_TYPE_S32, SG_TYPE_S8, SG_TYPE_S8, 0))
GROUP(s8_m8, product(warp, lane, 8, 16, SG_TYPE_S32, SG_TYPE_S8, SG_TYPE_S8, 0))
GROUP(s4_k64, product(warp, lane, 16, 64, SG_TYPE_S32, SG_TYPE_S4, SG_TYPE_U4, 0))

#define A4 "mov.b64 {$m0, $m1}, $a; mov.b64 {$m2, $m3}, $b; mov.b64 {$m4, $m5}, $c; mov.u32 $t, 0; "
#define MMA(shape, types, a, b, c, d, result, group, fill)                                                             \
    ROW(".reg .b32 $m<6>; .reg .b32 $r<4>; " A4 "mma.sync.aligned." shape ".row.col." types " " d ", " a ", " b ", " c         \
        "; mov.b64 $d, " result,                                                                                       \
        64, 64, 64, 64, group, fill)
#define TWO_A   "{$m0, $m1}"
#define FOUR_A  "{$m0, $m1, $m2, $m3}"
#define ONE_B   "{$m4}"
#define TWO_B   "{$m4, $m5}"
#define TWO_C   "{$t, $t}"
#define FOUR_C  "{$t, $t, $t, $t}"
#define TWO_D   "{$r0, $r1}"
#define FOUR_D  "{$r0, $r1, $r2, $r3}"
#define LOW_D   "{$r0, $r1}"
#define HIGH_D  "{$r2, $r3}"

static void products(void **state)
{
    (void)state;
    static const instruction rows[] = {
        MMA("m16n8k16", "f32.f16.f16.f32", FOUR_A, TWO_B, FOUR_C, FOUR_D, LOW_D, f16_k16_low, HALVES),
        MMA("m16n8k16", "f32.f16.f16.f32", FOUR_A, TWO_B, FOUR_C, FOUR_D, HIGH_D, f16_k16_high, HALVES),
        MMA("m16n8k16", "f16.f16.f16.f16", FOUR_A, TWO_B, TWO_C, TWO_D, LOW_D, f16_k16_half, HALVES),
        MMA("m16n8k8", "f32.f16.f16.f32", TWO_A, ONE_B, FOUR_C, FOUR_D, LOW_D, f16_k8, HALVES),
        MMA("m16n8k16", "f32.bf16.bf16.f32", FOUR_A, TWO_B, FOUR_C, FOUR_D, HIGH_D, bf16_k16, HALVES),
        MMA("m16n8k8", "f32.bf16.bf16.f32", TWO_A, ONE_B, FOUR_C, FOUR_D, LOW_D, bf16_k8, HALVES),
        MMA("m16n8k8", "f32.tf32.tf32.f32", FOUR_A, TWO_B, FOUR_C, FOUR_D, HIGH_D, tf32_k8, FLOATS),
        MMA("m16n8k4", "f32.tf32.tf32.f32", TWO_A, ONE_B, FOUR_C, FOUR_D, LOW_D, tf32_k4, FLOATS),
        MMA("m16n8k32", "f32.e4m3.e5m2.f32", FOUR_A, TWO_B, FOUR_C, FOUR_D, HIGH_D, e4m3_k32, BITS),
        MMA("m16n8k32", "s32.s8.u8.s32", FOUR_A, TWO_B, FOUR_C, FOUR_D, HIGH_D, s8_k32, BITS),
        MMA("m16n8k16", "s32.s8.s8.s32", TWO_A, ONE_B, FOUR_C, FOUR_D, LOW_D, s8_k16, BITS),
        MMA("m8n8k16", "s32.s8.s8.s32", "{$m0}", ONE_B, TWO_C, TWO_D, LOW_D, s8_m8, BITS),
        MMA("m16n8k64", "s32.s4.u4.s32", FOUR_A, TWO_B, FOUR_C, FOUR_D, LOW_D, s4_k64, BITS),
    };
    ROWS(rows);
}

/* ---- memory ------------------------------------------------------------------------------------------------------------ */

GROUP(own_a, warp[lane].a)
GROUP(own_a_low, (uint32_t)warp[lane].a)
GROUP(own_b, warp[lane].b)
GROUP(neighbour, warp[lane ^ 1].a)
GROUP(signed_byte, (uint32_t)(int8_t)(warp[lane].a >> 8))
GROUP(unsigned_half, warp[lane].a >> 16 & 0xffff)
GROUP(first_8_of_16, 0)
GROUP(old, (uint32_t)warp[lane].a)
#define ATOMIC(name, type, expression)                                                                                 \
    GROUP(name, ({                                                                                                     \
              type x = (type)warp[lane].a, y = (type)warp[lane].b;                                                     \
              (uint32_t)(expression);                                                                                  \
          }))
ATOMIC(atomic_add, uint32_t, x + y)
ATOMIC(atomic_and, uint32_t, x &y)
ATOMIC(atomic_or, uint32_t, x | y)
ATOMIC(atomic_xor, uint32_t, x ^ y)
ATOMIC(atomic_min, int32_t, x < y ? x : y)
ATOMIC(atomic_max, uint32_t, x > y ? x : y)
ATOMIC(atomic_inc, uint32_t, x >= y ? 0 : x + 1)
ATOMIC(atomic_dec, uint32_t, x == 0 || x > y ? y : x - 1)
GROUP(atomic_exch, (uint32_t)warp[lane].b)
ATOMIC(atomic_cas, uint32_t, x == 5 ? y : x)
OVER_WARP(warp_total, uint32_t, 0, r + x)

static uint64_t block_count(const operands *block, int thread)
{
    uint64_t count = 0;
    (void)thread;
    for (int i = 0; i < BLOCK; i++) count += block[i].a & 1;
    return count;
}

static uint64_t block_or(const operands *block, int thread) { return block_count(block, thread) > 0; }
static uint64_t block_and(const operands *block, int thread) { return block_count(block, thread) == BLOCK; }

/* $n is read in each round behind a write that its guard leaves out: 16 registers that live only after that read take no place of its. */
GROUP(kept_over_rounds, (uint32_t)warp[lane].a ^ 2)
#define EACH_OF_16(m) m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9) m(10) m(11) m(12) m(13) m(14) m(15)
#define BORN(n)       "add.u32 $m" #n ", $x, " #n "; "
#define DIES(n)       "add.u32 $y, $y, $m" #n "; "
#define KEPT                                                                                                           \
    ".reg .b32 $m<16>, $n; mov.b32 $n, $a; mov.b32 $u, 0; L1: setp.gt.u32 $p, $u, 5; @$p mov.b32 $n, $b; xor.b32 $x, $n, $u; " \
    "mov.b32 $y, 0; " EACH_OF_16(BORN) EACH_OF_16(DIES) "add.u32 $u, $u, 1; setp.lt.u32 $q, $u, 3; @$q bra L1; mov.b32 $d, $x"

#define OWN   "mad.lo.u32 $s, $l, 32, $s; "
#define AT(op, text) ROW(OWN "st.shared.b32 [$s], $a; " text "; ld.shared.b32 $d, [$s]", 32, 32, 32, 0, op, BITS)
#define COPY(size, rest)                                                                                               \
    OWN "cp.async.c" size ".shared.global [$s], [$at]" rest "; cp.async.commit_group; cp.async.wait_group 0; "

static void memory(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW("ld.global.v2.b64 {$d, $v}, [$at]", 64, 64, 64, 0, own_a, BITS),
        ROW("ld.global.v4.b32 {$t, $u, $x, $y}, [$at]; mov.b64 $d, {$x, $y}", 64, 64, 64, 0, own_b, BITS),
        ROW("ld.global.nc.L1::no_allocate.v2.b64 {$v, $d}, [$at]", 64, 64, 64, 0, own_b, BITS),
        ROW("ld.b64 $d, [$at]", 64, 64, 64, 0, own_a, BITS),
        ROW("ld.volatile.global.s8 $d, [$at+1]", 32, 64, 0, 0, signed_byte, BITS),
        ROW("ld.global.u16 $d, [$at+2]", 32, 64, 0, 0, unsigned_half, BITS),
        ROW("ld.relaxed.gpu.global.b64 $d, [$at]", 64, 64, 0, 0, own_a, BITS),
        ROW(OWN "st.shared.b64 [$s], $a; bar.sync 0; xor.b32 $s, $s, 32; ld.shared.b64 $d, [$s]", 64, 64, 0, 0, neighbour, BITS),
        ROW(OWN "st.shared.b64 [$s], $a; bar.warp.sync -1; xor.b32 $s, $s, 32; ld.shared.b64 $d, [$s]", 64, 64, 0, 0, neighbour, BITS),
        ROW(OWN "cvt.u64.u32 $v, $s; cvta.shared.u64 $v, $v; st.b64 [$v], $a; ld.shared.b64 $d, [$s]", 64, 64, 0, 0, own_a, BITS),
        ROW(".local .align 16 .b8 private[64]; and.b32 $t, $i, 7; mul.lo.u32 $t, $t, 8; mov.u32 $u, private; add.u32 $u, $u, $t; "
            "st.local.b64 [$u], $a; ld.local.b64 $d, [$u]",
            64, 64, 0, 0, own_a, BITS),
        ROW(COPY("a", ", 16") "ld.shared.b64 $d, [$s+8]", 64, 64, 64, 0, own_b, BITS),
        ROW(COPY("g", ", 16") "ld.shared.b64 $d, [$s+8]", 64, 64, 64, 0, own_b, BITS),
        ROW(COPY("a", ", 8") "ld.shared.b64 $d, [$s]", 64, 64, 64, 0, own_a, BITS),
        ROW(COPY("a", ", 4") "ld.shared.b32 $d, [$s]", 32, 64, 64, 0, own_a_low, BITS),
        /* A copy arrives as late as its wait allows. */
        ROW(OWN "st.shared.b64 [$s], $b; cp.async.ca.shared.global [$s], [$at], 8; cp.async.commit_group; cp.async.wait_group 1; "
                "ld.shared.b64 $d, [$s]; cp.async.wait_group 0",
            64, 64, 64, 0, own_b, BITS),
        ROW(COPY("g", ", 16, 8") "ld.shared.b64 $d, [$s+8]", 64, 64, 64, 0, first_8_of_16, BITS),
        ROW(COPY("g", ", 16, 8") "ld.shared.b64 $d, [$s]", 64, 64, 64, 0, own_a, BITS),
        AT(atomic_add, "atom.shared.add.u32 $t, [$s], $b"), AT(atomic_and, "atom.shared.and.b32 $t, [$s], $b"),
        AT(atomic_or, "atom.shared.or.b32 $t, [$s], $b"), AT(atomic_xor, "atom.shared.xor.b32 $t, [$s], $b"),
        AT(atomic_min, "atom.shared.min.s32 $t, [$s], $b"), AT(atomic_max, "atom.shared.max.u32 $t, [$s], $b"),
        AT(atomic_inc, "atom.shared.inc.u32 $t, [$s], $b"), AT(atomic_dec, "atom.shared.dec.u32 $t, [$s], $b"),
        AT(atomic_exch, "atom.shared.exch.b32 $t, [$s], $b"), AT(atomic_cas, "atom.shared.cas.b32 $t, [$s], 5, $b"),
        AT(atomic_add, "red.shared.add.u32 [$s], $b"),
        ROW(OWN "st.shared.b32 [$s], $a; atom.shared.add.u32 $d, [$s], $b", 32, 32, 32, 0, old, BITS),
        ROW("atom.global.add.u32 $t, [$at], $b; ld.relaxed.gpu.global.u32 $d, [$at]", 32, 32, 32, 0, atomic_add, SMALL),
        ROW("setp.ne.u32 $p, $l, 0; @$p bra L1; st.shared.u32 [$s], 0; L1: bar.warp.sync -1; red.shared.add.u32 [$s], $a; "
            "bar.warp.sync -1; ld.shared.u32 $d, [$s]",
            32, 32, 0, 0, warp_total, BITS),
        ROW(KEPT, 32, 32, 32, 0, kept_over_rounds, BITS),
        ROW("bar.red.popc.u32 $d, 0, $a", 32, 1, 0, 0, block_count, BITS),
        ROW("bar.red.or.pred $d, 0, $a", 1, 1, 0, 0, block_or, BITS),
        ROW("bar.red.and.pred $d, 0, $a", 1, 1, 0, 0, block_and, BITS),
    };
    ROWS(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lanes),
        cmocka_unit_test(matrices),
        cmocka_unit_test(products),
        cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
