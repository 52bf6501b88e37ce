/* The loop that runs a warp. */
#include "engine/lanes.h"

/* wgmma: whether it reads its results' old values. */
static bool accumulates(const warp *w, const insn *i) { return predicate(w, &i->s[i->s_count - 1]) != 0; }

/* The lanes that read a source. */
static uint32_t read_by(const warp *w, const insn *i, int source)
{
    if (!i->chooses || source == 2) return UINT32_MAX;
    uint32_t first = predicate(w, &i->s[2]);
    return source ? ~first : first;
}

/* Reads of registers that were never written, and which lanes of the marked ones were. */
static void check_marks(warp *w, const insn *i, uint32_t mask)
{
    uint32_t missing = 0;
    if (i->guard.reg >= 0 && i->guard.doubtful && (w->active & ~w->marks[i->guard.reg]))
        warp_finding(w, i, __builtin_ctz(w->active & ~w->marks[i->guard.reg]), "uninitialised", "its guard was never written");
    if (i->doubts && !i->copies && !mask) return;
    for (int s = i->holds && !accumulates(w, i) ? i->d_count : 0; s < i->s_count; s++)
        if (i->s[s].doubtful) missing |= mask & read_by(w, i, s) & ~w->marks[i->s[s].reg];
    if (missing && !i->copies) warp_finding(w, i, __builtin_ctz(missing), "uninitialised", "a register is read that was never written");
    for (int d = 0; d < i->d_count; d++)
        if (i->d[d].doubtful) {
            uint32_t *marks = &w->marks[i->d[d].reg];
            *marks = i->copies ? (*marks & ~mask) | (mask & ~missing) : *marks | mask;
        }
}

void warp_run(warp *w, int turns)
{
    const insn *code = w->block->launch->function->code;
    counts *counted = w->block->counts;
    w->yields = false;
    while (turns-- > 0) {
        if ((w->group_count || !w->active) && !warp_regroup(w)) return;
        const insn *i = code + w->pc;
        uint32_t mask = w->active;
        if (i->guard.reg >= 0 || i->guard.offset) mask &= predicate(w, &i->guard);
        if (counted) {
            counted[w->pc].warps++;
            counted[w->pc].lanes += __builtin_popcount(mask);
        }
        w->next = w->pc + 1;
        w->steps++;
        if (w->marks && (i->doubts || i->marks)) check_marks(w, i, mask);
        if (w->wgmma_count && mask) warp_check_held(w, i);
        if (w->written && mask) warp_note_writes(w, i);
        if (mask) i->exec(w, i, mask);
        w->pc = w->next;
        if (w->yields) return;
    }
}
