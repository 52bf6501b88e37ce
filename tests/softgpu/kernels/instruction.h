/* Instructions, each against the same operation on the host: a row is the PTX text with operands, their widths, and a C
   function. Every row runs over pairs of special values and thousands of random ones. */
#ifndef SOFTGPU_KERNELS_INSTRUCTION_H
#define SOFTGPU_KERNELS_INSTRUCTION_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef enum comparison {
    EXACT,    /* bit by bit */
    ANY_NAN,  /* bit by bit, but any NaN stands for any other */
    RELATIVE, /* fp32 within `bound` relative error; NaN, infinities and zeros exactly */
    ABSOLUTE, /* fp32 within `bound` absolute error where |a| <= limit */
    PACKED_NAN /* two 16-bit halves, NaN by NaN */
} comparison;

/* What fills the operands. */
typedef enum inputs { BITS, FLOATS, DOUBLES, HALVES, SMALL } inputs;

typedef uint64_t expectation(uint64_t a, uint64_t b, uint64_t c);

typedef struct operands {
    uint64_t a, b, c, d;
} operands;

enum { BLOCK = 128 }; /* threads of a block: where the expectation needs the others' operands, it gets all of these */
typedef uint64_t group_expectation(const operands *block, int thread);

typedef struct instruction {
    const char *text; /* $d the result, $a $b $c the operands; temporaries: predicates $p $q, 16 bits $h $k, 32 bits $t $u $x
                         $y, 64 bits $v; $at the operands' address, $i the thread's number in the grid, $l its lane, $s 1 KiB
                         of shared memory for its warp */
    int d, a, b, c;   /* widths in bits; 1: a predicate, given and returned as 0 or 1; 0: not used */
    expectation *expected;
    inputs fill;
    comparison how;
    double bound, limit;
    group_expectation *group; /* instead of expected */
} instruction;

/* Runs the rows, each in a kernel of its own; fails with the row's text and the first operands that differ. */
void run_instructions(const instruction *rows, int count);

static inline float as_float(uint64_t bits)
{
    uint32_t word = (uint32_t)bits;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

static inline double as_double(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t float_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return isnan(value) ? 0x7fffffffu : bits;
}

static inline uint64_t double_bits(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* The expectation of a row, from the operands in several readings: u and s are 32 bits unsigned and signed, w and l 64, f and d
   floating. */
#define EXPECT(name, expression)                                                                                       \
    static uint64_t name(uint64_t a64, uint64_t b64, uint64_t c64)                                                     \
    {                                                                                                                  \
        const uint32_t ua = (uint32_t)a64, ub = (uint32_t)b64, uc = (uint32_t)c64;                                     \
        const int32_t sa = (int32_t)ua, sb = (int32_t)ub, sc = (int32_t)uc;                                            \
        const uint64_t wa = a64, wb = b64, wc = c64;                                                                   \
        const int64_t la = (int64_t)a64, lb = (int64_t)b64, lc = (int64_t)c64;                                         \
        const float fa = as_float(a64), fb = as_float(b64), fc = as_float(c64);                                        \
        const double da = as_double(a64), db = as_double(b64), dc = as_double(c64);                                    \
        (void)ua, (void)ub, (void)uc, (void)sa, (void)sb, (void)sc, (void)wa, (void)wb, (void)wc, (void)la, (void)lb;  \
        (void)lc, (void)fa, (void)fb, (void)fc, (void)da, (void)db, (void)dc;                                          \
        return (uint64_t)(expression);                                                                                 \
    }

#endif
