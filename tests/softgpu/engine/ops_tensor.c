/* cp.async.bulk.tensor: boxes of a tensor that a tensor map describes, from and to shared memory. A box lies densely in shared memory,
   innermost dimension first, or swizzled: within each span of 32, 64 or 128 bytes, address bits 7 and up are folded onto bits 4 and up. */
#include "engine/bulk.h"
#include "engine/finding.h"
#include "engine/lanes.h"
#include "engine/tensor_map.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK = 16, MAP_ALIGN = 64, TARGET_ALIGN = 128, BLOCKS_MOST = 16 };

typedef struct box {
    const tensor_map *map;
    int64_t at[TENSOR_DIMENSIONS];    /* the first element's coordinates */
    int64_t count[TENSOR_DIMENSIONS]; /* elements along each dimension */
    int64_t row_bytes, bytes;
} box;

static uint64_t lane_address(const warp *w, const insn *i, int at, int64_t displacement, int lane)
{
    uint64_t addresses[LANES];
    warp_addresses(w, i, at, displacement, addresses);
    return addresses[lane];
}

static bool refuse(warp *w, const insn *i, int lane, const char *kind, const char *what)
{
    warp_finding(w, i, lane, kind, "%s", what);
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    return false;
}

/* Reads the map whose address is source `at`; its coordinates follow. */
static bool find_box(warp *w, const insn *i, int lane, int at, int64_t displacement, tensor_map *map, box *b)
{
    uint64_t address = lane_address(w, i, at, displacement, lane);
    const char *host = bulk_host(w, i, lane, SPACE_GENERIC, address, TENSOR_MAP_BYTES, ACCESS_READ);
    if (!host) return false;
    if (address % MAP_ALIGN) return refuse(w, i, lane, "misaligned", "a tensor map must lie at a multiple of 64");
    memcpy(map, host, sizeof *map);
    if (map->magic != TENSOR_MAP_MAGIC) return refuse(w, i, lane, "tensor map", "what its address holds is no tensor map");
    if (map->rank != i->shape[0]) return refuse(w, i, lane, "tensor map", "the tensor map has another number of dimensions");
    *b = (box){.map = map};
    b->bytes = map->element_bytes;
    for (int d = 0; d < TENSOR_DIMENSIONS; d++) {
        bool used = d < map->rank;
        b->at[d] = used ? (int32_t)lanes32(w, &i->s[at + 1 + d])[lane] : 0;
        b->count[d] = used ? (map->box[d] + map->steps[d] - 1) / map->steps[d] : 1;
        b->bytes *= b->count[d];
    }
    b->row_bytes = b->count[0] * map->element_bytes;
    return true;
}

/* ---- rows of a box ------------------------------------------------------------------------------------------------------------------ */

typedef struct box_row {
    int64_t in_box;           /* bytes from the box's start in shared memory */
    uint64_t address;         /* of the first element inside the tensor */
    int64_t skipped, bytes;   /* bytes of the row before it, and from there to the last one inside; 0 bytes: all outside */
} box_row;

static int64_t row_count(const box *b) { return b->count[1] * b->count[2] * b->count[3] * b->count[4]; }

static box_row row_of(const box *b, int64_t number)
{
    const tensor_map *m = b->map;
    int64_t size = m->element_bytes, rest = number, first = b->at[0] < 0 ? -b->at[0] : 0;
    int64_t last = (int64_t)m->sizes[0] + 1 - b->at[0];
    if (last > b->count[0]) last = b->count[0];
    box_row row = {.in_box = number * b->row_bytes, .skipped = first * size, .address = m->address + (uint64_t)((b->at[0] + first) * size),
                   .bytes = last > first ? (last - first) * size : 0};
    for (int d = 1; d < TENSOR_DIMENSIONS; d++) {
        int64_t at = b->at[d] + rest % b->count[d] * (d < m->rank ? m->steps[d] : 1);
        rest /= b->count[d];
        if (d >= m->rank) break;
        if (at < 0 || at > (int64_t)m->sizes[d]) row.bytes = 0;
        row.address += (uint64_t)at * m->strides[d - 1];
    }
    return row;
}

static uint64_t swizzled(const tensor_map *m, uint64_t offset) { return m->swizzle ? offset ^ ((offset >> 7 & (m->swizzle / 16u - 1)) << 4) : offset; }

/* Calls `visit` for the parts of [at, at + bytes) that stay together in shared memory. */
typedef void visit(bulk_copy *c, char *shared, int64_t done, int64_t bytes, const void *context);

static void each_part(bulk_copy *c, const box *b, char *shared_start, uint64_t at, int64_t bytes, visit *each, const void *context)
{
    for (int64_t done = 0; done < bytes;) {
        int64_t left = bytes - done, part = b->map->swizzle ? CHUNK - (int64_t)((at + (uint64_t)done) % CHUNK) : left;
        if (part > left) part = left;
        each(c, shared_start + swizzled(b->map, at + (uint64_t)done), done, part, context);
        done += part;
    }
}

static void add_zeros(bulk_copy *c, char *shared, int64_t done, int64_t bytes, const void *context)
{
    (void)done, (void)context;
    bulk_piece_add(c, (bulk_piece){.to = shared, .bytes = bytes});
}

static void add_load(bulk_copy *c, char *shared, int64_t done, int64_t bytes, const void *context)
{
    bulk_piece_add(c, (bulk_piece){.from = (const char *)context + done, .to = shared, .bytes = bytes});
}

typedef struct global_row {
    char *host;
    uint64_t address;
} global_row;

static void add_store(bulk_copy *c, char *shared, int64_t done, int64_t bytes, const void *context)
{
    const global_row *row = context;
    bulk_piece_add(c, (bulk_piece){.from = shared, .to = row->host + done, .bytes = bytes, .address = row->address + (uint64_t)done});
}

/* ---- into shared memory --------------------------------------------------------------------------------------------------------------- */

static bool add_rows(warp *w, const insn *i, bulk_copy *c, const box *b, char *shared_start)
{
    for (int64_t n = 0; n < row_count(b); n++) {
        box_row row = row_of(b, n);
        uint64_t at = c->target + (uint64_t)row.in_box, addresses[LANES];
        if (!row.bytes) {
            each_part(c, b, shared_start, at, b->row_bytes, add_zeros, NULL);
            continue;
        }
        const char *host = bulk_host(w, i, c->lane, SPACE_GLOBAL, row.address, row.bytes, ACCESS_READ);
        if (!host) return false;
        race_access read = bulk_access(c, addresses, row.address, row.bytes, RACE_READ);
        if (w->block->races) race_global(w->block->races, sg_region_at(row.address), &read);
        each_part(c, b, shared_start, at, row.skipped, add_zeros, NULL);
        each_part(c, b, shared_start, at + (uint64_t)row.skipped, row.bytes, add_load, host);
        int64_t behind = row.skipped + row.bytes;
        each_part(c, b, shared_start, at + (uint64_t)behind, b->row_bytes - behind, add_zeros, NULL);
    }
    return true;
}

static bool load_into(warp *w, const insn *i, int lane, const box *b, uint64_t to, uint64_t barrier)
{
    bulk_copy c = bulk_begin(w, i, lane);
    block *owner, *told;
    bool good = bulk_shared(w, i, lane, SPACE_CLUSTER, to, b->bytes, ACCESS_WRITE, &owner, &c.target) &&
                bulk_shared(w, i, lane, SPACE_CLUSTER, barrier, 8, ACCESS_WRITE, &told, &c.barrier);
    c.bytes = b->bytes;
    if (good && c.target % TARGET_ALIGN) good = refuse(w, i, lane, "misaligned", "a box in shared memory must begin at a multiple of 128");
    if (good && told != owner) good = refuse(w, i, lane, "barrier", "its barrier lies in another block than its target");
    good = good && add_rows(w, i, &c, b, (char *)owner->shared) && bulk_send_to_shared(&c, owner);
    if (!good) bulk_drop(&c);
    return good;
}

/* [target], [map, {coordinates}], [barrier] {, blocks of the cluster} */
static void load(warp *w, const insn *i, uint32_t mask)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest), behind = 2 + i->shape[0];
        tensor_map map;
        box b;
        if (!find_box(w, i, lane, 1, i->offset[1], &map, &b)) continue;
        uint64_t to = lane_address(w, i, 0, i->offset[0], lane), barrier = lane_address(w, i, behind, i->offset[2], lane);
        if (!(i->flags & F_MULTICAST)) {
            load_into(w, i, lane, &b, to, barrier);
            continue;
        }
        uint32_t blocks = lanes32(w, &i->s[behind + 1])[lane];
        for (uint64_t rank = 0; rank < BLOCKS_MOST; rank++)
            if (blocks >> rank & 1 && !load_into(w, i, lane, &b, to % SHARED_RANK + (rank + 1) * SHARED_RANK, barrier % SHARED_RANK + (rank + 1) * SHARED_RANK))
                break;
    }
}

/* ---- out of shared memory -------------------------------------------------------------------------------------------------------------- */

/* What elements are when they are reduced; bytes and 16-bit integers are not. */
static const ptx_type types[TENSOR_TYPES] = {
    [TENSOR_U32] = T_U32, [TENSOR_S32] = T_S32, [TENSOR_U64] = T_U64, [TENSOR_S64] = T_S64, [TENSOR_F16] = T_F16, [TENSOR_BF16] = T_BF16, [TENSOR_F32] = T_F32, [TENSOR_F64] = T_F64,
};

/* [map, {coordinates}], [source] */
static void store(warp *w, const insn *i, uint32_t mask)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int lane = __builtin_ctz(rest);
        tensor_map map;
        box b;
        block *owner;
        bulk_copy c = bulk_begin(w, i, lane);
        if (!find_box(w, i, lane, 0, i->offset[0], &map, &b)) continue;
        c.type = types[map.type];
        if (i->op && !ptx_reduces(i->op, c.type)) {
            refuse(w, i, lane, "tensor map", "elements of the tensor map's type cannot be reduced like this");
            continue;
        }
        uint64_t from = lane_address(w, i, 1 + i->shape[0], i->offset[1], lane);
        if (!bulk_shared(w, i, lane, SPACE_SHARED, from, b.bytes, ACCESS_READ, &owner, &c.source)) continue;
        bool good = c.source % TARGET_ALIGN == 0 || refuse(w, i, lane, "misaligned", "a box in shared memory must begin at a multiple of 128");
        c.bytes = b.bytes;
        for (int64_t n = 0; good && n < row_count(&b); n++) {
            box_row row = row_of(&b, n);
            if (!row.bytes) continue;
            global_row to = {bulk_host(w, i, lane, SPACE_GLOBAL, row.address, row.bytes, i->op ? ACCESS_ATOMIC : ACCESS_WRITE), row.address};
            good = to.host != NULL;
            if (good) each_part(&c, &b, (char *)owner->shared, c.source + (uint64_t)(row.in_box + row.skipped), row.bytes, add_store, &to);
        }
        if (good)
            bulk_send_to_global(&c);
        else
            bulk_drop(&c);
    }
}

/* [map, {coordinates}]: moves nothing here, but the map must be one. */
static void prefetch(warp *w, const insn *i, uint32_t mask)
{
    tensor_map map;
    box b;
    for (uint32_t rest = mask; rest; rest &= rest - 1) find_box(w, i, __builtin_ctz(rest), 0, i->offset[0], &map, &b);
}

static void nothing(warp *w, const insn *i, uint32_t mask) { (void)w, (void)i, (void)mask; }

/* ---- rows --------------------------------------------------------------------------------------------------------------------------------- */

static bool find_rank(insn *i, char *error, size_t bytes)
{
    const char *at = strstr(i->text, ".tensor.");
    i->shape[0] = at[8] - '0';
    bool loads = strstr(i->text, ".mbarrier") != NULL;
    bool reduces = !strncmp(i->text, "cp.reduce", 9), prefetches = strstr(i->text, ".prefetch.") != NULL;
    int least = loads ? 3 + i->shape[0] + !!(i->flags & F_MULTICAST) : 2 + i->shape[0] - prefetches;
    if (reduces && !i->op) return snprintf(error, bytes, "a reduction without an operation"), false;
    if (i->s_count >= least && i->s_count <= least + 1) return true;
    snprintf(error, bytes, "other coordinates or operands than a tensor of %d dimensions takes", i->shape[0]);
    return false;
}

#define TOLD "mbarrier::complete_tx::bytes"
#define LOADS(rank, space, mode)                                                                                                           \
    {"cp.async.bulk.tensor." rank ".shared::" space ".global" mode "." TOLD, "", F_MULTICAST, "s", "a a a s=0? s=0", PIPE_ASYNC, 0, load, find_rank}
#define STORES(rank, mode)                                                                                                                 \
    {"cp.async.bulk.tensor." rank ".global.shared::cta" mode ".bulk_group", "", 0, "s", "a a s=0?", PIPE_ASYNC, 0, store, find_rank}
#define RANK(rank)                                                                                                                         \
    LOADS(rank, "cluster", ""), LOADS(rank, "cluster", ".tile"), LOADS(rank, "cta", ""), LOADS(rank, "cta", ".tile"), STORES(rank, ""),    \
        STORES(rank, ".tile"),                                                                                                             \
        {"cp.reduce.async.bulk.tensor." rank ".global.shared::cta", "", 0, "cst", "a a s=0?", PIPE_ASYNC, 0, store, find_rank},           \
        {"cp.async.bulk.prefetch.tensor." rank ".L2.global", "", 0, "st", "a s=0?", PIPE_ASYNC, 0, prefetch, find_rank}

const ptx_row ptx_tensor_rows[] = {
    RANK("1d"), RANK("2d"), RANK("3d"), RANK("4d"), RANK("5d"),
    {"prefetch.tensormap", "", 0, "s", "a", PIPE_GLOBAL, 0, nothing, NULL},
    {"prefetch.param.tensormap", "", 0, "", "a", PIPE_GLOBAL, 0, nothing, NULL},
    {"prefetch.const.tensormap", "", 0, "", "a", PIPE_GLOBAL, 0, nothing, NULL},
    {0},
};
