/* wgmma: products that are on their way until their group is waited for. They are computed then, as late as the program allows, when the
   first of the four warps waits: a product is the warpgroup's, and is complete for all or for none. Until a warp has waited itself, its
   registers, results and fragments alike, belong to the product. Also setmaxnreg. */
#include "engine/finding.h"
#include "engine/lanes.h"
#include "engine/wgmma.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool whole_group(warp *w, const insn *i, uint32_t mask)
{
    if (mask == UINT32_MAX && (w->number | 3) < w->block->warp_count) return true;
    warp_finding(w, i, __builtin_ctz(mask), "barrier", "only lanes %08x of warp %d of %d run it; it takes four whole warps", mask, w->number, w->block->warp_count);
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    return false;
}

/* ---- whose registers are whose -------------------------------------------------------------------------------------------------------- */

static bool among(const operand *list, int count, uint32_t offset)
{
    for (int i = 0; i < count; i++)
        if (!list[i].constant && list[i].offset == offset) return true;
    return false;
}

static const operand *fragment_of(const insn *i) { return wgmma_a_in_registers(i) ? i->s + i->d_count : NULL; }

/* Whether an instruction interferes with a product under way: as a word for the finding. */
static const char *interferes(const insn *now, const insn *under_way)
{
    const operand *fragment = fragment_of(under_way);
    bool chained = now->holds && now->d_count == under_way->d_count && !memcmp(now->d, under_way->d, sizeof *now->d * now->d_count);
    for (int d = 0; d < now->d_count && !chained; d++)
        if (among(under_way->d, under_way->d_count, now->d[d].offset)) return "written";
    for (int d = 0; fragment && d < now->d_count; d++)
        if (among(fragment, 4, now->d[d].offset)) return "written";
    for (int s = chained ? now->d_count : 0; s < now->s_count; s++)
        if (!now->s[s].constant && among(under_way->d, under_way->d_count, now->s[s].offset)) return "read";
    return NULL;
}

void warp_check_held(warp *w, const insn *i)
{
    char place[600];
    for (int n = 0; n < w->wgmma_count; n++) {
        const insn *other = w->wgmmas[n].insn;
        const char *how = interferes(i, other);
        if (!how) continue;
        insn_place(w->block->launch->function, other, place, sizeof place);
        warp_finding(w, i, -1, "wgmma", "a register is %s that belongs to the product at %s until its group is waited for", how, place);
        return;
    }
}

static uint32_t written_at(const warp *w, const operand *o) { return o->constant ? 0 : w->written[o->offset / sizeof *w->written]; }

/* A mov writes what its source was, since ptxas makes none of it. */
void warp_note_writes(warp *w, const insn *i)
{
    uint32_t now = w->wgmma_fences + 1, stamp = i->holds ? 0 : now;
    if (i->holds) {
        const operand *fragment = fragment_of(i);
        bool fresh = false;
        for (int s = 0; s < i->d_count && predicate(w, &i->s[i->s_count - 1]); s++) fresh |= written_at(w, &i->s[s]) == now;
        for (int s = 0; fragment && s < 4; s++) fresh |= written_at(w, &fragment[s]) == now;
        if (!w->wgmma_fences) warp_finding(w, i, -1, "wgmma", "no wgmma.fence precedes the first product");
        else if (fresh) warp_finding(w, i, -1, "wgmma", "a register of it was written with no wgmma.fence since");
    } else if (i->copies) {
        stamp = 0;
        for (int s = 0; s < i->s_count; s++)
            if (written_at(w, &i->s[s]) > stamp) stamp = written_at(w, &i->s[s]);
    }
    for (int d = 0; d < i->d_count; d++) w->written[i->d[d].offset / sizeof *w->written] = stamp;
}

/* ---- instructions ----------------------------------------------------------------------------------------------------------------------- */

static void multiply(warp *w, const insn *i, uint32_t mask)
{
    if (!whole_group(w, i, mask)) return;
    const operand *a = i->s + i->d_count, *b = a + (wgmma_a_in_registers(i) ? 4 : 1);
    wgmma m = {.insn = i, .b = lanes64(w, b)[0], .accumulates = predicate(w, b + 1) & 1, .group = w->wgmma_group, .serial = ++w->wgmma_serial};
    if (wgmma_a_in_registers(i))
        for (int r = 0; r < 4; r++) memcpy(m.fragment[r], lanes32(w, a + r), sizeof m.fragment[r]);
    else
        m.a = lanes64(w, a)[0];
    if (!wgmma_read(w, &m, false)) return;
    if (w->wgmma_count == w->wgmma_capacity) {
        w->wgmma_capacity = w->wgmma_capacity ? 2 * w->wgmma_capacity : 16;
        wgmma *grown = realloc(w->wgmmas, (size_t)w->wgmma_capacity * sizeof *grown);
        if (!grown) abort();
        w->wgmmas = grown;
    }
    w->wgmmas[w->wgmma_count++] = m;
}

static void commit(warp *w, const insn *i, uint32_t mask)
{
    if (whole_group(w, i, mask)) w->wgmma_group++;
}

/* A warp's part of the products up to a number. */
static bool finish(warp *w, uint32_t last)
{
    for (int n = 0; n < w->wgmma_count && w->wgmmas[n].serial <= last; n++) {
        wgmma *m = &w->wgmmas[n];
        if (m->done) continue;
        if (w->block->races && !wgmma_read(w, m, true)) return false;
        wgmma_run(w, m);
        m->done = true;
    }
    return true;
}

static void wait_group(warp *w, const insn *i, uint32_t mask)
{
    int done = 0;
    warp *four = w - w->number % 4;
    if (!whole_group(w, i, mask)) return;
    while (done < w->wgmma_count && w->wgmmas[done].group < w->wgmma_group - (int32_t)i->imm[0]) done++;
    const uint32_t last = done ? w->wgmmas[done - 1].serial : 0;
    for (int n = 0; n < 4; n++)
        if (four[n].wgmma_serial < last) { /* it has yet to begin: the product waits for it, and so do we */
            w->next = w->pc;
            warp_poll(w, i);
            return;
        }
    w->waits = false;
    for (int n = 0; n < 4; n++)
        if (!finish(&four[n], last)) return;
    w->wgmma_count -= done;
    memmove(w->wgmmas, w->wgmmas + done, (size_t)w->wgmma_count * sizeof *w->wgmmas);
    if (!w->block->races) return;
    race_product_wait(w->block->races, w->number, last);
    race_warp_sync(w->block->races, w->number);
}

static void fence(warp *w, const insn *i, uint32_t mask)
{
    if (whole_group(w, i, mask)) w->wgmma_fences++;
}

/* The pool is the block's; what ptxas assigned at the start is what there is. All warps of a warpgroup ask for the same. */
static void set_registers(warp *w, const insn *i, uint32_t mask)
{
    int wanted = (int)i->imm[0], more = wanted - w->registers;
    warp *first = w - w->number % 4;
    (void)mask;
    if (!w->registers) return; /* unknown */
    if (i->op == W_INC ? more < 0 : more > 0) {
        warp_finding(w, i, -1, "wgmma", "%d registers, which is %s than the %d that it has", wanted, more < 0 ? "less" : "more", w->registers);
        return;
    }
    if (more > w->block->register_pool) { /* until others give theirs */
        w->next = w->pc;
        warp_poll(w, i);
        return;
    }
    w->waits = false;
    w->block->register_pool -= more;
    w->registers = wanted;
    w->register_changes++;
    for (int n = 0; n < 4 && first->number + n < w->block->warp_count; n++)
        if (first[n].register_changes == w->register_changes && first[n].registers != wanted)
            warp_finding(w, i, -1, "wgmma", "%d registers, where warp %d of its warpgroup asks for %d", wanted, first[n].number, first[n].registers);
}

/* ---- rows -------------------------------------------------------------------------------------------------------------------------------- */

static bool known_types(const insn *i)
{
    static const struct {
        ptx_type d, a, b;
        int k;
    } kinds[] = {{T_F32, T_F16, T_F16, 16},   {T_F16, T_F16, T_F16, 16},   {T_F32, T_BF16, T_BF16, 16}, {T_F32, T_TF32, T_TF32, 8},
                 {T_F32, T_E4M3, T_E4M3, 32}, {T_F32, T_E4M3, T_E5M2, 32}, {T_F32, T_E5M2, T_E4M3, 32}, {T_F32, T_E5M2, T_E5M2, 32},
                 {T_F16, T_E4M3, T_E4M3, 32}, {T_F16, T_E4M3, T_E5M2, 32}, {T_F16, T_E5M2, T_E4M3, 32}, {T_F16, T_E5M2, T_E5M2, 32},
                 {T_S32, T_S8, T_S8, 32},     {T_S32, T_S8, T_U8, 32},     {T_S32, T_U8, T_S8, 32},     {T_S32, T_U8, T_U8, 32}};
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++)
        if (i->type_count == 3 && i->type[0] == kinds[n].d && i->type[1] == kinds[n].a && i->type[2] == kinds[n].b) return i->shape[2] == kinds[n].k;
    return false;
}

static bool find_product(insn *i, char *error, size_t bytes)
{
    int n = i->shape[1], registers = i->type[0] == T_F16 ? n / 4 : n / 2, sources = i->s_count - i->d_count;
    bool shaped = i->shape[0] == 64 && n >= 8 && n <= WGMMA_N_MOST && n % 8 == 0 && known_types(i);
    if (!shaped || i->d_count != registers || sources < 3 || sources != (wgmma_a_in_registers(i) ? 6 : 3)) {
        snprintf(error, bytes, "a shape, types or registers that wgmma does not have");
        return false;
    }
    i->holds = true;
    i->tensor_flops = (int64_t)2 * WGMMA_ROWS * n * i->shape[2];
    return true;
}

static bool check_registers(insn *i, char *error, size_t bytes)
{
    if (i->imm[0] >= 24 && i->imm[0] <= 256 && i->imm[0] % 8 == 0 && i->op) return true;
    snprintf(error, bytes, "takes .inc or .dec and a multiple of 8 from 24 to 256");
    return false;
}

const ptx_row ptx_wgmma_rows[] = {
    {"wgmma.mma_async.sync.aligned", "*", F_SATFINITE, "m", "b=32 s=0 s=64 q i? i i i", PIPE_TENSOR, 0, multiply, find_product},
    {"wgmma.fence.sync.aligned", "", 0, "", "", PIPE_TENSOR, 0, fence, NULL},
    {"wgmma.commit_group.sync.aligned", "", 0, "", "", PIPE_TENSOR, 0, commit, NULL},
    {"wgmma.wait_group.sync.aligned", "", 0, "", "i", PIPE_TENSOR, 0, wait_group, NULL},
    {"setmaxnreg", "u32", F_SYNC | F_ALIGNED, "c", "i", PIPE_CONTROL, 0, set_registers, check_registers},
    {0},
};
