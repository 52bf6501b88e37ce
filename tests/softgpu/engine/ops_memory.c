/* ld, st, and addresses between state spaces. */
#include "engine/lanes.h"

#include <stdio.h>
#include <string.h>

static bool is_signed(ptx_type t) { return t == T_S8 || t == T_S16 || t == T_S32 || t == T_S64; }

static int type_bytes(ptx_type t) { return ptx_type_bits(t) / 8; }

static bool acquires(const insn *i) { return i->order == ORDER_ACQUIRE || i->order == ORDER_ACQ_REL || i->order == ORDER_SC; }
static bool releases(const insn *i) { return i->order == ORDER_RELEASE || i->order == ORDER_ACQ_REL || i->order == ORDER_SC; }

/* The register's content for `bytes` of memory: sign- or zero-extended to the register's width. */
static uint64_t widened(const char *from, int bytes, bool sign)
{
    uint64_t value = 0;
    memcpy(&value, from, (size_t)bytes);
    if (sign && bytes < 8) value = (uint64_t)((int64_t)(value << (64 - 8 * bytes)) >> (64 - 8 * bytes));
    return value;
}

/* What most loads are: as many bytes as the register has. */
#define LOAD_WHOLE(lanes)                                                                            \
    do {                                                                                             \
        for (int l = 0; l < LANES; l++)                                                              \
            if (mask >> l & 1 && hosts[l]) memcpy(&(lanes)[l], hosts[l] + at, sizeof *(lanes));      \
    } while (0)

static void load_element(warp *w, const operand *d, uint32_t mask, char *const hosts[LANES], int at, int bytes, bool sign)
{
    uint32_t keep = d->bits >= 32 ? UINT32_MAX : (1u << d->bits) - 1;
    if (d->bits == 64 && bytes == 8) {
        uint64_t *to = lanes64(w, d);
        LOAD_WHOLE(to);
        return;
    }
    if (d->bits <= 32 && bytes == 4) {
        uint32_t *to = lanes32(w, d);
        LOAD_WHOLE(to);
        return;
    }
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1) || !hosts[l]) continue;
        if (d->bits == 64)
            lanes64(w, d)[l] = widened(hosts[l] + at, bytes, sign);
        else
            lanes32(w, d)[l] = (uint32_t)widened(hosts[l] + at, bytes, sign) & keep;
    }
}

static void load(warp *w, const insn *i, uint32_t mask)
{
    uint64_t addresses[LANES];
    char *hosts[LANES];
    int bytes = type_bytes(i->type[0]);
    warp_addresses(w, i, 0, i->offset[0], addresses);
    warp_access access = {.insn = i, .space = i->space, .lanes = mask, .addresses = addresses, .bytes = bytes * i->vector,
                          .kind = ACCESS_READ, .strong = i->order != ORDER_WEAK};
    warp_access_hosts(w, &access, hosts);
    for (int e = 0; e < i->vector; e++) load_element(w, &i->d[e], mask, hosts, e * bytes, bytes, is_signed(i->type[0]));
    if (acquires(i) && w->block->races) race_fence(w->block->races, w->number);
}

static void store_element(const warp *w, const operand *s, uint32_t mask, char *const hosts[LANES], int at, int bytes)
{
    for (int l = 0; l < LANES; l++) {
        if (!(mask >> l & 1) || !hosts[l]) continue;
        if (s->bits == 64)
            memcpy(hosts[l] + at, &lanes64(w, s)[l], (size_t)bytes);
        else
            memcpy(hosts[l] + at, &lanes32(w, s)[l], (size_t)bytes);
    }
}

static void store(warp *w, const insn *i, uint32_t mask)
{
    uint64_t addresses[LANES];
    char *hosts[LANES];
    int bytes = type_bytes(i->type[0]);
    if (releases(i) && w->block->races) race_fence(w->block->races, w->number);
    warp_addresses(w, i, 0, i->offset[0], addresses);
    warp_access access = {.insn = i, .space = i->space, .lanes = mask, .addresses = addresses, .bytes = bytes * i->vector,
                          .kind = ACCESS_WRITE, .strong = i->order != ORDER_WEAK};
    warp_access_hosts(w, &access, hosts);
    for (int e = 0; e < i->vector; e++) store_element(w, &i->s[1 + e], mask, hosts, e * bytes, bytes);
}

static bool check_elements(insn *i, char *error, size_t bytes)
{
    int elements = i->d_count ? i->d_count : i->s_count - 1;
    if (elements == i->vector) return true;
    snprintf(error, bytes, "%d elements where .v%d has as many", elements, i->vector);
    return false;
}

/* ---- cvta, isspacep ------------------------------------------------------------------------------------------------------------- */

/* What a generic address has in front of one in a space. A block of a cluster says which one it is. */
static uint64_t window_of(const warp *w, ptx_space space)
{
    switch (space) {
    case SPACE_SHARED: return SHARED_WINDOW + (w->block->launch->cluster > 1 ? (uint64_t)(w->block->rank + 1) * SHARED_RANK : 0);
    case SPACE_CLUSTER: return SHARED_WINDOW;
    case SPACE_LOCAL: return LOCAL_WINDOW;
    case SPACE_PARAM: return PARAM_WINDOW;
    default: return 0;
    }
}

static void convert_address(warp *w, const insn *i, uint32_t mask)
{
    uint64_t window = window_of(w, i->space);
    if (i->d[0].bits == 64) {
        const uint64_t *a = lanes64(w, &i->s[0]);
        uint64_t *d = lanes64(w, &i->d[0]);
        if (i->flags & F_TO)
            SET_LANES(d, a[l] - window);
        else
            SET_LANES(d, a[l] + window);
        return;
    }
    const uint32_t *a = lanes32(w, &i->s[0]);
    uint32_t *d = lanes32(w, &i->d[0]);
    SET_LANES(d, a[l]);
}

static void is_space(warp *w, const insn *i, uint32_t mask)
{
    const uint64_t *a = lanes64(w, &i->s[0]);
    uint32_t in = 0;
    for (int l = 0; l < LANES; l++) {
        bool shared = a[l] - SHARED_WINDOW < SHARED_WINDOW_BYTES, local = a[l] - LOCAL_WINDOW < LOCAL_WINDOW_BYTES;
        bool param = a[l] - PARAM_WINDOW < PARAM_WINDOW_BYTES, is = false;
        switch (i->space) {
        case SPACE_SHARED:
        case SPACE_CLUSTER: is = shared; break;
        case SPACE_LOCAL: is = local; break;
        case SPACE_PARAM: is = param; break;
        case SPACE_GLOBAL: is = !shared && !local && !param; break;
        default: break;
        }
        in |= (uint32_t)is << l;
    }
    set_predicate(w, &i->d[0], mask, in);
}

static void nothing(warp *w, const insn *i, uint32_t mask) { (void)w, (void)i, (void)mask; }

/* A policy for caches that are not there. */
static void make_policy(warp *w, const insn *i, uint32_t mask) { SET_LANES(lanes64(w, &i->d[0]), UINT64_C(0)); }

#define ANY_TYPE "b8|u8|s8|b16|u16|s16|f16|bf16|b32|u32|s32|f32|b64|u64|s64|f64|f16x2|bf16x2"

const ptx_row ptx_memory_rows[] = {
    {"ld", ANY_TYPE, F_NC, "sov", "d~ a s=64?", PIPE_GLOBAL, 0, load, check_elements},
    {"ldu", ANY_TYPE, 0, "sov", "d~ a", PIPE_GLOBAL, 0, load, check_elements},
    {"st", ANY_TYPE, 0, "sov", "a s~", PIPE_GLOBAL, 0, store, check_elements},
    {"cvta", "u32|u64", F_TO, "s", "d s", PIPE_ALU, 0, convert_address, NULL},
    {"isspacep", "", 0, "s", "p s=64", PIPE_ALU, 0, is_space, NULL},
    {"prefetch", "", 0, "s", "a", PIPE_GLOBAL, 0, nothing, NULL},
    {"prefetchu", "", 0, "s", "a", PIPE_GLOBAL, 0, nothing, NULL},
    {"createpolicy.fractional", "b64", 0, "s", "d s=32?", PIPE_ALU, 0, make_policy, NULL},
    {"createpolicy.range", "b64", 0, "s", "d a s=32 s=32", PIPE_ALU, 0, make_policy, NULL},
    {"createpolicy.cvt.L2", "b64", 0, "s", "d s=64", PIPE_ALU, 0, make_policy, NULL},
    {"discard", "", 0, "s", "a i", PIPE_GLOBAL, 0, nothing, NULL},
    {0},
};
