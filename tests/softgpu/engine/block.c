/* Memory of the blocks that one worker runs, and their beginning: registers, special registers, shared and local memory. */
#include "engine/finding.h"
#include "engine/lanes.h"

#include <stdlib.h>
#include <string.h>

static size_t up(size_t bytes) { return (bytes + 63) / 64 * 64; }

static void *lines(size_t bytes) { return aligned_alloc(64, up(bytes ? bytes : 1)); }

/* Marks exist where checks do. */
static bool make_block(block *b, launch *l)
{
    const sg_function *f = l->function;
    size_t warps = (size_t)l->warps, local = (size_t)f->local_bytes * LANES * warps;
    b->launch = l;
    b->warp_count = l->warps;
    b->shared = lines((size_t)l->shared_bytes);
    b->registers = lines(up(f->register_bytes) * warps);
    b->local = lines(local);
    if (!b->shared || !b->registers || !b->local) return false;
    memset(b->registers, 0xff, up(f->register_bytes) * warps);
    if (!l->races) return true;
    b->shared_written = lines((size_t)l->shared_bytes);
    b->local_written = lines(local);
    b->marks = lines((size_t)f->mark_count * warps * sizeof *b->marks);
    b->races = race_block_create();
    return b->shared_written && b->local_written && b->marks && b->races;
}

static void wire_warp(block *b, int number)
{
    const sg_function *f = b->launch->function;
    warp *w = &b->warps[number];
    size_t local = (size_t)number * (size_t)f->local_bytes * LANES;
    w->block = b;
    w->number = number;
    w->bases[0] = b->registers + (size_t)number * up(f->register_bytes);
    w->bases[1] = b->launch->constants;
    w->local = b->local + local;
    w->local_written = b->local_written ? b->local_written + local : NULL;
    w->written = b->races && f->multiplies ? malloc(f->register_bytes) : NULL;
    w->marks = b->marks ? b->marks + (size_t)number * (size_t)f->mark_count : NULL;
}

block *team_create(launch *l, worker *worker, counts *counts)
{
    block *team = calloc((size_t)l->team, sizeof *team);
    if (!team) return NULL;
    for (int r = 0; r < l->team; r++) {
        if (!make_block(&team[r], l)) {
            team_free(team);
            return NULL;
        }
        team[r].worker = worker;
        team[r].counts = counts;
        team[r].rank = r % l->cluster;
        for (int w = 0; w < l->warps; w++) wire_warp(&team[r], w);
    }
    return team;
}

void team_free(block *team)
{
    for (int r = 0; team && r < team->launch->team && team[r].launch; r++) {
        block *b = &team[r];
        free(b->shared), free(b->registers), free(b->local), free(b->shared_written), free(b->local_written), free(b->marks);
        block_bulk_end(b);
        free(b->phases), free(b->bulk);
        race_block_destroy(b->races);
        for (int w = 0; w < b->warp_count; w++) {
            free(b->warps[w].copies), free(b->warps[w].wgmmas), free(b->warps[w].written);
            for (int lane = 0; lane < LANES; lane++) free(b->warps[w].aside[lane].values);
        }
    }
    free(team);
}

int64_t block_steps(const block *b)
{
    int64_t steps = 0;
    for (int w = 0; w < b->warp_count; w++) steps += b->warps[w].steps;
    return steps;
}

/* ---- special registers ---------------------------------------------------------------------------------------------------------- */

static uint32_t special_value(const warp *w, int which, int lane)
{
    const block *b = w->block;
    const sg_launch *r = b->launch->request;
    uint32_t thread = (uint32_t)(w->number * LANES + lane), x = r->block[0], y = r->block[1];
    const unsigned *c = r->cluster;
    switch (which) {
    case SPECIAL_TID_X: return thread % x;
    case SPECIAL_TID_Y: return thread / x % y;
    case SPECIAL_TID_Z: return thread / x / y;
    case SPECIAL_NTID_X:
    case SPECIAL_NTID_Y:
    case SPECIAL_NTID_Z: return r->block[which - SPECIAL_NTID_X];
    case SPECIAL_CTAID_X:
    case SPECIAL_CTAID_Y:
    case SPECIAL_CTAID_Z: return b->index[which - SPECIAL_CTAID_X];
    case SPECIAL_NCTAID_X:
    case SPECIAL_NCTAID_Y:
    case SPECIAL_NCTAID_Z: return r->grid[which - SPECIAL_NCTAID_X];
    case SPECIAL_LANEID: return (uint32_t)lane;
    case SPECIAL_WARPID: return (uint32_t)w->number;
    case SPECIAL_NWARPID: return (uint32_t)b->warp_count;
    case SPECIAL_SMID: return (uint32_t)(b->id % sg_device_properties(b->launch->device)->multiprocessors);
    case SPECIAL_NSMID: return (uint32_t)sg_device_properties(b->launch->device)->multiprocessors;
    case SPECIAL_LANEMASK_EQ: return 1u << lane;
    case SPECIAL_LANEMASK_LE: return UINT32_MAX >> (31 - lane);
    case SPECIAL_LANEMASK_LT: return (1u << lane) - 1;
    case SPECIAL_LANEMASK_GE: return UINT32_MAX << lane;
    case SPECIAL_LANEMASK_GT: return UINT32_MAX << lane << 1;
    case SPECIAL_CLUSTERID_X:
    case SPECIAL_CLUSTERID_Y:
    case SPECIAL_CLUSTERID_Z: return b->index[which - SPECIAL_CLUSTERID_X] / c[which - SPECIAL_CLUSTERID_X];
    case SPECIAL_NCLUSTERID_X:
    case SPECIAL_NCLUSTERID_Y:
    case SPECIAL_NCLUSTERID_Z: return r->grid[which - SPECIAL_NCLUSTERID_X] / c[which - SPECIAL_NCLUSTERID_X];
    case SPECIAL_CLUSTER_CTAID_X:
    case SPECIAL_CLUSTER_CTAID_Y:
    case SPECIAL_CLUSTER_CTAID_Z: return b->index[which - SPECIAL_CLUSTER_CTAID_X] % c[which - SPECIAL_CLUSTER_CTAID_X];
    case SPECIAL_CLUSTER_NCTAID_X:
    case SPECIAL_CLUSTER_NCTAID_Y:
    case SPECIAL_CLUSTER_NCTAID_Z: return c[which - SPECIAL_CLUSTER_NCTAID_X];
    case SPECIAL_CLUSTER_CTARANK: return (uint32_t)b->rank;
    case SPECIAL_CLUSTER_NCTARANK: return (uint32_t)b->launch->cluster;
    case SPECIAL_DYNAMIC_SMEM_SIZE: return (uint32_t)r->dynamic_shared_bytes;
    case SPECIAL_ENVREG1: return (uint32_t)(b->launch->workspace >> 32);
    case SPECIAL_ENVREG2: return (uint32_t)b->launch->workspace;
    case SPECIAL_TOTAL_SMEM_SIZE: return (uint32_t)b->launch->shared_own;
    case SPECIAL_RESERVED_BEGIN:
    case SPECIAL_RESERVED_0: return (uint32_t)(b->launch->shared_bytes - RESERVED_SHARED);
    case SPECIAL_RESERVED_1: return (uint32_t)(b->launch->shared_bytes - RESERVED_SHARED / 2);
    case SPECIAL_RESERVED_END: return (uint32_t)b->launch->shared_bytes;
    case SPECIAL_RESERVED_CAP: return RESERVED_SHARED;
    default: return 0; /* %gridid, and clocks before they are read */
    }
}

static void fill_specials(warp *w)
{
    const sg_function *f = w->block->launch->function;
    for (int s = 0; s < f->special_count; s++) {
        uint8_t *at = w->bases[0] + f->specials[s].offset;
        for (int lane = 0; lane < LANES; lane++) {
            uint64_t value = special_value(w, f->specials[s].which, lane);
            int bytes = ptx_special_bits(f->specials[s].which) / 8;
            memcpy(at + lane * bytes, &value, (size_t)bytes);
        }
    }
}

/* ---- beginning ------------------------------------------------------------------------------------------------------------------------- */

static void begin_warp(warp *w)
{
    int threads = w->block->launch->threads - w->number * LANES;
    w->all = threads >= LANES ? UINT32_MAX : (1u << threads) - 1;
    w->active = w->live = w->all;
    w->state = WARP_READY;
    w->pc = w->next = 0;
    w->group_count = w->hold = w->copy_count = 0;
    w->wgmma_count = w->wgmma_group = 0;
    w->wgmma_serial = w->wgmma_fences = 0;
    if (w->written) memset(w->written, 0, w->block->launch->function->register_bytes);
    w->at_cluster = 0;
    w->carry = 0;
    w->registers = (w->block->launch->function->resources.registers + 7) / 8 * 8;
    w->register_changes = 0;
    w->waits = false;
    memset(w->frame, 0, sizeof w->frame);
    memset(w->depth, 0, sizeof w->depth);
    for (int lane = 0; lane < LANES; lane++) w->aside[lane].count = 0;
    memset(w->copy_group, 0, sizeof w->copy_group);
    memset(w->bulk_group, 0, sizeof w->bulk_group);
    fill_specials(w);
}

static void begin_block(block *b, int64_t id)
{
    launch *l = b->launch;
    const unsigned *grid = l->request->grid;
    b->id = id;
    b->index[0] = (uint32_t)(id % grid[0]);
    b->index[1] = (uint32_t)(id / grid[0] % grid[1]);
    b->index[2] = (uint32_t)(id / grid[0] / grid[1]);
    b->live_warps = b->warp_count;
    b->steps_before = block_steps(b);
    b->register_pool = 0;
    b->phase_count = 0;
    memset(b->barriers, 0, sizeof b->barriers);
    const size_t own = (size_t)l->shared_own, reserved = (size_t)(l->shared_bytes - l->shared_own);
    memset(b->shared, 0xff, own); /* NaN in every floating format */
    memset(b->shared + own, 0, reserved); /* cooperative groups count on zeros */
    if (b->races) {
        size_t local = (size_t)l->function->local_bytes * LANES * (size_t)l->warps;
        memset(b->shared_written, 0, own);
        memset(b->shared_written + own, 1, reserved);
        memset(b->local_written, 0, local);
        memset(b->local, 0xff, local);
        memset(b->marks, 0, (size_t)l->function->mark_count * (size_t)l->warps * sizeof *b->marks);
        if (!race_block_begin(b->races, l->races, (uint32_t)id, b->warp_count, l->shared_bytes)) abort();
    }
    for (int w = 0; w < b->warp_count; w++) begin_warp(&b->warps[w]);
}

/* A cluster is a box of neighbours in the grid. */
static int64_t block_of_cluster(const launch *l, int64_t cluster, int rank)
{
    const unsigned *g = l->request->grid, *c = l->request->cluster;
    int64_t nx = g[0] / c[0], ny = g[1] / c[1];
    int64_t x = cluster % nx * c[0] + rank % c[0], y = cluster / nx % ny * c[1] + rank / c[0] % c[1];
    int64_t z = cluster / nx / ny * c[2] + rank / c[0] / c[1];
    return (z * g[1] + y) * g[0] + x;
}

void team_begin(block *team, int64_t number)
{
    launch *l = team->launch;
    for (int r = 0; r < l->team; r++)
        begin_block(&team[r], l->cluster > 1 ? block_of_cluster(l, number + r / l->cluster, r % l->cluster) : number * l->team + r);
}
