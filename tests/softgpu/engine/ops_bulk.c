/* cp.async.bulk and cp.reduce.async.bulk: spans of bytes, and the groups of those that leave shared memory. */
#include "engine/bulk.h"
#include "engine/finding.h"
#include "engine/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 16, MULTICAST_MOST = 16 };

static uint64_t lane_value(const warp *w, const operand *o, int lane) { return o->bits == 64 ? lanes64(w, o)[lane] : lanes32(w, o)[lane]; }

static uint64_t lane_address(const warp *w, const insn *i, int at, int64_t displacement, int lane)
{
    uint64_t addresses[LANES];
    warp_addresses(w, i, at, displacement, addresses);
    return addresses[lane];
}

/* The operands of a lane that copies: target, source, bytes; false after a finding. */
typedef struct span {
    uint64_t to, from;
    int64_t bytes;
} span;

static bool find_span(warp *w, const insn *i, int lane, span *s)
{
    *s = (span){lane_address(w, i, 0, i->offset[0], lane), lane_address(w, i, 1, i->offset[1], lane), lanes32(w, &i->s[2])[lane]};
    if (!((s->to | s->from | (uint64_t)s->bytes) % ALIGN) && s->bytes) return true;
    warp_finding(w, i, lane, "misaligned", "%lld bytes from 0x%llx to 0x%llx; all three must be multiples of %d", (long long)s->bytes,
                 (unsigned long long)s->from, (unsigned long long)s->to, ALIGN);
    launch_fail(w->block->launch, SG_MISALIGNED_ADDRESS);
    return false;
}

/* ---- global memory to shared memory ------------------------------------------------------------------------------------------------ */

static bool same_block(warp *w, const insn *i, int lane, const block *owner, const block *told)
{
    if (told == owner) return true;
    warp_finding(w, i, lane, "barrier", "its barrier lies in another block than its target");
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    return false;
}

static bool load_into(warp *w, const insn *i, int lane, const span *s, uint64_t to, uint64_t barrier, const char *from)
{
    bulk_copy c = bulk_begin(w, i, lane);
    block *owner, *told;
    char *target = bulk_shared(w, i, lane, i->space, to, s->bytes, i->op ? ACCESS_ATOMIC : ACCESS_WRITE, &owner, &c.target);
    c.bytes = s->bytes;
    if (!target || !bulk_shared(w, i, lane, i->space, barrier, 8, ACCESS_WRITE, &told, &c.barrier)) return false;
    if (!same_block(w, i, lane, owner, told)) return false;
    bulk_piece_add(&c, (bulk_piece){.from = from, .to = target, .bytes = s->bytes});
    if (i->space2 == SPACE_SHARED) {
        c.has_source = true;
        c.source = (uint32_t)(s->from % SHARED_RANK);
    }
    if (bulk_send_to_shared(&c, owner)) return true;
    bulk_drop(&c);
    return false;
}

static void read_global(warp *w, const insn *i, int lane, const span *s)
{
    uint64_t addresses[LANES];
    bulk_copy c = bulk_begin(w, i, lane);
    race_access read = bulk_access(&c, addresses, s->from, s->bytes, RACE_READ);
    if (w->block->races) race_global(w->block->races, sg_region_at(s->from), &read);
}

/* [target], [source], bytes, [barrier] {, blocks of the cluster} */
static void load(warp *w, const insn *i, uint32_t mask)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        span s;
        if (!find_span(w, i, lane, &s)) continue;
        char *from = bulk_host(w, i, lane, i->space2, s.from, s.bytes, ACCESS_READ);
        uint64_t barrier = lane_address(w, i, 3, i->offset[2], lane);
        if (!from) continue;
        if (i->space2 == SPACE_GLOBAL) read_global(w, i, lane, &s);
        if (!(i->flags & F_MULTICAST)) {
            load_into(w, i, lane, &s, s.to, barrier, from);
            continue;
        }
        uint64_t blocks = lane_value(w, &i->s[4], lane);
        for (uint64_t rank = 0; rank < MULTICAST_MOST; rank++)
            if (blocks >> rank & 1 && !load_into(w, i, lane, &s, s.to % SHARED_RANK + (rank + 1) * SHARED_RANK, barrier % SHARED_RANK + (rank + 1) * SHARED_RANK, from))
                break;
    }
}

/* st.async: [target], values, [barrier]. What is stored is kept until it arrives. */
static void store_later(warp *w, const insn *i, uint32_t mask)
{
    int size = ptx_type_bits(i->type[0]) / 8;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        block *owner, *told;
        bulk_copy c = bulk_begin(w, i, lane);
        uint64_t to = lane_address(w, i, 0, i->offset[0], lane), barrier = lane_address(w, i, 1 + i->vector, i->offset[1], lane);
        c.bytes = (int64_t)size * i->vector;
        char *target = bulk_shared(w, i, lane, i->space, to, c.bytes, ACCESS_WRITE, &owner, &c.target);
        if (!target || !bulk_shared(w, i, lane, i->space, barrier, 8, ACCESS_WRITE, &told, &c.barrier)) continue;
        c.snapshot = calloc(4, 8);
        if (!c.snapshot) abort();
        for (int e = 0; e < i->vector; e++) {
            uint64_t value = lane_value(w, &i->s[1 + e], lane);
            memcpy(c.snapshot + e * size, &value, (size_t)size);
        }
        bulk_piece_add(&c, (bulk_piece){.from = c.snapshot, .to = target, .bytes = c.bytes});
        if (!same_block(w, i, lane, owner, told) || !bulk_send_to_shared(&c, owner)) bulk_drop(&c);
    }
}

/* ---- shared memory to global memory ------------------------------------------------------------------------------------------------ */

static void store(warp *w, const insn *i, uint32_t mask)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        span s;
        block *owner;
        if (!find_span(w, i, lane, &s)) continue;
        bulk_copy c = bulk_begin(w, i, lane);
        char *from = bulk_shared(w, i, lane, SPACE_SHARED, s.from, s.bytes, ACCESS_READ, &owner, &c.source);
        char *to = from ? bulk_host(w, i, lane, SPACE_GLOBAL, s.to, s.bytes, i->op ? ACCESS_ATOMIC : ACCESS_WRITE) : NULL;
        if (!to) continue;
        c.bytes = s.bytes;
        bulk_piece_add(&c, (bulk_piece){.from = from, .to = to, .bytes = s.bytes, .address = s.to});
        bulk_send_to_global(&c);
    }
}

static void commit(warp *w, const insn *i, uint32_t mask)
{
    (void)i;
    for (uint32_t rest = mask; rest; rest &= rest - 1) w->bulk_group[__builtin_ctz(rest)]++;
}

static void wait_group(warp *w, const insn *i, uint32_t mask) { warp_bulk_wait(w, mask, (int)i->imm[0], i->flags & F_READ); }

static void nothing(warp *w, const insn *i, uint32_t mask) { (void)w, (void)i, (void)mask; }

/* ---- rows --------------------------------------------------------------------------------------------------------------------------- */

/* The spaces are part of the rows' names. */
static bool to_cluster(insn *i, char *error, size_t bytes)
{
    (void)error, (void)bytes;
    i->space = SPACE_CLUSTER;
    i->space2 = strstr(i->text, ".global") ? SPACE_GLOBAL : SPACE_SHARED;
    return true;
}

static bool multicast(insn *i, char *error, size_t bytes)
{
    if (i->flags & F_MULTICAST && i->s_count < 5) {
        snprintf(error, bytes, "a multicast without the blocks that it goes to");
        return false;
    }
    return to_cluster(i, error, bytes);
}

static bool reduction(insn *i, char *error, size_t bytes)
{
    if (ptx_reduces(i->op, i->type[0])) return true;
    snprintf(error, bytes, "an operation that is not known for this type");
    return false;
}

static bool reduction_to_cluster(insn *i, char *error, size_t bytes) { return reduction(i, error, bytes) && to_cluster(i, error, bytes); }

#define REDUCED "u32|s32|u64|s64|f16|bf16|b32|b64|f32|f64"
#define STORED  "b32|u32|s32|f32|b64|u64|s64|f64"
#define TOLD    ".mbarrier::complete_tx::bytes"

const ptx_row ptx_bulk_rows[] = {
    {"cp.async.bulk.shared::cluster.global" TOLD, "", F_MULTICAST, "s", "a a s=32 a s=0? s=0", PIPE_ASYNC, 0, load, multicast},
    {"cp.async.bulk.shared::cta.global" TOLD, "", 0, "s", "a a s=32 a s=0?", PIPE_ASYNC, 0, load, to_cluster},
    {"cp.async.bulk.shared::cluster.shared::cta" TOLD, "", 0, "", "a a s=32 a", PIPE_ASYNC, 0, load, to_cluster},
    {"cp.reduce.async.bulk.shared::cluster.shared::cta" TOLD, "u32|s32|u64|b32|b64", 0, "c", "a a s=32 a", PIPE_ASYNC, 0, load, reduction_to_cluster},
    {"st.async.shared::cluster" TOLD, STORED, 0, "v", "a s a", PIPE_ASYNC, 0, store_later, to_cluster},
    {"st.async.weak.shared::cluster" TOLD, STORED, 0, "v", "a s a", PIPE_ASYNC, 0, store_later, to_cluster},
    {"cp.async.bulk.global.shared::cta.bulk_group", "", 0, "s", "a a s=32 s=0?", PIPE_ASYNC, 0, store, NULL},
    {"cp.reduce.async.bulk.global.shared::cta.bulk_group", REDUCED, F_NOFTZ, "cs", "a a s=32 s=0?", PIPE_ASYNC, 0, store, reduction},
    {"cp.async.bulk.commit_group", "", 0, "", "", PIPE_ASYNC, 0, commit, NULL},
    {"cp.async.bulk.wait_group", "", F_READ, "", "i", PIPE_ASYNC, 0, wait_group, NULL},
    {"cp.async.bulk.prefetch.L2.global", "", 0, "s", "a s=32 s=0?", PIPE_ASYNC, 0, nothing, NULL},
    {0},
};
