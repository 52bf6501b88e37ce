/* fp64 arithmetic in every rounding mode. */
#include "engine/floats.h"

/* The expression is one of a, b, c: the first, second and last source. */
#define ARITHMETIC(name, expression)                                                                                   \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        f64 *d = lanes_f64(w, &i->d[0]);                                                                               \
        const f64 *a_ = lanes_f64(w, &i->s[0]), *b_ = lanes_f64(w, &i->s[i->s_count > 1]);                             \
        const f64 *c_ = lanes_f64(w, &i->s[i->s_count - 1]);                                                           \
        set_rounding(i);                                                                                               \
        SET_LANES(d, ({                                                                                                \
                      const f64 a = a_[l], b = b_[l], c = c_[l];                                                       \
                      (void)b, (void)c;                                                                                \
                      (expression);                                                                                    \
                  }));                                                                                                 \
        fesetround(FE_TONEAREST);                                                                                      \
    }

ARITHMETIC(add_f64, a + b)
ARITHMETIC(sub_f64, a - b)
ARITHMETIC(mul_f64, a *b)
ARITHMETIC(fma_f64, __builtin_fma(a, b, c))
ARITHMETIC(div_f64, a / b)
ARITHMETIC(rcp_f64, 1 / a)
ARITHMETIC(sqrt_f64, __builtin_sqrt(a))

#define SIGN (UINT64_C(1) << 63)
UNARY(neg_f64, u64, u64, a ^ SIGN)
UNARY(abs_f64, u64, u64, a & ~SIGN)
BINARY(copysign_f64, u64, u64, u64, (a & SIGN) | (b & ~SIGN))

/* A number wins over NaN, -0 is less than +0. */
PART f64 least(f64 a, f64 b) { return b != b || a < b || (a == b && __builtin_signbit(a)) ? a : b; }
PART f64 most(f64 a, f64 b) { return b != b || a > b || (a == b && __builtin_signbit(b)) ? a : b; }
BINARY(min_f64, f64, f64, f64, least(a, b))
BINARY(max_f64, f64, f64, f64, most(a, b))

#define ROW(name, operands, flops, exec)   {name, "f64", 0, "r", operands, PIPE_FP64, flops, exec, rounding_known}
#define PLAIN(name, operands, exec)        {name, "f64", 0, "", operands, PIPE_FP64, 0, exec, NULL}

const ptx_row ptx_double_rows[] = {
    ROW("add", "d s s", 1, add_f64),
    ROW("sub", "d s s", 1, sub_f64),
    ROW("mul", "d s s", 1, mul_f64),
    ROW("fma", "d s s s", 2, fma_f64),
    ROW("mad", "d s s s", 2, fma_f64),
    ROW("div", "d s s", 1, div_f64),
    ROW("rcp", "d s", 1, rcp_f64),
    ROW("sqrt", "d s", 1, sqrt_f64),
    PLAIN("neg", "d s", neg_f64),
    PLAIN("abs", "d s", abs_f64),
    PLAIN("copysign", "d s s", copysign_f64),
    PLAIN("min", "d s s", min_f64),
    PLAIN("max", "d s s", max_f64),
    {0},
};
