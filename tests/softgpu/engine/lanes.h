/* What the rows of ops_*.c are written with: an operand's lanes, and loops over the active ones that compilers turn into vectors. */
#ifndef SOFTGPU_ENGINE_LANES_H
#define SOFTGPU_ENGINE_LANES_H

#include "numbers/clones.h"
#include "numbers/numbers.h"
#include "engine/warp.h"

/* The function that a row runs; compiled for several vector widths. */
#define EXEC(name) static SG_VECTOR_CLONES void name(warp *w, const insn *i, uint32_t mask)

/* A part of such functions, compiled with each of their widths. */
#define PART static inline __attribute__((always_inline))

static inline void *lanes_of(const warp *w, const operand *o) { return w->bases[o->constant] + o->offset; }
static inline uint32_t *lanes32(const warp *w, const operand *o) { return lanes_of(w, o); }
static inline uint64_t *lanes64(const warp *w, const operand *o) { return lanes_of(w, o); }
static inline float *lanes_f32(const warp *w, const operand *o) { return lanes_of(w, o); }
static inline double *lanes_f64(const warp *w, const operand *o) { return lanes_of(w, o); }

/* Lanes do not depend on each other, also where a source is the result itself: registers never overlap in part. */
#ifdef __clang__
#define FOR_LANES for (int l = 0; l < LANES; l++)
#else
#define FOR_LANES _Pragma("GCC ivdep") for (int l = 0; l < LANES; l++)
#endif

/* Sets the active lanes of d[] to an expression of the lane l, which is evaluated for the others too. Sources may be d itself. */
#define SET_LANES(d, expression)                                                                                       \
    do {                                                                                                               \
        if (mask == UINT32_MAX) {                                                                                      \
            FOR_LANES (d)[l] = (expression);                                                                           \
        } else {                                                                                                       \
            FOR_LANES                                                                                                  \
            {                                                                                                          \
                __typeof__(*(d)) value_ = (expression);                                                                \
                (d)[l] = mask >> l & 1 ? value_ : (d)[l];                                                              \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

/* A predicate source as a mask of lanes. */
static inline uint32_t predicate(const warp *w, const operand *o)
{
    uint32_t bits = *(const uint32_t *)lanes_of(w, o);
    return o->negated ? ~bits : bits;
}

/* Sets the active lanes of a predicate result; the sink takes anything. */
static inline void set_predicate(warp *w, const operand *o, uint32_t mask, uint32_t bits)
{
    uint32_t *p = lanes_of(w, o);
    *p = (*p & ~mask) | (bits & mask);
}

/* ---- rows by type --------------------------------------------------------------------------------------------------- */

typedef uint16_t u16;
typedef int16_t s16;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;
typedef float f32;
typedef double f64;
__extension__ typedef __int128 s128;
__extension__ typedef unsigned __int128 u128;

/* T_reg: an element of a register that holds a T; T_bits: the part of it that T fills, the rest is zero. */
typedef uint32_t u16_reg, s16_reg, u32_reg, s32_reg;
typedef uint64_t u64_reg, s64_reg;
typedef float f32_reg;
typedef double f64_reg;
typedef uint16_t u16_bits, s16_bits;
typedef uint32_t u32_bits, s32_bits;
typedef uint64_t u64_bits, s64_bits;
typedef float f32_bits;
typedef double f64_bits;

/* name sets its result of type td to an expression of a, b, c, which are its sources, of types ta, tb, tc. */
#define UNARY(name, td, ta, expression)                                                                                \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        td##_reg *d_ = lanes_of(w, &i->d[0]);                                                                          \
        const ta##_reg *a_ = lanes_of(w, &i->s[0]);                                                                    \
        SET_LANES(d_, ({                                                                                               \
                      const ta a = (ta)a_[l];                                                                          \
                      (td##_bits)(expression);                                                                         \
                  }));                                                                                                 \
    }
#define BINARY(name, td, ta, tb, expression)                                                                           \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        td##_reg *d_ = lanes_of(w, &i->d[0]);                                                                          \
        const ta##_reg *a_ = lanes_of(w, &i->s[0]);                                                                    \
        const tb##_reg *b_ = lanes_of(w, &i->s[1]);                                                                    \
        SET_LANES(d_, ({                                                                                               \
                      const ta a = (ta)a_[l];                                                                          \
                      const tb b = (tb)b_[l];                                                                          \
                      (td##_bits)(expression);                                                                         \
                  }));                                                                                                 \
    }
#define TERNARY(name, td, ta, tb, tc, expression)                                                                      \
    EXEC(name)                                                                                                         \
    {                                                                                                                  \
        td##_reg *d_ = lanes_of(w, &i->d[0]);                                                                          \
        const ta##_reg *a_ = lanes_of(w, &i->s[0]);                                                                    \
        const tb##_reg *b_ = lanes_of(w, &i->s[1]);                                                                    \
        const tc##_reg *c_ = lanes_of(w, &i->s[2]);                                                                    \
        SET_LANES(d_, ({                                                                                               \
                      const ta a = (ta)a_[l];                                                                          \
                      const tb b = (tb)b_[l];                                                                          \
                      const tc c = (tc)c_[l];                                                                          \
                      (td##_bits)(expression);                                                                         \
                  }));                                                                                                 \
    }

#endif
