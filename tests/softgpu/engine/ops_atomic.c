/* atom and red: lanes one after the other, each with the host's own atomics. */
#include "engine/lanes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The new value of one element. */
static uint64_t integer_result(ptx_word op, ptx_type t, uint64_t old, uint64_t b, uint64_t c, int bits)
{
    bool sign = t == T_S32 || t == T_S64;
    int64_t so = bits == 32 ? (int32_t)old : (int64_t)old, sb = bits == 32 ? (int32_t)b : (int64_t)b;
    switch (op) {
    case W_ADD: return old + b;
    case W_AND: return old & b;
    case W_OR: return old | b;
    case W_XOR: return old ^ b;
    case W_EXCH: return b;
    case W_CAS: return old == b ? c : old;
    case W_INC: return old >= b ? 0 : old + 1;
    case W_DEC: return old == 0 || old > b ? b : old - 1;
    case W_MIN: return (sign ? so < sb : old < b) ? old : b;
    case W_MAX: return (sign ? so > sb : old > b) ? old : b;
    default: return old;
    }
}

static uint16_t half_result(ptx_word op, ptx_type t, uint16_t old, uint16_t b)
{
    bool brain = t == T_BF16 || t == T_BF16X2;
    if (op == W_ADD) return brain ? sg_bf16_add(old, b) : sg_f16_add(old, b);
    float x = brain ? sg_bf16_to_float(old) : sg_f16_to_float(old), y = brain ? sg_bf16_to_float(b) : sg_f16_to_float(b);
    return (op == W_MIN ? y < x : y > x) || x != x ? b : old;
}

static uint64_t result(ptx_word op, ptx_type t, uint64_t old, uint64_t b, uint64_t c, int bits)
{
    float x, y;
    double p, q;
    switch (t) {
    case T_F32:
        x = sg_bits_float((uint32_t)old), y = sg_bits_float((uint32_t)b);
        return sg_float_bits(sg_canonical(x + y));
    case T_F64:
        memcpy(&p, &old, 8), memcpy(&q, &b, 8);
        p += q;
        memcpy(&old, &p, 8);
        return old;
    case T_F16:
    case T_BF16: return half_result(op, t, (uint16_t)old, (uint16_t)b);
    case T_F16X2:
    case T_BF16X2: return half_result(op, t, (uint16_t)old, (uint16_t)b) | (uint64_t)half_result(op, t, (uint16_t)(old >> 16), (uint16_t)(b >> 16)) << 16;
    default: return integer_result(op, t, old, b, c, bits);
    }
}

#define CHANGE(type)                                                                                                                       \
    ({                                                                                                                                     \
        type *at = (type *)(void *)host, old = __atomic_load_n(at, __ATOMIC_RELAXED), made;                                               \
        do                                                                                                                                 \
            made = (type)result(op, t, old, b, c, bits);                                                                                       \
        while (!__atomic_compare_exchange_n(at, &old, made, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));                                    \
        (uint64_t) old;                                                                                                                    \
    })

/* Changes memory and gives what was there. */
static uint64_t change(ptx_word op, ptx_type t, char *host, uint64_t b, uint64_t c)
{
    int bits = ptx_type_bits(t);
    return bits == 16 ? CHANGE(uint16_t) : bits == 32 ? CHANGE(uint32_t) : CHANGE(uint64_t);
}

/* Floats are added; 16 bits of them can be compared, too. */
bool ptx_reduces(ptx_word op, ptx_type type)
{
    bool half = type == T_F16 || type == T_F16X2 || type == T_BF16 || type == T_BF16X2;
    if (half) return op == W_ADD || op == W_MIN || op == W_MAX;
    return type != T_NONE && op >= W_ADD && op <= (type == T_F32 || type == T_F64 ? W_ADD : W_DEC);
}

void ptx_reduce(ptx_word op, ptx_type type, char *to, const char *from, int64_t bytes)
{
    int size = ptx_type_bits(type) / 8;
    for (int64_t at = 0; at < bytes; at += size) {
        uint64_t value = 0;
        memcpy(&value, from + at, (size_t)size);
        change(op, type, to + at, value, 0);
    }
}

static uint64_t source(const warp *w, const operand *o, int lane) { return o->bits == 64 ? lanes64(w, o)[lane] : lanes32(w, o)[lane]; }

static void atomic(warp *w, const insn *i, uint32_t mask)
{
    uint64_t addresses[LANES];
    char *hosts[LANES];
    int bits = ptx_type_bits(i->type[0]);
    race_block *races = w->block->races;
    bool returns = i->d_count > 0;
    if (races && i->order >= ORDER_RELEASE) race_fence(races, w->number);
    warp_addresses(w, i, 0, i->offset[0], addresses);
    warp_access access = {.insn = i, .space = i->space, .lanes = mask, .addresses = addresses, .bytes = bits / 8 * i->vector, .kind = ACCESS_ATOMIC,
                          .strong = true};
    warp_access_hosts(w, &access, hosts);
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1) || !hosts[l]) continue;
        for (int e = 0; e < i->vector; e++) {
            const operand *c = i->op == W_CAS ? &i->s[2] : NULL;
            uint64_t old = change(i->op, i->type[0], hosts[l] + e * bits / 8, source(w, &i->s[1 + e], l), c ? source(w, c, l) : 0);
            if (returns && i->d[e].bits == 64) lanes64(w, &i->d[e])[l] = old;
            if (returns && i->d[e].bits != 64) lanes32(w, &i->d[e])[l] = (uint32_t)old;
        }
    }
    if (races && (i->order == ORDER_ACQUIRE || i->order == ORDER_ACQ_REL)) race_fence(races, w->number);
}

static bool check(insn *i, char *error, size_t bytes)
{
    bool integer = i->type[0] != T_F32 && i->type[0] != T_F64, exchanges = integer && (i->op == W_EXCH || i->op == W_CAS);
    int sources = 1 + i->vector + (i->op == W_CAS);
    if (!i->op2 && i->s_count == sources && (exchanges || ptx_reduces(i->op, i->type[0]))) return true;
    snprintf(error, bytes, "an operation that is not known for this type, or with other operands");
    return false;
}

#define TYPES "u32|s32|b32|u64|s64|b64|f32|f64|f16|f16x2|bf16|bf16x2|b16"

const ptx_row ptx_atomic_rows[] = {
    {"atom", TYPES, F_NOFTZ, "csov", "d a s s?", PIPE_ATOMIC, 0, atomic, check},
    {"red", TYPES, F_NOFTZ, "csov", "a s", PIPE_ATOMIC, 0, atomic, check},
    {0},
};
