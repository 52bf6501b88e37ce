/* Branches and ends. */
#include "engine/decode.h"
#include "engine/lanes.h"

static void branch(warp *w, const insn *i, uint32_t mask) { warp_branch(w, i, mask, i->target); }

static void branch_indexed(warp *w, const insn *i, uint32_t mask)
{
    const uint32_t *index = lanes32(w, &i->s[0]);
    uint32_t rest = mask;
    while (rest) {
        int lane = __builtin_ctz(rest);
        uint32_t same = 0, wanted = index[lane];
        for (uint32_t each = rest; each; each &= each - 1)
            if (index[__builtin_ctz(each)] == wanted) same |= each & -each;
        rest &= ~same;
        if (wanted >= (uint32_t)i->target_count) {
            warp_finding(w, i, lane, "out of bounds", "branch %u of a table of %d", wanted, i->target_count);
            launch_fail(w->block->launch, SG_ILLEGAL_ADDRESS);
            return;
        }
        warp_branch(w, i, same, i->targets[wanted]);
    }
}

static void finish(warp *w, const insn *i, uint32_t mask)
{
    (void)i;
    warp_exit(w, mask);
}

static void trap(warp *w, const insn *i, uint32_t mask)
{
    (void)i, (void)mask;
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    w->yields = true;
}

static void pass(warp *w, const insn *i, uint32_t mask) { (void)w, (void)i, (void)mask; }

/* All of the block is let through by one thread: how it tells the others is not asked. */
static void wait_for_grid(warp *w, const insn *i, uint32_t mask)
{
    (void)i, (void)mask;
    if (w->block->races) race_grid_wait(w->block->races);
}

static void sleep_a_little(warp *w, const insn *i, uint32_t mask)
{
    (void)i, (void)mask;
    w->yields = true;
}

const ptx_row ptx_control_rows[] = {
    {"bra", "", F_UNI, "", "l", PIPE_CONTROL, 0, branch, NULL},
    {"brx.idx", "", F_UNI, "", "s=32 l", PIPE_CONTROL, 0, branch_indexed, NULL},
    {"call", "", F_UNI, "", "", PIPE_CONTROL, 0, call_device_function, NULL},
    {"ret", "", F_UNI, "", "", PIPE_CONTROL, 0, finish, NULL},
    {"exit", "", 0, "", "", PIPE_CONTROL, 0, finish, NULL},
    {"trap", "", 0, "", "", PIPE_CONTROL, 0, trap, NULL},
    {"brkpt", "", 0, "", "", PIPE_CONTROL, 0, pass, NULL},
    {"nanosleep", "u32", 0, "", "s", PIPE_CONTROL, 0, sleep_a_little, NULL},
    {"griddepcontrol.wait", "", 0, "", "", PIPE_CONTROL, 0, wait_for_grid, NULL},
    {"griddepcontrol.launch_dependents", "", 0, "", "", PIPE_CONTROL, 0, pass, NULL},
    {"pmevent", "", 0, "", "i", PIPE_CONTROL, 0, pass, NULL},
    {0},
};
