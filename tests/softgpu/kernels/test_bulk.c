/* cp.async.bulk between a warp's operands in global memory, 1 KiB at lane 0's $at, and its shared memory; its barrier is at $s+1016. */
#include "kernels/instruction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <cmocka.h>

#define ROWS(rows) run_instructions(rows, sizeof(rows) / sizeof *(rows))

#define ROW(text, d, a, b, group, fill) {text, d, a, b, 0, NULL, fill, EXACT, 0, 0, group}

#define GROUP(name, expression)                                                                                        \
    static uint64_t name(const operands *block, int thread)                                                            \
    {                                                                                                                  \
        const operands *warp = block + thread / 32 * 32;                                                               \
        const int lane = thread % 32;                                                                                  \
        (void)warp, (void)lane;                                                                                        \
        return (uint64_t)(expression);                                                                                 \
    }

GROUP(a_of_lower_half, warp[lane % 16].a)
GROUP(b_from_lower_half, lane < 16 ? warp[lane].b : warp[lane].a)
GROUP(sum_in_lower_half, (uint32_t)(lane < 16 ? warp[lane].a + warp[lane].b : warp[lane].a))
GROUP(twice_added_in_lower_half, (uint32_t)(lane < 16 ? warp[lane].a + 2 * warp[lane].b : warp[lane].a))
GROUP(least_in_lower_half, (int32_t)warp[lane].b < (int32_t)warp[lane].a && lane < 16 ? warp[lane].b : warp[lane].a)

#define BARRIER "[$s+1016]"
#define BEGIN   "setp.ne.u32 $p, $l, 0; @$p bra L1; mbarrier.init.shared.b64 " BARRIER ", 1; L1: bar.warp.sync -1; "
#define ONE_LANE(label, text) "@$p bra " label "; " text "; " label ": bar.warp.sync -1; "
#define WAIT    "L9: mbarrier.try_wait.parity.shared.b64 $q, " BARRIER ", 0; @!$q bra L9; "
#define ANNOUNCE  "mbarrier.arrive.expect_tx.shared::cta.b64 $v, " BARRIER ", 512; "
#define OWN     "mad.lo.u32 $t, $l, 32, $s; "

static void loads(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW(BEGIN ONE_LANE("L2", ANNOUNCE "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$s], [$at], 512, " BARRIER) WAIT
            "and.b32 $t, $l, 15; mad.lo.u32 $t, $t, 32, $s; ld.shared.b64 $d, [$t]",
            64, 64, 64, a_of_lower_half, BITS),
        ROW(BEGIN ONE_LANE("L2", ANNOUNCE "mov.b64 $v, 0; cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes.L2::cache_hint [$s], [$at], 256, "
                                        BARRIER ", $v; cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [$s+256], [$at+256], 256, " BARRIER) WAIT
            "and.b32 $t, $l, 15; mad.lo.u32 $t, $t, 32, $s; ld.shared.b64 $d, [$t]",
            64, 64, 64, a_of_lower_half, BITS),
        ROW(BEGIN "mad.lo.u32 $t, $l, 16, $s; st.shared.v2.b64 [$t], {$a, $b}; bar.warp.sync -1; "
            ONE_LANE("L2", "mbarrier.arrive.expect_tx.shared::cta.b64 $v, " BARRIER ", 256; "
                           "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [$s+512], [$s], 256, " BARRIER) WAIT
            "and.b32 $t, $l, 15; mad.lo.u32 $t, $t, 16, $s; ld.shared.b64 $d, [$t+512]",
            64, 64, 64, a_of_lower_half, BITS),
    };
    ROWS(rows);
}

/* Words of shared memory that lanes wrote, to which two copies add what others wrote. */
static void reductions_into_shared_memory(void **state)
{
    (void)state;
#define INTO_SHARED(op, label) ONE_LANE(label, "mbarrier.arrive.expect_tx.shared::cta.b64 $v, " BARRIER ", 128; "                          \
                                        "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes." op " [$s], [$s+128], 64, " BARRIER "; "  \
                                        "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes." op " [$s], [$s+128], 64, " BARRIER)
    static const instruction rows[] = {
        ROW(BEGIN "mad.lo.u32 $t, $l, 4, $s; st.shared.b32 [$t], $a; st.shared.b32 [$t+128], $b; fence.proxy.async.shared::cta; bar.warp.sync -1; "
            INTO_SHARED("add.u32", "L2") WAIT "ld.shared.b32 $d, [$t]", 32, 32, 32, twice_added_in_lower_half, BITS),
        ROW(BEGIN "mad.lo.u32 $t, $l, 4, $s; st.shared.b32 [$t], $a; st.shared.b32 [$t+128], $b; fence.proxy.async.shared::cta; bar.warp.sync -1; "
            INTO_SHARED("min.s32", "L2") WAIT "ld.shared.b32 $d, [$t]", 32, 32, 32, least_in_lower_half, BITS),
    };
    ROWS(rows);
}

#define STORED   "st.shared.v2.b64 [$t], {$b, $a}; st.shared.v2.b64 [$t+16], {$b, $b}; fence.proxy.async.shared::cta; bar.warp.sync -1; setp.ne.u32 $p, $l, 0; "
#define FINISHED "cp.async.bulk.commit_group; cp.async.bulk.wait_group 0"
#define REDUCED  "st.shared.v4.b32 [$t], {$b, 0, 0, 0}; st.shared.v4.b32 [$t+16], {0, 0, 0, 0}; fence.proxy.async.shared::cta; bar.warp.sync -1; setp.ne.u32 $p, $l, 0; "

static void stores(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW(OWN STORED ONE_LANE("L2", "cp.async.bulk.global.shared::cta.bulk_group [$at], [$s], 512; " FINISHED) "ld.global.b64 $d, [$at]", 64, 64, 64,
            b_from_lower_half, BITS),
        ROW(OWN STORED ONE_LANE("L2", "cp.async.bulk.global.shared::cta.bulk_group [$at], [$s], 512; cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; "
                                      "st.shared.b64 [$s], 0; cp.async.bulk.wait_group 0") "ld.global.b64 $d, [$at]",
            64, 64, 64, b_from_lower_half, BITS),
        ROW(OWN REDUCED ONE_LANE("L2", "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [$at], [$s], 512; " FINISHED)
                "ld.relaxed.gpu.global.b32 $d, [$at]",
            32, 32, 32, sum_in_lower_half, BITS),
        ROW(OWN REDUCED ONE_LANE("L2", "cp.reduce.async.bulk.global.shared::cta.bulk_group.min.s32 [$at], [$s], 512; " FINISHED)
                "ld.relaxed.gpu.global.b32 $d, [$at]",
            32, 32, 32, least_in_lower_half, BITS),
    };
    ROWS(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loads),
        cmocka_unit_test(reductions_into_shared_memory),
        cmocka_unit_test(stores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
