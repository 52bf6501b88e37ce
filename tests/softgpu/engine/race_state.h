/* Between race.c (accesses) and race_clock.c (order). */
#ifndef SOFTGPU_ENGINE_RACE_STATE_H
#define SOFTGPU_ENGINE_RACE_STATE_H

#include "engine/race.h"

/* The clock of a reduction that has not landed: later than anything that anyone has seen. */
#define IN_FLIGHT UINT32_MAX

/* RACE_ASYNC: ordered by the mbarrier that tells of an arrival. RACE_PRODUCTS: the clock is the product's number in its group. */
enum { WARPS = RACE_PRODUCTS + RACE_WARPGROUPS, SEVERAL_LANES = 255, MIXED_LANES = 254 /* several, of different bytes */, RECENT = 4, BARRIERS = 64 };

typedef uint32_t race_clocks[WARPS];

/* What is known of blocks: the clocks of their warps up to which all has been seen. */
typedef struct race_known {
    int count, capacity;
    struct race_seen {
        uint32_t block;
        race_clocks clocks;
    } *blocks;
} race_known;

/* 4 bytes of memory. Entries of another launch count as empty. */
typedef struct race_granule {
    uint32_t launch;
    uint8_t busy;              /* a lock of this and its neighbours, for global memory */
    uint8_t write_mask;        /* bytes of the last write */
    uint8_t write_strong, pending;
    struct race_stamp {
        union {
            struct {
                uint32_t block, clock;
            };
            uint64_t when;
        };
        union {
            struct {
                uint32_t place;
                uint16_t step; /* accesses of one instruction share it */
                uint8_t warp, lane;
            };
            uint64_t where;
        };
    } write, reads[2];
    uint8_t read_mask[2], read_strong[2];
} race_granule;

typedef struct race_mbarrier {
    uint64_t key;
    race_clocks arriving, complete;             /* of its own block */
    race_known arriving_known, complete_known;  /* of others */
} race_mbarrier;

typedef struct race_pending {
    uint32_t offset, place;
    uint64_t source;
    int32_t bytes, group;
    uint8_t warp, lane;
    bool tied;                 /* to an mbarrier */
    uint64_t barrier;
} race_pending;

typedef struct race_held {
    uint64_t id, from;
    int64_t bytes;
    struct race_stamp stamp;
} race_held;

struct race_block {
    race_launch *launch;
    bool waited;                         /* for the launch before */
    uint32_t id, serial;
    int warps;
    race_clocks now[WARPS];              /* now[w]: what warp w has seen of each warp; now[w][w]: its own time */
    race_known known[WARPS];
    race_clocks fenced[WARPS];           /* as now, at the warp's last fence */
    race_known fenced_known[WARPS];
    race_clocks proxied;                 /* what some warp had seen at its fence.proxy.async */
    uint64_t strong_reads[WARPS][RECENT]; /* addresses whose writers a fence would order before us */
    int strong_count[WARPS];
    uint16_t step[WARPS];
    race_mbarrier barriers[BARRIERS];
    int barrier_count;
    race_granule *shared;
    int64_t shared_granules;
    race_pending *pending;
    int pending_count, pending_capacity;
    race_held *held;                     /* sources in shared memory */
    int held_count, held_capacity;
    int32_t group[WARPS][32];            /* the cp.async group that each thread fills */
};

struct race_launch {
    uint32_t serial, before;
    race_report *report;
    void *context;
};

/* Strong accesses carry order: a write takes the writer's last fence along, a read is picked up by the reader's next one. */
void race_strong_write(race_block *block, int warp, uint64_t key);
void race_strong_read(race_block *block, int warp, uint64_t key);
/* The clock of another block's warp that `warp` has seen; 0: nothing. */
uint32_t race_seen_of(const race_block *block, int warp, uint32_t other, int other_warp);
/* The stamp of what RACE_ASYNC writes now, known to those who wait for the barrier's next phase. */
uint32_t race_async_clock(race_block *owner, uint64_t barrier);
void race_clocks_begin(race_block *block);
void race_clocks_free(race_block *block);
void race_clocks_forget(void); /* strong accesses of launches that are over */

#endif
