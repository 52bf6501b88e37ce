/* The order between warps: clocks, barriers, fences with strong accesses, mbarriers. */
#include "engine/race_state.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is known of other blocks ------------------------------------------------------------------------------------ */

static void join_clocks(race_clocks to, const race_clocks from)
{
    for (int w = 0; w < WARPS; w++)
        if (from[w] > to[w]) to[w] = from[w];
}

static struct race_seen *find(const race_known *known, uint32_t block)
{
    int low = 0, high = known->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (known->blocks[middle].block < block)
            low = middle + 1;
        else
            high = middle;
    }
    return known->blocks + low;
}

static void learn(race_known *known, uint32_t block, const race_clocks clocks)
{
    struct race_seen *at = find(known, block);
    int index = (int)(at - known->blocks);
    if (index < known->count && at->block == block) {
        join_clocks(at->clocks, clocks);
        return;
    }
    if (known->count == known->capacity) {
        int capacity = known->capacity ? 2 * known->capacity : 4;
        struct race_seen *grown = realloc(known->blocks, (size_t)capacity * sizeof *grown);
        if (!grown) return;
        known->blocks = grown;
        known->capacity = capacity;
    }
    memmove(known->blocks + index + 1, known->blocks + index, (size_t)(known->count - index) * sizeof *known->blocks);
    known->blocks[index].block = block;
    memcpy(known->blocks[index].clocks, clocks, sizeof(race_clocks));
    known->count++;
}

static void join_known(race_known *to, const race_known *from)
{
    for (int i = 0; i < from->count; i++) learn(to, from->blocks[i].block, from->blocks[i].clocks);
}

uint32_t race_seen_of(const race_block *block, int warp, uint32_t other, int other_warp)
{
    const race_known *known = &block->known[warp];
    const struct race_seen *at = find(known, other);
    return at < known->blocks + known->count && at->block == other ? at->clocks[other_warp] : 0;
}

/* ---- strong accesses ----------------------------------------------------------------------------------------------------- */

/* What fences have put behind each address, for all launches at once: keys of shared memory carry the block. */
enum { BUCKETS = 1024 };
typedef struct carrier {
    uint64_t key;
    race_known known;
    struct carrier *next;
} carrier;
static carrier *carriers[BUCKETS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static carrier *carrier_of(uint64_t key, bool make)
{
    carrier **bucket = &carriers[(key >> 2 ^ key >> 13) % BUCKETS];
    for (carrier *c = *bucket; c; c = c->next)
        if (c->key == key) return c;
    carrier *made = make ? calloc(1, sizeof *made) : NULL;
    if (!made) return NULL;
    made->key = key;
    made->next = *bucket;
    return *bucket = made;
}

void race_clocks_forget(void)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < BUCKETS; i++)
        for (carrier *c = carriers[i], *next; c; c = next) {
            next = c->next;
            free(c->known.blocks);
            free(c);
        }
    memset(carriers, 0, sizeof carriers);
    pthread_mutex_unlock(&lock);
}

void race_strong_write(race_block *block, int warp, uint64_t key)
{
    if (!block->fenced[warp][warp]) return; /* no fence yet: nothing to carry */
    pthread_mutex_lock(&lock);
    carrier *c = carrier_of(key, true);
    if (c) {
        learn(&c->known, block->id, block->fenced[warp]);
        join_known(&c->known, &block->fenced_known[warp]);
    }
    pthread_mutex_unlock(&lock);
}

void race_strong_read(race_block *block, int warp, uint64_t key)
{
    int count = block->strong_count[warp] < RECENT ? block->strong_count[warp] : RECENT;
    for (int i = 0; i < count; i++)
        if (block->strong_reads[warp][i] == key) return;
    block->strong_reads[warp][block->strong_count[warp]++ % RECENT] = key;
}

void race_fence(race_block *block, int warp)
{
    int count = block->strong_count[warp] < RECENT ? block->strong_count[warp] : RECENT;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) {
        carrier *c = carrier_of(block->strong_reads[warp][i], false);
        for (int b = 0; c && b < c->known.count; b++)
            if (c->known.blocks[b].block == block->id)
                join_clocks(block->now[warp], c->known.blocks[b].clocks);
            else
                learn(&block->known[warp], c->known.blocks[b].block, c->known.blocks[b].clocks);
    }
    pthread_mutex_unlock(&lock);
    memcpy(block->fenced[warp], block->now[warp], sizeof(race_clocks));
    join_known(&block->fenced_known[warp], &block->known[warp]);
    block->now[warp][warp]++;
}

/* Whoever fences what it has seen, its own or others': where the fence lies on the way from a write to the copy is not asked. */
void race_proxy_fence(race_block *block, int warp)
{
    race_fence(block, warp);
    join_clocks(block->proxied, block->fenced[warp]);
}

/* ---- barriers ------------------------------------------------------------------------------------------------------------ */

void race_warp_sync(race_block *block, int warp) { block->now[warp][warp]++; }

void race_barrier(race_block *block, uint32_t warps)
{
    race_clocks all = {0};
    race_known known = {0};
    for (int w = 0; w < block->warps; w++)
        if (warps >> w & 1) {
            join_clocks(all, block->now[w]);
            join_known(&known, &block->known[w]);
        }
    for (int w = 0; w < block->warps; w++)
        if (warps >> w & 1) {
            memcpy(block->now[w], all, sizeof all);
            join_known(&block->known[w], &known);
            block->now[w][w]++;
        }
    free(known.blocks);
}

void race_product_wait(race_block *block, int warp, uint32_t product)
{
    uint32_t *seen = &block->now[warp][RACE_PRODUCTS + warp / 4];
    if (*seen < product) *seen = product;
}

static race_mbarrier *mbarrier(race_block *block, uint64_t key)
{
    for (int i = 0; i < block->barrier_count; i++)
        if (block->barriers[i].key == key) return &block->barriers[i];
    race_mbarrier *b = &block->barriers[block->barrier_count < BARRIERS ? block->barrier_count++ : BARRIERS - 1];
    b->key = key;
    memset(b->arriving, 0, sizeof b->arriving);
    memset(b->complete, 0, sizeof b->complete);
    b->arriving_known.count = b->complete_known.count = 0;
    return b;
}

/* What a warp of `block` is told by others; the list may speak of its own block too. */
static void be_told(race_block *block, int warp, const race_known *known)
{
    for (int i = 0; i < known->count; i++)
        if (known->blocks[i].block == block->id)
            join_clocks(block->now[warp], known->blocks[i].clocks);
        else
            learn(&block->known[warp], known->blocks[i].block, known->blocks[i].clocks);
}

static void bring(race_block *block, const race_clocks clocks, const race_known *known, race_block *owner, uint64_t barrier)
{
    race_mbarrier *b = mbarrier(owner, barrier);
    if (block == owner)
        join_clocks(b->arriving, clocks);
    else
        learn(&b->arriving_known, block->id, clocks);
    join_known(&b->arriving_known, known);
}

void race_arrive(race_block *block, int warp, race_block *owner, uint64_t barrier)
{
    bring(block, block->now[warp], &block->known[warp], owner, barrier);
    block->now[warp][warp]++;
}

void race_arrive_relaxed(race_block *block, int warp, race_block *owner, uint64_t barrier)
{
    bring(block, block->fenced[warp], &block->fenced_known[warp], owner, barrier);
    block->now[warp][warp]++;
}

void race_phase_complete(race_block *owner, uint64_t barrier)
{
    race_mbarrier *b = mbarrier(owner, barrier);
    join_clocks(b->complete, b->arriving);
    join_known(&b->complete_known, &b->arriving_known);
}

void race_phase_wait(race_block *block, int warp, race_block *owner, uint64_t barrier)
{
    const race_mbarrier *b = mbarrier(owner, barrier);
    if (block == owner)
        join_clocks(block->now[warp], b->complete);
    else
        learn(&block->known[warp], owner->id, b->complete);
    be_told(block, warp, &b->complete_known);
    block->now[warp][warp]++;
}

uint32_t race_async_clock(race_block *owner, uint64_t barrier)
{
    uint32_t clock = owner->now[RACE_ASYNC][RACE_ASYNC]++;
    race_mbarrier *b = mbarrier(owner, barrier);
    if (b->arriving[RACE_ASYNC] < clock) b->arriving[RACE_ASYNC] = clock;
    return clock;
}

/* ---- beginning ------------------------------------------------------------------------------------------------------------- */

void race_clocks_begin(race_block *block)
{
    memset(block->now, 0, sizeof block->now);
    memset(block->fenced, 0, sizeof block->fenced);
    memset(block->proxied, 0, sizeof block->proxied);
    memset(block->strong_count, 0, sizeof block->strong_count);
    for (int w = 0; w < WARPS; w++) {
        block->now[w][w] = 1;
        block->known[w].count = block->fenced_known[w].count = 0;
    }
    block->barrier_count = 0;
}

void race_clocks_free(race_block *block)
{
    for (int w = 0; w < WARPS; w++) {
        free(block->known[w].blocks);
        free(block->fenced_known[w].blocks);
    }
    for (int i = 0; i < BARRIERS; i++) {
        free(block->barriers[i].arriving_known.blocks);
        free(block->barriers[i].complete_known.blocks);
    }
}
