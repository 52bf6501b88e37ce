/* Bulk copies under way: their way through the race detector, and their arrival. */
#include "engine/bulk.h"

#include "engine/finding.h"

#include <stdlib.h>
#include <string.h>

enum { SPAN = 512 }; /* bytes of one counted access */

/* ---- one copy -------------------------------------------------------------------------------------------------------------------- */

bulk_copy bulk_begin(warp *w, const insn *i, int lane)
{
    static uint64_t ids;
    return (bulk_copy){.issuer = w->block, .insn = i, .warp = (uint8_t)w->number, .lane = (uint8_t)lane, .type = i->type[0],
                       .id = __atomic_add_fetch(&ids, 1, __ATOMIC_RELAXED)};
}

void bulk_piece_add(bulk_copy *c, bulk_piece piece)
{
    if (c->piece_count == c->piece_capacity) {
        c->piece_capacity = c->piece_capacity ? 2 * c->piece_capacity : 4;
        bulk_piece *grown = realloc(c->pieces, (size_t)c->piece_capacity * sizeof *grown);
        if (!grown) abort();
        c->pieces = grown;
    }
    c->pieces[c->piece_count++] = piece;
}

void bulk_drop(bulk_copy *c)
{
    free(c->pieces);
    free(c->snapshot);
}

char *bulk_host(warp *w, const insn *i, int lane, ptx_space space, uint64_t address, int64_t bytes, access_kind kind)
{
    char *first = NULL;
    for (int64_t at = 0; at < bytes; at += SPAN) {
        char *hosts[LANES];
        uint64_t addresses[LANES];
        addresses[lane] = address + (uint64_t)at;
        warp_access access = {.insn = i, .space = space, .lanes = 1u << lane, .addresses = addresses, .align = 1, .kind = kind, .later = true,
                              .bytes = (int)(bytes - at < SPAN ? bytes - at : SPAN)};
        warp_access_hosts(w, &access, hosts);
        if (!hosts[lane]) return NULL;
        if (!first) first = hosts[lane];
    }
    return first;
}

char *bulk_shared(warp *w, const insn *i, int lane, ptx_space space, uint64_t address, int64_t bytes, access_kind kind, block **owner,
                  uint32_t *offset)
{
    uint64_t inside;
    char *host = bulk_host(w, i, lane, space, address, bytes, kind);
    if (!host) return NULL;
    *owner = shared_block(w, address - (space == SPACE_GENERIC ? SHARED_WINDOW : 0), &inside);
    *offset = (uint32_t)inside;
    return host;
}

race_access bulk_access(const bulk_copy *c, uint64_t addresses[LANES], uint64_t address, int64_t bytes, race_kind kind)
{
    addresses[c->lane] = address;
    return (race_access){.warp = c->warp, .lanes = 1u << c->lane, .addresses = addresses, .bytes = (int)bytes, .kind = kind,
                         .async = true, .place = (uint32_t)(c->insn - c->issuer->launch->function->code)};
}

static void keep(block *b, const bulk_copy *c)
{
    if (b->bulk_count == b->bulk_capacity) {
        b->bulk_capacity = b->bulk_capacity ? 2 * b->bulk_capacity : 16;
        bulk_copy *grown = realloc(b->bulk, (size_t)b->bulk_capacity * sizeof *grown);
        if (!grown) abort();
        b->bulk = grown;
    }
    b->bulk[b->bulk_count++] = *c;
}

static bool reduces(const bulk_copy *c) { return c->insn->op != W_NONE; }

/* ---- sending --------------------------------------------------------------------------------------------------------------------- */

static void read_source(const bulk_copy *c)
{
    uint64_t addresses[LANES];
    race_access read = bulk_access(c, addresses, c->source, c->bytes, RACE_READ);
    read.async = false; /* asked when it was sent */
    race_shared(c->issuer->races, &read);
}

static void hold_source(const bulk_copy *c)
{
    uint64_t addresses[LANES];
    race_access read = bulk_access(c, addresses, c->source, c->bytes, RACE_READ);
    race_shared(c->issuer->races, &read);
    race_source(c->issuer->races, &read, c->id);
}

bool bulk_send_to_shared(bulk_copy *c, block *owner)
{
    uint64_t addresses[LANES];
    if (!block_phase(owner, c->barrier)) {
        warp_finding(&c->issuer->warps[c->warp], c->insn, c->lane, "barrier", "there is no mbarrier at %u of shared memory to tell of the copy", c->barrier);
        launch_fail(c->issuer->launch, SG_ILLEGAL_INSTRUCTION);
        return false;
    }
    if (owner->races) {
        race_access write = bulk_access(c, addresses, c->target, c->bytes, reduces(c) ? RACE_ATOMIC : RACE_WRITE);
        write.async = !c->snapshot; /* st.async stores as threads do */
        race_shared_of(c->issuer->races, owner->races, &write);
        if (!reduces(c)) race_in_flight(owner->races, c->target, c->bytes);
        if (c->has_source) hold_source(c);
    }
    keep(owner, c);
    return true;
}

void bulk_send_to_global(bulk_copy *c)
{
    uint64_t addresses[LANES];
    warp *w = &c->issuer->warps[c->warp];
    c->to_global = c->has_source = true;
    c->group = w->bulk_group[c->lane];
    race_block *races = c->issuer->races;
    if (races) hold_source(c);
    for (int p = 0; races && p < c->piece_count; p++) {
        bulk_piece *piece = &c->pieces[p];
        sg_region *region = sg_region_at(piece->address);
        race_access write = bulk_access(c, addresses, piece->address, piece->bytes, reduces(c) ? RACE_ATOMIC : RACE_WRITE);
        race_global(races, region, &write);
        (reduces(c) ? race_global_reducing : race_global_in_flight)(races, region, &write, true);
    }
    keep(c->issuer, c);
}

/* ---- arriving -------------------------------------------------------------------------------------------------------------------- */

static void move_bytes(const bulk_copy *c)
{
    for (int p = 0; p < c->piece_count; p++) {
        const bulk_piece *piece = &c->pieces[p];
        if (reduces(c))
            ptx_reduce(c->insn->op, c->type, piece->to, piece->from, piece->bytes);
        else if (piece->from)
            memcpy(piece->to, piece->from, (size_t)piece->bytes);
        else
            memset(piece->to, 0, (size_t)piece->bytes);
    }
}

/* The source of a copy out of shared memory is read; it may be changed from now on. */
static void take_source(bulk_copy *c)
{
    int64_t total = 0, at = 0;
    if (c->is_read) return;
    c->is_read = true;
    for (int p = 0; p < c->piece_count; p++) total += c->pieces[p].bytes;
    c->snapshot = malloc((size_t)total + 1);
    if (!c->snapshot) abort();
    for (int p = 0; p < c->piece_count; at += c->pieces[p++].bytes) {
        memcpy(c->snapshot + at, c->pieces[p].from, (size_t)c->pieces[p].bytes);
        c->pieces[p].from = c->snapshot + at;
    }
    if (!c->issuer->races) return;
    race_source_done(c->issuer->races, c->id);
    read_source(c);
}

void block_bulk_deliver(block *b, phase_barrier *p)
{
    int kept = 0;
    for (int n = 0; n < b->bulk_count; n++) {
        bulk_copy *c = &b->bulk[n];
        if (c->to_global || c->barrier != p->at) {
            b->bulk[kept++] = *c;
            continue;
        }
        move_bytes(c);
        p->transactions -= c->bytes;
        if (b->races) race_arrived(b->races, c->target, c->bytes, p->at, reduces(c));
        if (b->races && c->has_source) race_source_done(c->issuer->races, c->id);
        bulk_drop(c);
    }
    b->bulk_count = kept;
}

static void finish_global(bulk_copy *c)
{
    uint64_t addresses[LANES];
    take_source(c);
    move_bytes(c);
    for (int p = 0; c->issuer->races && p < c->piece_count; p++) {
        bulk_piece *piece = &c->pieces[p];
        race_access write = bulk_access(c, addresses, piece->address, piece->bytes, RACE_WRITE);
        (reduces(c) ? race_global_reducing : race_global_in_flight)(c->issuer->races, sg_region_at(piece->address), &write, false);
    }
    bulk_drop(c);
}

void warp_bulk_wait(warp *w, uint32_t lanes, int groups_left, bool read_only)
{
    block *b = w->block;
    int kept = 0;
    for (int n = 0; n < b->bulk_count; n++) {
        bulk_copy *c = &b->bulk[n];
        bool mine = c->to_global && c->warp == w->number && (lanes >> c->lane & 1) && c->group < w->bulk_group[c->lane] - groups_left;
        if (mine && !read_only) {
            finish_global(c);
            continue;
        }
        if (mine) take_source(c);
        b->bulk[kept++] = *c;
    }
    b->bulk_count = kept;
}

void block_bulk_end(block *b)
{
    bool failed = launch_failed(b->launch);
    for (int n = 0; n < b->bulk_count; n++) {
        bulk_copy *c = &b->bulk[n];
        if (!failed && !(c->to_global && c->is_read))
            warp_finding(&c->issuer->warps[c->warp], c->insn, c->lane, "async copy", "still uses shared memory when its block ends: nobody waited for it");
        if (c->to_global && !failed)
            finish_global(c);
        else
            bulk_drop(c);
    }
    b->bulk_count = 0;
}
