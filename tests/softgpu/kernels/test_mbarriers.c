/* mbarrier: phases that end when all have arrived and all announced bytes have come. Each warp has a barrier of its own at $s+1016. */
#include "kernels/instruction.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <cmocka.h>

#define ROWS(rows) run_instructions(rows, sizeof(rows) / sizeof *(rows))

#define ROW(text, d, a, group) {text, d, a, 0, 0, NULL, BITS, EXACT, 0, 0, group}

#define GROUP(name, expression)                                                                                        \
    static uint64_t name(const operands *block, int thread)                                                            \
    {                                                                                                                  \
        const operands *warp = block + thread / 32 * 32;                                                               \
        const int lane = thread % 32;                                                                                  \
        (void)warp, (void)lane;                                                                                        \
        return (uint64_t)(expression);                                                                                 \
    }

GROUP(neighbour, warp[lane ^ 1].a)
GROUP(half_away, warp[lane ^ 16].a)
GROUP(before_me, 32 - lane)
GROUP(before_me_by_twos, 64 - 2 * lane)
GROUP(yes, 1)
GROUP(no, 0)
GROUP(no_then_yes, 2)

#define AT    "[$s+1016]"
#define INIT(count) "setp.ne.u32 $p, $l, 0; @$p bra L1; mbarrier.init.shared.b64 " AT ", " count "; L1: bar.warp.sync -1; "
#define PUT   "mad.lo.u32 $t, $l, 8, $s; st.shared.b64 [$t], $a; "
#define GET(distance) "xor.b32 $t, $t, " distance "; ld.shared.b64 $d, [$t]"
#define ARRIVE "mbarrier.arrive.shared.b64 $v, " AT "; "
#define WAIT(parity) "L2: mbarrier.try_wait.parity.shared.b64 $q, " AT ", " parity "; @!$q bra L2; "
#define ONE_LANE(label, text) "@$p bra " label "; " text "; " label ": bar.warp.sync -1; " /* lane 0, after INIT */

static void arrivals(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW(INIT("32") PUT ARRIVE WAIT("0") GET("8"), 64, 64, neighbour),
        ROW(INIT("32") PUT ARRIVE "L2: mbarrier.try_wait.acquire.cta.shared::cta.b64 $q, " AT ", $v; @!$q bra L2; " GET("8"), 64, 64, neighbour),
        ROW(INIT("32") PUT ARRIVE "L2: mbarrier.test_wait.shared.b64 $q, " AT ", $v; @!$q bra L2; " GET("128"), 64, 64, half_away),
        ROW(INIT("32") PUT ARRIVE "L2: mbarrier.try_wait.parity.shared.b64 $q, " AT ", 0, 1000; @!$q bra L2; " GET("8"), 64, 64, neighbour),
        ROW(INIT("32") PUT "mbarrier.arrive.release.cta.shared::cta.b64 _, " AT "; " WAIT("0") GET("8"), 64, 64, neighbour),
        ROW(INIT("32") PUT "cvt.u64.u32 $v, $s; cvta.shared.u64 $v, $v; mbarrier.arrive.b64 _, [$v+1016]; " WAIT("0") GET("8"), 64, 64, neighbour),
        ROW(INIT("32") ARRIVE "mbarrier.pending_count.b64 $d, $v", 32, 64, before_me),
        ROW(INIT("64") "mbarrier.arrive.shared.b64 $v, " AT ", 2; mbarrier.pending_count.b64 $d, $v", 32, 64, before_me_by_twos),
        ROW(INIT("64") "mbarrier.arrive.noComplete.release.cta.shared.b64 $v, " AT ", 1; " ARRIVE WAIT("0") "selp.b32 $d, 1, 0, $q", 32, 64, yes),
        ROW(INIT("32") "mbarrier.test_wait.parity.shared.b64 $d, " AT ", 1", 1, 64, yes),
        ROW(INIT("32") "mbarrier.test_wait.parity.shared.b64 $d, " AT ", 0", 1, 64, no),
        ROW(INIT("1") ONE_LANE("L3", ARRIVE "mbarrier.inval.shared.b64 " AT "; mbarrier.init.shared.b64 " AT ", 5") "mbarrier.test_wait.parity.shared.b64 $d, " AT ", 0",
            1, 64, no),
    };
    ROWS(rows);
}

/* Half of the threads leave for good: the phase after takes the others only. */
static void dropping(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW(INIT("32") "setp.lt.u32 $p, $l, 16; @!$p bra L4; " ARRIVE "bra L5; L4: mbarrier.arrive_drop.shared.b64 $v, " AT "; L5: bar.warp.sync -1; "
                       WAIT("0") "@$p mbarrier.arrive.shared.b64 $v, " AT "; bar.warp.sync -1; mbarrier.test_wait.parity.shared.b64 $d, " AT ", 1",
            1, 64, yes),
    };
    ROWS(rows);
}

#define FIRST_LOOK  "mbarrier.test_wait.parity.shared.b64 $q, " AT ", 0; selp.b32 $d, 1, 0, $q; bar.warp.sync -1; "
#define SECOND_LOOK "mbarrier.test_wait.parity.shared.b64 $q, " AT ", 0; selp.b32 $t, 2, 0, $q; or.b32 $d, $d, $t"

static void transactions(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW(INIT("1") ONE_LANE("L4", "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 " AT ", 96; mbarrier.arrive.shared.b64 $v, " AT) FIRST_LOOK
                ONE_LANE("L5", "mbarrier.complete_tx.relaxed.cta.shared::cta.b64 " AT ", 96") SECOND_LOOK,
            32, 64, no_then_yes),
        ROW(INIT("1") ONE_LANE("L6", "mbarrier.arrive.expect_tx.shared::cta.b64 $v, " AT ", 64") FIRST_LOOK
                ONE_LANE("L7", "mbarrier.complete_tx.shared::cta.b64 " AT ", 32; mbarrier.complete_tx.shared::cta.b64 " AT ", 32") SECOND_LOOK,
            32, 64, no_then_yes),
        ROW(INIT("2") ONE_LANE("L8", "mbarrier.arrive_drop.expect_tx.shared::cta.b64 $v, " AT ", 64; mbarrier.complete_tx.shared::cta.b64 " AT ", 64") FIRST_LOOK
                ONE_LANE("L9", ARRIVE) SECOND_LOOK,
            32, 64, no_then_yes),
    };
    ROWS(rows);
}

#define COPY "mad.lo.u32 $t, $l, 8, $s; cp.async.ca.shared.global [$t], [$at], 8; "

static void copies_arrive(void **state)
{
    (void)state;
    static const instruction rows[] = {
        ROW(INIT("32") COPY "cp.async.mbarrier.arrive.noinc.shared.b64 " AT "; " WAIT("0") GET("8"), 64, 64, neighbour),
        ROW(INIT("32") COPY "cp.async.mbarrier.arrive.shared::cta.b64 " AT "; " ARRIVE WAIT("0") GET("128"), 64, 64, half_away),
    };
    ROWS(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrivals),
        cmocka_unit_test(dropping),
        cmocka_unit_test(transactions),
        cmocka_unit_test(copies_arrive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
