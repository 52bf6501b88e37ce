/* cp.async: copies that are on their way until their group is waited for. They arrive as late as the program allows, so that a missing
   wait shows. */
#include "engine/lanes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void remember(warp *w, async_copy copy)
{
    if (w->copy_count == w->copy_capacity) {
        w->copy_capacity = w->copy_capacity ? 2 * w->copy_capacity : 256;
        async_copy *grown = realloc(w->copies, (size_t)w->copy_capacity * sizeof *grown);
        if (!grown) abort();
        w->copies = grown;
    }
    w->copies[w->copy_count++] = copy;
}

static void deliver(const async_copy *copy)
{
    if (copy->used) memcpy(copy->to, copy->from, copy->used);
    memset(copy->to + copy->used, 0, (size_t)(copy->bytes - copy->used));
}

void warp_deliver_copies(warp *w, uint32_t lanes, int groups_left)
{
    int kept = 0;
    for (int c = 0; c < w->copy_count; c++) {
        const async_copy *copy = &w->copies[c];
        if (!(lanes >> copy->lane & 1) || copy->group >= w->copy_group[copy->lane] - groups_left) {
            w->copies[kept++] = *copy;
            continue;
        }
        deliver(copy);
    }
    w->copy_count = kept;
}

void warp_tie_copies(warp *w, int lane, uint32_t barrier)
{
    for (int c = 0; c < w->copy_count; c++) {
        async_copy *copy = &w->copies[c];
        if (copy->lane != lane || copy->tied) continue;
        copy->tied = true;
        copy->barrier = barrier;
    }
    if (w->block->races) race_copy_tie(w->block->races, w->number, 1u << lane, barrier);
}

void block_deliver_tied(block *b, uint32_t barrier)
{
    for (int n = 0; n < b->warp_count; n++) {
        warp *w = &b->warps[n];
        int kept = 0;
        for (int c = 0; c < w->copy_count; c++)
            if (w->copies[c].tied && w->copies[c].barrier == barrier)
                deliver(&w->copies[c]);
            else
                w->copies[kept++] = w->copies[c];
        w->copy_count = kept;
    }
    if (b->races) race_copy_arrive(b->races, barrier);
}

/* Sources: lanes that copy the same number of bytes are checked together. */
static void source_hosts(warp *w, const insn *i, uint32_t mask, const uint64_t *addresses, const uint32_t *used, char *hosts[LANES])
{
    memset(hosts, 0, LANES * sizeof *hosts);
    while (mask) {
        uint32_t bytes = used[__builtin_ctz(mask)], same = 0;
        for (uint32_t rest = mask; rest; rest &= rest - 1)
            if (used[__builtin_ctz(rest)] == bytes) same |= rest & -rest;
        mask &= ~same;
        if (!bytes) continue;
        char *found[LANES];
        warp_access access = {.insn = i, .space = SPACE_GLOBAL, .lanes = same, .addresses = addresses, .bytes = (int)bytes, .align = (int)i->imm[0],
                              .kind = ACCESS_READ};
        warp_access_hosts(w, &access, found);
        for (uint32_t rest = same; rest; rest &= rest - 1) hosts[__builtin_ctz(rest)] = found[__builtin_ctz(rest)];
    }
}

static void copy(warp *w, const insn *i, uint32_t mask)
{
    uint64_t to[LANES], from[LANES];
    char *targets[LANES], *sources[LANES];
    uint32_t used[LANES];
    int bytes = (int)i->imm[0];
    warp_addresses(w, i, 0, i->offset[0], to);
    warp_addresses(w, i, 1, i->offset[1], from);
    for (int l = 0; l < LANES; l++) used[l] = i->s_count > 2 ? lanes32(w, &i->s[2])[l] : (uint32_t)bytes;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (used[lane] <= (uint32_t)bytes) continue;
        warp_finding(w, i, lane, "out of bounds", "copies %u bytes into %d", used[lane], bytes);
        used[lane] = (uint32_t)bytes;
    }
    warp_access target = {.insn = i, .space = SPACE_SHARED, .lanes = mask, .addresses = to, .bytes = bytes, .kind = ACCESS_WRITE, .later = true};
    warp_access_hosts(w, &target, targets);
    source_hosts(w, i, mask, from, used, sources);
    uint32_t good = 0;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        if (!targets[lane] || (used[lane] && !sources[lane])) continue;
        good |= 1u << lane;
        remember(w, (async_copy){.from = sources[lane], .to = targets[lane], .group = w->copy_group[lane], .lane = (uint8_t)lane,
                                 .bytes = (uint8_t)bytes, .used = (uint8_t)used[lane]});
    }
    if (!w->block->races || !good) return;
    race_access race = {.warp = w->number, .lanes = good, .addresses = to, .bytes = bytes, .kind = RACE_WRITE,
                        .place = (uint32_t)(i - w->block->launch->function->code)};
    race_copy(w->block->races, &race, from);
}

static bool check_size(insn *i, char *error, size_t bytes)
{
    int64_t size = i->imm[0];
    bool global_only = strstr(i->text, ".cg") != NULL;
    if (size == 16 || (!global_only && (size == 4 || size == 8))) return true;
    snprintf(error, bytes, "copies %lld bytes at a time: .ca takes 4, 8 and 16, .cg 16", (long long)size);
    return false;
}

static void commit(warp *w, const insn *i, uint32_t mask)
{
    (void)i;
    for (uint32_t rest = mask; rest; rest &= rest - 1) w->copy_group[__builtin_ctz(rest)]++;
    if (w->block->races) race_copy_commit(w->block->races, w->number, mask);
}

static void wait_group(warp *w, const insn *i, uint32_t mask)
{
    warp_deliver_copies(w, mask, (int)i->imm[0]);
    if (w->block->races) race_copy_wait(w->block->races, w->number, mask, (int)i->imm[0]);
}

static void wait_all(warp *w, const insn *i, uint32_t mask)
{
    commit(w, i, mask);
    warp_deliver_copies(w, mask, 0);
    if (w->block->races) race_copy_wait(w->block->races, w->number, mask, 0);
}

const ptx_row ptx_async_rows[] = {
    {"cp.async.commit_group", "", 0, "", "", PIPE_ASYNC, 0, commit, NULL},
    {"cp.async.wait_group", "", 0, "", "i", PIPE_ASYNC, 0, wait_group, NULL},
    {"cp.async.wait_all", "", 0, "", "", PIPE_ASYNC, 0, wait_all, NULL},
    {"cp.async.ca", "", 0, "s", "a a i s=32?", PIPE_ASYNC, 0, copy, check_size},
    {"cp.async.cg", "", 0, "s", "a a i s=32?", PIPE_ASYNC, 0, copy, check_size},
    {0},
};
