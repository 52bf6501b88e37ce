/* The approximated functions (.approx, .full), each at least as accurate as the ISA says and the same on every host. */
#include "engine/floats.h"

#include <math.h>

/* ---- quotients and roots -------------------------------------------------------------------------------------------------- */

#define FLUSHED(x) flushed_if(i->flags & F_FTZ, x)
#define RESULT(x)  result_of(i->flags, x)

UNARY(rcp_f32, f32, f32, RESULT(1 / FLUSHED(a)))
UNARY(sqrt_f32, f32, f32, RESULT(__builtin_sqrtf(FLUSHED(a))))
UNARY(rsqrt_f32, f32, f32, RESULT((f32)(1 / __builtin_sqrt((f64)FLUSHED(a)))))

/* div.approx is a times the reciprocal of b, which has no subnormals: beyond 2^126 the quotient is 0. */
PART f32 quotient(f32 a, f32 b) { return a * sg_ftz(1 / b); }
BINARY(div_approx, f32, f32, f32, RESULT(quotient(FLUSHED(a), FLUSHED(b))))
BINARY(div_full, f32, f32, f32, RESULT((f32)((f64)FLUSHED(a) / (f64)FLUSHED(b))))

/* The gross forms of fp64 see and give the upper 32 bits, and know no subnormals. */
PART f64 upper_half(f64 x)
{
    u64 bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= bits >> 52 & 0x7ff ? UINT64_C(0xffffffff00000000) : UINT64_C(1) << 63;
    bits = x == x ? bits : UINT64_C(0x7fffffff00000000);
    memcpy(&x, &bits, sizeof x);
    return x;
}
UNARY(rcp_gross, f64, f64, upper_half(1 / upper_half(a)))
UNARY(rsqrt_gross, f64, f64, upper_half(1 / __builtin_sqrt(upper_half(a))))
UNARY(rsqrt_f64, f64, f64, 1 / __builtin_sqrt(a))

/* ---- transcendental functions --------------------------------------------------------------------------------------------------- */

UNARY(ex2_f32, f32, f32, exp2_f32(a))
UNARY(ex2_ftz, f32, f32, sg_ftz(exp2_f32(sg_ftz(a))))
UNARY(tanh_approx, f32, f32, tanh_f32(a))

/* Through the host's double functions, whose last bits do not reach the rounded result. */
#define THROUGH_DOUBLE(name, function)                                                                                 \
    static void name(warp *w, const insn *i, uint32_t mask)                                                            \
    {                                                                                                                  \
        f32 *d = lanes_f32(w, &i->d[0]);                                                                               \
        const f32 *a = lanes_f32(w, &i->s[0]);                                                                         \
        for (int l = 0; l < LANES; l++)                                                                                \
            if (mask >> l & 1) d[l] = RESULT((f32)function((f64)FLUSHED(a[l])));                                       \
    }
THROUGH_DOUBLE(lg2_f32, log2)
THROUGH_DOUBLE(sin_f32, sin)
THROUGH_DOUBLE(cos_f32, cos)

/* ---- rows ------------------------------------------------------------------------------------------------------------------------ */

#define ROW(name, flags, operands, exec) {name, "f32", flags, "", operands, PIPE_MUFU, 1, exec, NULL}

const ptx_row ptx_approx_rows[] = {
    ROW("ex2", F_APPROX, "d s", ex2_f32),
    ROW("ex2", F_APPROX | F_FTZ, "d s", ex2_ftz),
    ROW("lg2", F_APPROX | F_FTZ, "d s", lg2_f32),
    ROW("sin", F_APPROX | F_FTZ, "d s", sin_f32),
    ROW("cos", F_APPROX | F_FTZ, "d s", cos_f32),
    ROW("tanh", F_APPROX, "d s", tanh_approx),
    ROW("rcp", F_APPROX | F_FTZ, "d s", rcp_f32),
    ROW("sqrt", F_APPROX | F_FTZ, "d s", sqrt_f32),
    ROW("rsqrt", F_APPROX | F_FTZ, "d s", rsqrt_f32),
    ROW("div", F_APPROX | F_FTZ, "d s s", div_approx),
    ROW("div", F_FULL | F_FTZ, "d s s", div_full),
    {"rcp", "f64", F_APPROX | F_FTZ, "", "d s", PIPE_MUFU, 1, rcp_gross, NULL},
    {"rsqrt", "f64", F_APPROX, "", "d s", PIPE_FP64, 1, rsqrt_f64, NULL},
    {"rsqrt", "f64", F_APPROX | F_FTZ, "", "d s", PIPE_MUFU, 1, rsqrt_gross, NULL},
    {0},
};
