/* Where registers live. PTX has thousands of them, written once each; a warp's register file that holds them all at once would not
   fit any cache of the host. So: control flow, liveness, and a linear scan that lets registers share places (Poletto and Sarkar, 1999).
   Liveness is a thread's; lanes of a register never mix, so sharing is right however warps diverge. On the way, reads that some path
   reaches without a write are marked doubtful, for a check at run time. */
#include "engine/parse.h"

#include <stdlib.h>
#include <string.h>

typedef struct basic_block {
    int32_t first, last;      /* instructions */
    uint64_t *in, *out;       /* registers that live */
    uint64_t *gen, *kill;
    uint64_t *assigned;       /* surely written when the block begins */
    int grew, heard;          /* when `in` last did; when its successors were last asked for theirs */
    bool stale;               /* `assigned` has shrunk since its successors heard of it */
} basic_block;

typedef struct flow {
    sg_function *f;
    const uint8_t *bits;
    int registers, words;
    basic_block *blocks;
    int block_count;
    int32_t *block_of;        /* by instruction */
    int32_t *from, *to;       /* each register's first and last instruction */
} flow;

static void *zeroed(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size);
    if (!p) abort();
    return p;
}

static bool has(const uint64_t *set, int r) { return set[r / 64] >> (r % 64) & 1; }
static void put(uint64_t *set, int r) { set[r / 64] |= UINT64_C(1) << (r % 64); }

/* ---- blocks -------------------------------------------------------------------------------------------------------------- */

static bool branches(const insn *i) { return i->target >= 0 || i->target_count; }

static void find_blocks(flow *w)
{
    sg_function *f = w->f;
    uint8_t *leads = zeroed((size_t)f->length + 1, 1);
    leads[0] = 1;
    for (int32_t i = 0; i < f->length; i++) {
        const insn *at = &f->code[i];
        if (at->target >= 0) leads[at->target] = 1;
        for (int t = 0; t < at->target_count; t++) leads[at->targets[t]] = 1;
        if (branches(at) || at->ends) leads[i + 1] = 1;
    }
    w->block_of = zeroed((size_t)f->length, sizeof *w->block_of);
    for (int32_t i = 0; i < f->length; i++) w->block_count += leads[i];
    w->blocks = zeroed((size_t)w->block_count, sizeof *w->blocks);
    int b = -1;
    for (int32_t i = 0; i < f->length; i++) {
        if (leads[i]) w->blocks[++b].first = i;
        w->blocks[b].last = i;
        w->block_of[i] = b;
    }
    free(leads);
}

static void each_successor(const flow *w, int block, void (*visit)(const flow *, int from, int to, void *), void *context)
{
    const insn *last = &w->f->code[w->blocks[block].last];
    if (last->target >= 0) visit(w, block, w->block_of[last->target], context);
    for (int t = 0; t < last->target_count; t++) visit(w, block, w->block_of[last->targets[t]], context);
    if (!last->ends && block + 1 < w->block_count) visit(w, block, block + 1, context);
}

/* ---- liveness ---------------------------------------------------------------------------------------------------------------- */

static void read_register(basic_block *b, int r)
{
    if (r >= 0 && !has(b->kill, r)) put(b->gen, r);
}

static void summarise(flow *w, basic_block *b)
{
    for (int32_t i = b->first; i <= b->last; i++) {
        const insn *at = &w->f->code[i];
        read_register(b, at->guard.reg);
        for (int s = 0; s < at->s_count; s++) read_register(b, at->s[s].reg);
        for (int d = 0; d < at->d_count; d++) {
            if (at->d[d].reg < 0) continue;
            if (at->guard.reg >= 0) read_register(b, at->d[d].reg); /* where the guard is false the old value stays */
            else put(b->kill, at->d[d].reg);
        }
    }
}

static void add_live(const flow *w, int from, int to, void *context)
{
    basic_block *block = &w->blocks[from];
    if (w->blocks[to].grew <= block->heard) return;
    for (int i = 0; i < w->words; i++) block->out[i] |= w->blocks[to].in[i];
    *(bool *)context = true;
}

static void find_live(flow *w)
{
    int now = 1;
    for (bool changed = true; changed;) {
        changed = false;
        for (int b = w->block_count - 1; b >= 0; b--) {
            basic_block *block = &w->blocks[b];
            bool fed = !block->heard;
            uint64_t grown = 0;
            each_successor(w, b, add_live, &fed);
            block->heard = now++;
            for (int i = 0; fed && i < w->words; i++) {
                uint64_t in = block->gen[i] | (block->out[i] & ~block->kill[i]);
                grown |= in ^ block->in[i];
                block->in[i] = in;
            }
            if (grown) block->grew = now, changed = true;
        }
    }
}

/* ---- surely assigned ------------------------------------------------------------------------------------------------------------ */

typedef struct assigning {
    uint64_t *now;
    bool changed;
} assigning;

static void meet(const flow *w, int from, int to, void *context)
{
    assigning *a = context;
    /* Whichever caller a ret goes to knows best itself what it had written: its call goes on behind itself, too. */
    if (w->f->code[w->blocks[from].last].returns) return;
    uint64_t shrunk = 0;
    for (int i = 0; i < w->words; i++) {
        uint64_t both = w->blocks[to].assigned[i] & a->now[i];
        shrunk |= both ^ w->blocks[to].assigned[i];
        w->blocks[to].assigned[i] = both;
    }
    if (shrunk) w->blocks[to].stale = a->changed = true;
}

static void assign(uint64_t *now, const insn *at)
{
    for (int d = 0; d < at->d_count; d++)
        if (at->d[d].reg >= 0 && at->guard.reg < 0 && !at->speculates) put(now, at->d[d].reg);
}

/* Loads of one register of local memory that nothing but choices reads. */
static void find_speculation(flow *w)
{
    uint64_t *used = zeroed((size_t)w->words, sizeof *used);
    for (int32_t i = 0; i < w->f->length; i++) {
        const insn *at = &w->f->code[i];
        if (at->guard.reg >= 0) put(used, at->guard.reg);
        for (int s = at->chooses ? 2 : 0; s < at->s_count; s++)
            if (at->s[s].reg >= 0) put(used, at->s[s].reg);
    }
    for (int32_t i = 0; i < w->f->length; i++) {
        insn *at = &w->f->code[i];
        at->speculates = at->row && !strcmp(at->row->name, "ld") && at->space == SPACE_LOCAL && at->d_count == 1 && at->d[0].reg >= 0 && !has(used, at->d[0].reg);
    }
    free(used);
}

static void find_assigned(flow *w)
{
    assigning a = {.now = zeroed((size_t)w->words, sizeof *a.now)};
    for (int b = 1; b < w->block_count; b++) memset(w->blocks[b].assigned, 0xff, (size_t)w->words * sizeof *a.now);
    for (int b = 0; b < w->block_count; b++) w->blocks[b].stale = true;
    do {
        a.changed = false;
        for (int b = 0; b < w->block_count; b++) {
            if (!w->blocks[b].stale) continue;
            w->blocks[b].stale = false;
            memcpy(a.now, w->blocks[b].assigned, (size_t)w->words * sizeof *a.now);
            for (int32_t i = w->blocks[b].first; i <= w->blocks[b].last; i++) assign(a.now, &w->f->code[i]);
            each_successor(w, b, meet, &a);
        }
    } while (a.changed);
    free(a.now);
}

/* ---- doubt -------------------------------------------------------------------------------------------------------------------- */

static void doubt(flow *w, const uint64_t *now, operand *o, int *mark_of)
{
    if (o->reg < 0 || has(now, o->reg)) return;
    o->doubtful = 1;
    if (mark_of[o->reg] < 0) mark_of[o->reg] = w->f->mark_count++;
}

/* What a doubtful read reads is marked wherever it is written; a mov of it makes its result doubtful too. */
static void find_doubts(flow *w)
{
    sg_function *f = w->f;
    int *mark_of = malloc((size_t)(w->registers + 1) * sizeof *mark_of);
    uint64_t *now = zeroed((size_t)w->words, sizeof *now);
    if (!mark_of) abort();
    memset(mark_of, -1, (size_t)(w->registers + 1) * sizeof *mark_of);
    for (bool grew = true; grew;) {
        int before = f->mark_count;
        for (int b = 0; b < w->block_count; b++) {
            memcpy(now, w->blocks[b].assigned, (size_t)w->words * sizeof *now);
            for (int32_t i = w->blocks[b].first; i <= w->blocks[b].last; i++) {
                insn *at = &f->code[i];
                bool passes = false;
                doubt(w, now, &at->guard, mark_of);
                for (int s = 0; s < at->s_count; s++) {
                    operand *o = (operand *)&at->s[s];
                    doubt(w, now, o, mark_of);
                    passes |= o->reg >= 0 && mark_of[o->reg] >= 0 && o->doubtful;
                }
                if (!(at->copies && passes)) assign(now, at);
            }
            /* What a copied doubt reaches in later blocks counts as surely assigned there: one step of it is followed, within its block. */
        }
        grew = f->mark_count != before;
    }
    for (int32_t i = 0; i < f->length; i++) {
        insn *at = &f->code[i];
        at->doubts = at->guard.doubtful;
        for (int s = 0; s < at->s_count; s++) at->doubts |= at->s[s].doubtful;
        for (int d = 0; d < at->d_count; d++) {
            operand *o = (operand *)&at->d[d];
            o->doubtful = o->reg >= 0 && mark_of[o->reg] >= 0;
            at->marks |= o->doubtful;
        }
    }
    /* Behind this, reg names the mark. */
    for (int32_t i = 0; i < f->length; i++) {
        insn *at = &f->code[i];
        if (at->guard.reg >= 0 && at->guard.doubtful) at->guard.reg = mark_of[at->guard.reg];
        for (int s = 0; s < at->s_count + at->d_count; s++) {
            operand *o = (operand *)&at->d[s];
            if (o->doubtful) o->reg = mark_of[o->reg];
        }
    }
    free(mark_of);
    free(now);
}

/* ---- places -------------------------------------------------------------------------------------------------------------------- */

static void extend(flow *w, int r, int32_t at)
{
    if (r < 0) return;
    if (w->from[r] < 0 || at < w->from[r]) w->from[r] = at;
    if (at > w->to[r]) w->to[r] = at;
}

static void extend_all(flow *w, const uint64_t *set, int32_t at)
{
    for (int i = 0; i < w->words; i++)
        for (uint64_t rest = set[i]; rest; rest &= rest - 1) extend(w, 64 * i + __builtin_ctzll(rest), at);
}

static void find_intervals(flow *w)
{
    w->from = malloc((size_t)(w->registers + 1) * sizeof *w->from);
    w->to = malloc((size_t)(w->registers + 1) * sizeof *w->to);
    if (!w->from || !w->to) abort();
    for (int r = 0; r < w->registers; r++) w->from[r] = w->to[r] = -1;
    for (int b = 0; b < w->block_count; b++) {
        const basic_block *block = &w->blocks[b];
        extend_all(w, block->in, block->first);
        extend_all(w, block->out, block->last);
        for (int32_t i = block->first; i <= block->last; i++) {
            const insn *at = &w->f->code[i];
            extend(w, at->guard.reg, i);
            for (int s = 0; s < at->s_count + at->d_count; s++) {
                extend(w, at->d[s].reg, i);
                if (!at->holds) continue; /* in use for longer than the text shows: a place of its own */
                extend(w, at->d[s].reg, 0);
                extend(w, at->d[s].reg, w->f->length - 1);
            }
        }
    }
}

static int size_class(int bits) { return bits == 1 ? 0 : bits <= 32 ? 1 : bits == 64 ? 2 : 3; }

/* Registers by the instruction at which they begin or end: a list a place. */
static int32_t *bucket(const flow *w, const int32_t *key, int32_t **next)
{
    int32_t *heads = malloc((size_t)w->f->length * sizeof *heads);
    *next = malloc((size_t)(w->registers + 1) * sizeof **next);
    if (!heads || !*next) abort();
    for (int32_t i = 0; i < w->f->length; i++) heads[i] = -1;
    for (int r = w->registers - 1; r >= 0; r--)
        if (key[r] >= 0) {
            (*next)[r] = heads[key[r]];
            heads[key[r]] = r;
        }
    return heads;
}

static uint32_t *choose_places(flow *w)
{
    static const uint32_t bytes[] = {4, 4 * LANES, 8 * LANES, 16 * LANES};
    sg_function *f = w->f;
    int32_t *next_begin, *next_end, *begins = bucket(w, w->from, &next_begin), *ends = bucket(w, w->to, &next_end);
    uint32_t *place = zeroed((size_t)w->registers + 1, sizeof *place), *room[4];
    int free_count[4] = {0};
    for (int r = 0; r < w->registers; r++) place[r] = UINT32_MAX; /* those that no instruction names have none */
    for (int c = 0; c < 4; c++) room[c] = zeroed((size_t)w->registers + 33, sizeof *room[c]);
    uint32_t predicates = 0, used = f->register_bytes; /* predicates first come in lines of their own */
    for (int32_t i = 0; i < f->length; i++) {
        for (int r = begins[i]; r >= 0; r = next_begin[r]) {
            int c = size_class(w->bits[r]);
            if (!free_count[c] && c == 0) {
                predicates = used;
                used += 128;
                for (uint32_t p = 0; p < 32; p++) room[0][free_count[0]++] = predicates + 4 * (31 - p);
            } else if (!free_count[c]) {
                room[c][free_count[c]++] = used;
                used += bytes[c];
            }
            place[r] = room[c][--free_count[c]];
        }
        for (int r = ends[i]; r >= 0; r = next_end[r]) {
            int c = size_class(w->bits[r]);
            room[c][free_count[c]++] = place[r];
        }
    }
    f->register_bytes = used;
    for (int32_t i = 0; i < f->length; i++) f->multiplies |= f->code[i].holds;
    for (int c = 0; c < 4; c++) free(room[c]);
    free(begins), free(ends), free(next_begin), free(next_end);
    return place;
}

static void settle(operand *o, const uint32_t *place)
{
    if (o->reg >= 0) o->offset = place[o->reg];
}

uint32_t *ptx_place_registers(sg_function *function, const uint8_t *register_bits, int register_count)
{
    flow w = {.f = function, .bits = register_bits, .registers = register_count, .words = register_count / 64 + 1};
    find_blocks(&w);
    uint64_t *sets = zeroed((size_t)w.block_count * (size_t)w.words * 5, sizeof *sets);
    for (int b = 0; b < w.block_count; b++) {
        uint64_t *at = sets + (size_t)b * (size_t)w.words * 5;
        basic_block *block = &w.blocks[b];
        block->in = at, block->out = at + w.words, block->gen = at + 2 * w.words, block->kill = at + 3 * w.words;
        block->assigned = at + 4 * w.words;
        summarise(&w, block);
    }
    find_live(&w);
    find_speculation(&w);
    find_assigned(&w);
    find_intervals(&w);
    uint32_t *place = choose_places(&w);
    for (int32_t i = 0; i < function->length; i++) {
        insn *at = &function->code[i];
        settle(&at->guard, place);
        for (int s = 0; s < at->s_count + at->d_count; s++) settle((operand *)&at->d[s], place);
    }
    find_doubts(&w);
    free(w.from), free(w.to), free(w.block_of), free(w.blocks), free(sets);
    return place;
}
