/* Data races, told from the order that synchronisation makes and not from timing. Every warp has a vector clock over its block's
   warps and what it knows of other blocks; every 4 bytes of memory remember their last writer and two last readers, with clocks. Two
   accesses to a byte, one of them a write and not both atomic, race unless the clocks order them. Lanes of one warp are ordered
   by bar.warp.sync only. The executor calls this for each warp instruction; a block belongs to one host thread at a time.
   Forgotten, so that some races are missed but none invented: readers beyond the last two, the other half of a word written by
   halves, which lanes of a partial warp barrier took part, which phase's arrivals beyond the last an mbarrier's wait saw. */
#ifndef SOFTGPU_ENGINE_RACE_H
#define SOFTGPU_ENGINE_RACE_H

#include "engine/memory.h"

typedef struct race_launch race_launch; /* what blocks of a launch share */
typedef struct race_block race_block;

typedef enum race_kind {
    RACE_READ,
    RACE_WRITE,
    RACE_STRONG_READ,  /* volatile, relaxed, acquire: not a race against other strong accesses */
    RACE_STRONG_WRITE,
    RACE_ATOMIC        /* strong, reads and writes */
} race_kind;

/* The warps of what happens by itself: RACE_ASYNC writes what arrives, RACE_PRODUCTS and on read for the warpgroups' products. */
enum { RACE_ASYNC = 32, RACE_PRODUCTS, RACE_WARPGROUPS = 8 };

typedef struct race_point {
    uint32_t block, place; /* place: the executor's number of the instruction */
    uint8_t warp, lane;    /* lane 32 and above: several */
    bool write;
} race_point;

/* kind: "race", "async copy" or "proxy fence"; `earlier` NULL: the launch before this one; address as the executor gave it. For an async copy, `earlier` issued it. */
typedef void race_report(void *context, const char *kind, bool shared, uint64_t address, const race_point *earlier,
                         const race_point *now);

/* `before`: the serial of a launch that may not have ended yet; 0: none. What it wrote is its own until a block waits for it. */
race_launch *race_launch_begin(race_report *report, void *context, uint32_t before);
uint32_t race_launch_serial(const race_launch *launch);
void race_grid_wait(race_block *block); /* griddepcontrol.wait */
void race_launch_end(race_launch *launch);
/* A block can be begun again and again; its memory is kept. NULL if memory ran out. */
race_block *race_block_create(void);
bool race_block_begin(race_block *block, race_launch *launch, uint32_t id, int warps, int64_t shared_bytes);
void race_block_destroy(race_block *block);

/* One warp instruction: `addresses` by lane (offsets into shared memory, or addresses inside `region`), `bytes` of each lane. */
typedef struct race_access {
    int warp;
    uint32_t lanes;
    const uint64_t *addresses;
    int bytes;
    race_kind kind;
    uint32_t place;
    bool async;       /* by the asynchronous proxy: what threads wrote needs a fence.proxy.async first */
    uint32_t product; /* not 0: read until that product of the warp's group is complete, for all its four warps */
} race_access;
void race_shared(race_block *block, const race_access *access);
/* The shared memory of another block of the cluster. */
void race_shared_of(race_block *block, race_block *owner, const race_access *access);
void race_global(race_block *block, sg_region *region, const race_access *access);

/* Synchronisation, when it has happened. */
void race_warp_sync(race_block *block, int warp);
void race_barrier(race_block *block, uint32_t warps);                 /* these warps met */
void race_fence(race_block *block, int warp);                         /* before a release, after an acquire, or a fence itself */
/* mbarriers, by their offset in the shared memory of `owner`; a warp of another block of the cluster may arrive, and wait. */
void race_arrive(race_block *block, int warp, race_block *owner, uint64_t barrier);
void race_arrive_relaxed(race_block *block, int warp, race_block *owner, uint64_t barrier); /* carries what the last fence did */
void race_phase_complete(race_block *owner, uint64_t barrier);
void race_phase_wait(race_block *block, int warp, race_block *owner, uint64_t barrier);

void race_proxy_fence(race_block *block, int warp);                   /* fence.proxy.async */

/* The warp has waited for its group's products up to this one. */
void race_product_wait(race_block *block, int warp, uint32_t product);

/* cp.async: a write to shared memory (access, shared offsets) in flight, read from `sources` by lane. */
void race_copy(race_block *block, const race_access *access, const uint64_t *sources);
void race_copy_commit(race_block *block, int warp, uint32_t lanes);
void race_copy_wait(race_block *block, int warp, uint32_t lanes, int groups_left); /* wait_all: 0 after a commit */
/* An mbarrier is to tell when the copies that these lanes have in flight are there; then it does. */
void race_copy_tie(race_block *block, int warp, uint32_t lanes, uint64_t barrier);
void race_copy_arrive(race_block *block, uint64_t barrier);

/* Bulk copies. What is written arrives by itself: any access before that is a finding; afterwards, those are in order that waited for the
   barrier. A source is held until it is done: a write to it before that is a finding. */
void race_in_flight(race_block *owner, uint32_t offset, int64_t bytes);
void race_arrived(race_block *owner, uint32_t offset, int64_t bytes, uint64_t barrier, bool reduced); /* reduced: others may be, too */
void race_global_in_flight(race_block *block, sg_region *region, const race_access *access, bool begins);
void race_global_reducing(race_block *block, sg_region *region, const race_access *access, bool begins);
void race_source(race_block *block, const race_access *access, uint64_t id);
void race_source_done(race_block *block, uint64_t id);

#endif
