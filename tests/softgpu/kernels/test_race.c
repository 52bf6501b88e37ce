/* The race detector on scripts of accesses and synchronisation: each says how many races it holds. Two blocks of two warps. */
#include "engine/race.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

typedef enum verb {
    END, READ, WRITE, ATOMIC, STRONG_READ, STRONG_WRITE, SYNC_WARP, BARRIER, FENCE, ARRIVE, COMPLETE, WAIT, COPY, COMMIT, WAIT_GROUP, ALL_LANES,
    SEND, LAND, HOLD, LET_GO, /* bulk copies: into shared memory, told to the mbarrier at 512; out of it */
    ARRIVE_RELAXED,
    ARRIVE_FIRST, WAIT_FIRST  /* at an mbarrier of block 0, whoever does it */
} verb;

/* Warps 0 and 1 are block 0's, 2 and 3 block 1's. lane -1: each lane its own 4 bytes from `at` on. Addresses below 1000 are shared. */
typedef struct step {
    verb verb;
    int warp, lane, at, bytes;
} step;

enum { GLOBAL = 1000 };

static const struct {
    const char *name;
    int races, copies;
    step steps[24];
} scripts[] = {
    {"one thread alone", 0, 0, {{WRITE, 0, 3, 0, 4}, {READ, 0, 3, 0, 4}, {WRITE, 0, 3, 0, 4}}},
    {"read after write, no barrier", 1, 0, {{WRITE, 0, 0, 0, 4}, {READ, 1, 0, 0, 4}}},
    {"read after write, barrier", 0, 0, {{WRITE, 0, 0, 0, 4}, {BARRIER, 3}, {READ, 1, 0, 0, 4}}},
    {"barrier of another pair", 1, 0, {{WRITE, 0, 0, 0, 4}, {BARRIER, 2}, {READ, 1, 0, 0, 4}}},
    {"write after read, no barrier", 1, 0, {{WRITE, 0, 0, 0, 4}, {BARRIER, 3}, {READ, 1, 0, 0, 4}, {WRITE, 0, 0, 0, 4}}},
    {"write after read, barrier", 0, 0, {{READ, 1, 0, 0, 4}, {BARRIER, 3}, {WRITE, 0, 0, 0, 4}}},
    {"two readers, then a writer who is one of them", 1, 0, {{READ, 1, 0, 0, 4}, {READ, 0, 0, 0, 4}, {WRITE, 0, 0, 0, 4}}},
    {"write after write", 1, 0, {{WRITE, 0, 0, 0, 4}, {WRITE, 1, 0, 0, 4}}},
    {"readers only", 0, 0, {{READ, 0, 0, 0, 4}, {READ, 1, 0, 0, 4}, {READ, 0, 5, 0, 4}}},
    {"neighbouring halves", 0, 0, {{WRITE, 0, 0, 0, 2}, {WRITE, 1, 0, 2, 2}, {READ, 0, 0, 0, 2}}},
    {"neighbouring halves, each read and written by one lane", 0, 0, {{READ, 0, 0, 0, 2}, {READ, 0, 1, 2, 2}, {WRITE, 0, 0, 0, 2}, {WRITE, 0, 1, 2, 2}}},
    {"one half read, the other written", 0, 0, {{READ, 0, 0, 0, 2}, {WRITE, 1, 0, 2, 2}}},
    {"two lanes read, one writes", 1, 0, {{READ, 0, 0, 0, 4}, {READ, 0, 1, 0, 4}, {WRITE, 0, 0, 0, 4}}},
    {"overlapping vectors", 1, 0, {{WRITE, 0, 0, 0, 16}, {READ, 1, 0, 14, 4}}},
    {"lanes of a warp, no sync", 1, 0, {{WRITE, 0, 1, 0, 4}, {READ, 0, 2, 0, 4}}},
    {"lanes of a warp, sync", 0, 0, {{WRITE, 0, 1, 0, 4}, {SYNC_WARP, 0}, {READ, 0, 2, 0, 4}}},
    {"one instruction of many lanes", 0, 0, {{ALL_LANES, 0, 0, 0, 4}, {SYNC_WARP, 0}, {ALL_LANES, 0, 0, 0, 4}}},
    {"atomics among themselves", 0, 0, {{ATOMIC, 0, 0, 0, 4}, {ATOMIC, 1, 0, 0, 4}, {STRONG_READ, 0, 0, 0, 4}}},
    {"a plain write beside an atomic", 1, 0, {{ATOMIC, 0, 0, 0, 4}, {WRITE, 1, 0, 0, 4}}},
    {"a plain read beside an atomic's", 1, 0, {{READ, 0, 0, 0, 4}, {STRONG_READ, 0, 1, 0, 4}, {ATOMIC, 1, 0, 0, 4}}},
    {"two readers, one before an atomic", 1, 0, {{READ, 0, 0, 0, 4}, {STRONG_READ, 1, 0, 0, 4}, {ATOMIC, 1, 0, 0, 4}}},
    {"blocks share nothing", 0, 0, {{WRITE, 0, 0, 0, 4}, {WRITE, 2, 0, 0, 4}}},
    {"blocks collide in global memory", 1, 0, {{WRITE, 0, 0, GLOBAL, 4}, {WRITE, 2, 0, GLOBAL, 4}}},
    {"message with fences", 0, 0,
     {{WRITE, 0, 0, GLOBAL, 4}, {FENCE, 0}, {ATOMIC, 0, 0, GLOBAL + 64, 4}, {ATOMIC, 2, 0, GLOBAL + 64, 4}, {FENCE, 2}, {READ, 2, 0, GLOBAL, 4}}},
    {"message without the writer's fence", 1, 0,
     {{WRITE, 0, 0, GLOBAL, 4}, {ATOMIC, 0, 0, GLOBAL + 64, 4}, {ATOMIC, 2, 0, GLOBAL + 64, 4}, {FENCE, 2}, {READ, 2, 0, GLOBAL, 4}}},
    {"message without the reader's fence", 1, 0,
     {{WRITE, 0, 0, GLOBAL, 4}, {FENCE, 0}, {STRONG_WRITE, 0, 0, GLOBAL + 64, 4}, {STRONG_READ, 2, 0, GLOBAL + 64, 4}, {READ, 2, 0, GLOBAL, 4}}},
    {"written after the fence", 1, 0,
     {{FENCE, 0}, {WRITE, 0, 0, GLOBAL, 4}, {ATOMIC, 0, 0, GLOBAL + 64, 4}, {ATOMIC, 2, 0, GLOBAL + 64, 4}, {FENCE, 2}, {READ, 2, 0, GLOBAL, 4}}},
    {"message for the whole block, through barriers", 0, 0,
     {{WRITE, 1, 0, GLOBAL, 4}, {BARRIER, 3}, {FENCE, 0}, {ATOMIC, 0, 0, GLOBAL + 64, 4}, {ATOMIC, 2, 0, GLOBAL + 64, 4}, {FENCE, 2},
      {BARRIER, 12}, {READ, 3, 0, GLOBAL, 4}}},
    {"message, but the other warp did not wait", 1, 0,
     {{WRITE, 1, 0, GLOBAL, 4}, {BARRIER, 3}, {FENCE, 0}, {ATOMIC, 0, 0, GLOBAL + 64, 4}, {ATOMIC, 2, 0, GLOBAL + 64, 4}, {FENCE, 2},
      {READ, 3, 0, GLOBAL, 4}}},
    {"mbarrier", 0, 0, {{WRITE, 0, 0, 0, 4}, {ARRIVE, 0, 0, 512}, {COMPLETE, 0, 0, 512}, {WAIT, 1, 0, 512}, {READ, 1, 0, 0, 4}}},
    {"mbarrier, a relaxed arrival", 1, 0, {{WRITE, 0, 0, 0, 4}, {ARRIVE_RELAXED, 0, 0, 512}, {COMPLETE, 0, 0, 512}, {WAIT, 1, 0, 512}, {READ, 1, 0, 0, 4}}},
    {"mbarrier, a relaxed arrival behind a fence", 0, 0,
     {{WRITE, 0, 0, 0, 4}, {FENCE, 0}, {ARRIVE_RELAXED, 0, 0, 512}, {COMPLETE, 0, 0, 512}, {WAIT, 1, 0, 512}, {READ, 1, 0, 0, 4}}},
    {"mbarrier, the phase before", 1, 0, {{WRITE, 0, 0, 0, 4}, {ARRIVE, 0, 0, 512}, {WAIT, 1, 0, 512}, {READ, 1, 0, 0, 4}}},
    {"copy waited for", 0, 0, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {WAIT_GROUP, 0, 0, 0}, {READ, 0, 0, 0, 4}}},
    {"copy not waited for", 0, 1, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {READ, 0, 0, 0, 4}, {WAIT_GROUP, 0, 0, 0}}},
    {"the group before", 0, 1, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {COPY, 0, 0, 16, 16}, {COMMIT, 0, 0}, {WAIT_GROUP, 0, 0, 1},
                               {READ, 0, 0, 0, 4}, {READ, 0, 0, 16, 4}}},
    {"waited, but others read without a barrier", 1, 0, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {WAIT_GROUP, 0, 0, 0}, {READ, 1, 0, 0, 4}}},
    {"waited, and a barrier", 0, 0, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {WAIT_GROUP, 0, 0, 0}, {BARRIER, 3}, {READ, 1, 0, 0, 4}}},
    {"a barrier, but not waited", 0, 1, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {BARRIER, 3}, {READ, 1, 0, 0, 4}}},
    {"buffer reused under a reader", 1, 0, {{READ, 1, 0, 0, 4}, {COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {WAIT_GROUP, 0, 0, 0}}},
    {"written while a copy is in flight", 0, 1, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {WRITE, 0, 0, 4, 4}}},
    {"source written while in flight", 0, 1, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {WRITE, 0, 0, GLOBAL + 4, 4}}},
    {"what lies beside the source written", 0, 0, {{COPY, 0, 0, 0, 16}, {COMMIT, 0, 0}, {WRITE, 0, 0, GLOBAL + 16, 4}}},
    {"bulk copy waited for by another warp", 0, 0, {{SEND, 0, 0, 0, 16}, {LAND, 0, 0, 0, 16}, {COMPLETE, 0, 0, 512}, {WAIT, 1, 0, 512}, {READ, 1, 0, 8, 4}}},
    {"bulk copy read in flight", 0, 1, {{SEND, 0, 0, 0, 16}, {READ, 1, 0, 8, 4}}},
    {"bulk copy there, but not waited for", 1, 0, {{SEND, 0, 0, 0, 16}, {LAND, 0, 0, 0, 16}, {COMPLETE, 0, 0, 512}, {READ, 0, 0, 8, 4}}},
    {"bulk copy over what others read", 1, 0, {{READ, 1, 0, 8, 4}, {SEND, 0, 0, 0, 16}}},
    {"bulk copy over what others have read", 0, 0, {{READ, 1, 0, 8, 4}, {BARRIER, 3}, {SEND, 0, 0, 0, 16}}},
    {"a bulk copy's source written", 0, 1, {{HOLD, 0, 0, 0, 16}, {WRITE, 0, 0, 4, 4}, {LET_GO, 0}}},
    {"a bulk copy's source written afterwards", 0, 0, {{HOLD, 0, 0, 0, 16}, {LET_GO, 0}, {WRITE, 0, 0, 4, 4}}},
    {"message through another block's mbarrier", 0, 0,
     {{WRITE, 2, 0, GLOBAL, 4}, {ARRIVE_FIRST, 2, 0, 512}, {COMPLETE, 0, 0, 512}, {WAIT, 1, 0, 512}, {READ, 1, 0, GLOBAL, 4}}},
    {"message back from another block's mbarrier", 0, 0,
     {{WRITE, 1, 0, GLOBAL, 4}, {ARRIVE, 1, 0, 512}, {COMPLETE, 0, 0, 512}, {WAIT_FIRST, 2, 0, 512}, {READ, 2, 0, GLOBAL, 4}}},
    {"message past another block's mbarrier", 1, 0,
     {{ARRIVE_FIRST, 2, 0, 512}, {WRITE, 2, 0, GLOBAL, 4}, {COMPLETE, 0, 0, 512}, {WAIT, 1, 0, 512}, {READ, 1, 0, GLOBAL, 4}}},
};

static int races, copies;

static void count(void *context, const char *kind, bool shared, uint64_t address, const race_point *earlier, const race_point *now)
{
    (void)context, (void)shared, (void)address, (void)earlier, (void)now;
    if (!strcmp(kind, "race"))
        races++;
    else
        copies++;
}

static const race_kind kinds[] = {[READ] = RACE_READ, [WRITE] = RACE_WRITE, [ATOMIC] = RACE_ATOMIC, [STRONG_READ] = RACE_STRONG_READ,
                                  [STRONG_WRITE] = RACE_STRONG_WRITE, [COPY] = RACE_WRITE, [ALL_LANES] = RACE_WRITE, [SEND] = RACE_WRITE, [HOLD] = RACE_READ};

static void access_memory(race_block *block, sg_region *region, const step *s, int warp)
{
    uint64_t addresses[32], sources[32];
    bool global = s->at >= GLOBAL;
    for (int lane = 0; lane < 32; lane++) {
        addresses[lane] = global ? region->address + (uint64_t)(s->at - GLOBAL) : (uint64_t)s->at;
        sources[lane] = region->address;
    }
    race_access access = {.warp = warp, .lanes = s->verb == ALL_LANES ? UINT32_MAX : 1u << s->lane, .addresses = addresses, .bytes = s->bytes,
                          .kind = kinds[s->verb]};
    if (s->verb == HOLD) race_source(block, &access, 1);
    if (s->verb == COPY)
        race_copy(block, &access, sources);
    else if (global)
        race_global(block, region, &access);
    else
        race_shared(block, &access);
    if (s->verb == SEND) race_in_flight(block, (uint32_t)s->at, s->bytes);
}

static void perform(race_block *const *blocks, sg_region *region, const step *s)
{
    race_block *block = blocks[s->verb == BARRIER ? s->warp > 3 : s->warp / 2];
    int warp = s->warp % 2;
    switch (s->verb) {
    case SYNC_WARP: race_warp_sync(block, warp); break;
    case BARRIER: race_barrier(block, (uint32_t)(s->warp > 3 ? s->warp >> 2 : s->warp)); break;
    case FENCE: race_fence(block, warp); break;
    case ARRIVE: race_arrive(block, warp, block, (uint64_t)s->at); break;
    case ARRIVE_RELAXED: race_arrive_relaxed(block, warp, block, (uint64_t)s->at); break;
    case COMPLETE: race_phase_complete(block, (uint64_t)s->at); break;
    case WAIT: race_phase_wait(block, warp, block, (uint64_t)s->at); break;
    case COMMIT: race_copy_commit(block, warp, 1u << s->lane); break;
    case WAIT_GROUP: race_copy_wait(block, warp, 1u << s->lane, s->at); break;
    case LAND: race_arrived(block, (uint32_t)s->at, s->bytes, 512, false); break;
    case LET_GO: race_source_done(block, 1); break;
    case ARRIVE_FIRST: race_arrive(block, warp, blocks[0], (uint64_t)s->at); break;
    case WAIT_FIRST: race_phase_wait(block, warp, blocks[0], (uint64_t)s->at); break;
    default: access_memory(block, region, s, warp);
    }
}

static void scripts_hold_as_many_races_as_they_say(void **state)
{
    (void)state;
    sg_properties properties;
    assert_true(sg_properties_named("a100", &properties));
    sg_device *device = sg_device_create(0, &properties);
    uint64_t address = sg_memory_allocate(device, SG_MEMORY_DEVICE, 256, "cudaMalloc");
    race_block *blocks[] = {race_block_create(), race_block_create()};
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        race_launch *launch = race_launch_begin(count, NULL, 0);
        races = copies = 0;
        for (uint32_t b = 0; b < 2; b++) assert_true(race_block_begin(blocks[b], launch, b, 2, 768));
        for (const step *s = scripts[i].steps; s->verb != END; s++) perform(blocks, sg_region_at(address), s);
        if (races != scripts[i].races || copies != scripts[i].copies)
            fail_msg("%s: %d races and %d copies, expected %d and %d", scripts[i].name, races, copies, scripts[i].races, scripts[i].copies);
        race_launch_end(launch);
    }
    race_block_destroy(blocks[0]);
    race_block_destroy(blocks[1]);
    assert_true(sg_memory_free(address));
    sg_device_destroy(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(scripts_hold_as_many_races_as_they_say)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
