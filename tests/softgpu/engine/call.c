/* Calls of device functions and returns from them, at run time. */
#include "engine/decode.h"
#include "engine/lanes.h"

#include <stdlib.h>
#include <string.h>

static char *frame_at(const warp *w, int lane, uint32_t offset)
{
    return (char *)w->local + (size_t)lane * (size_t)w->block->launch->function->local_bytes + offset;
}

static uint8_t *marks_at(const warp *w, int lane, uint32_t offset)
{
    return w->local_written ? w->local_written + (size_t)lane * (size_t)w->block->launch->function->local_bytes + offset : NULL;
}

/* Bytes and their written marks, from one frame to another. */
static void move_slots(warp *w, int lane, uint32_t to_frame, const struct ptx_slot *to, uint32_t from_frame, const struct ptx_slot *from, int count)
{
    for (int i = 0; i < count; i++) {
        size_t bytes = (size_t)(to[i].bytes < from[i].bytes ? to[i].bytes : from[i].bytes);
        uint32_t target = to_frame + (uint32_t)to[i].offset, source = from_frame + (uint32_t)from[i].offset;
        memcpy(frame_at(w, lane, target), frame_at(w, lane, source), bytes);
        if (w->local_written) memcpy(marks_at(w, lane, target), marks_at(w, lane, source), bytes);
    }
}

static int least(int a, int b) { return a < b ? a : b; }

/* ---- registers of a recursive call -------------------------------------------------------------------------------------------- */

static uint64_t *push(struct lane_stack *s, int count)
{
    if (s->count + count > s->capacity) {
        s->capacity = 2 * (s->count + count);
        s->values = realloc(s->values, (size_t)s->capacity * sizeof *s->values);
        if (!s->values) abort();
    }
    s->count += count;
    return s->values + s->count - count;
}

static void put_aside(warp *w, int lane)
{
    const sg_function *f = w->block->launch->function;
    uint64_t *to = push(&w->aside[lane], f->put_aside_count * 2);
    for (int r = 0; r < f->put_aside_count; r++, to += 2) {
        const operand *o = &f->put_aside[r];
        if (o->bits == 1) to[0] = *lanes32(w, o) >> lane & 1;
        else if (o->bits <= 32) to[0] = lanes32(w, o)[lane];
        else to[0] = lanes64(w, o)[lane];
        if (o->bits == 128) to[1] = lanes64(w, o)[LANES + lane];
    }
}

static void take_back(warp *w, int lane)
{
    const sg_function *f = w->block->launch->function;
    struct lane_stack *s = &w->aside[lane];
    const uint64_t *from = s->values + (s->count -= f->put_aside_count * 2);
    for (int r = 0; r < f->put_aside_count; r++, from += 2) {
        const operand *o = &f->put_aside[r];
        if (o->bits == 1) set_predicate(w, o, 1u << lane, (uint32_t)from[0] << lane);
        else if (o->bits <= 32) lanes32(w, o)[lane] = (uint32_t)from[0];
        else lanes64(w, o)[lane] = from[0];
        if (o->bits == 128) lanes64(w, o)[LANES + lane] = from[1];
    }
}

/* ---- calls ----------------------------------------------------------------------------------------------------------------------- */

/* A new frame for a lane; false: no room. */
static bool open_frame(warp *w, const insn *i, int lane, const ptx_callee *c, const operand *set)
{
    const ptx_call *call = i->call;
    uint32_t caller = w->frame[lane], base = caller + call->frame_bytes;
    if ((int64_t)base + c->frame_bytes > w->block->launch->function->local_bytes || w->depth[lane] == UINT16_MAX) {
        warp_finding(w, i, lane, "out of bounds", "the stack is full at %d calls deep", w->depth[lane]);
        launch_fail(w->block->launch, SG_ILLEGAL_ADDRESS);
        return false;
    }
    if (call->again) put_aside(w, lane);
    if (w->local_written) memset(marks_at(w, lane, base), 0, c->frame_bytes);
    move_slots(w, lane, base, c->arguments, caller, call->arguments, least(c->argument_count, call->argument_count));
    w->frame[lane] = base;
    w->depth[lane]++;
    lanes32(w, &set[0])[lane] = (uint32_t)w->pc + 1;
    for (int v = 0; v < c->variable_count; v++) lanes64(w, &set[1 + v])[lane] = base + (uint32_t)c->variables[v];
    return true;
}

static void enter(warp *w, const insn *i, uint32_t mask, int callee)
{
    const ptx_callee *c = &w->block->launch->function->callees[callee];
    const operand *set = i->d;
    for (int before = 0; i->call->callee < 0 && before < callee; before++) set += 1 + w->block->launch->function->callees[before].variable_count;
    for (uint32_t rest = mask; rest; rest &= rest - 1)
        if (!open_frame(w, i, __builtin_ctz(rest), c, set)) {
            w->yields = true;
            return;
        }
    warp_branch(w, i, mask, c->entry);
}

static uint32_t lanes_with(const uint64_t *values, uint32_t lanes, uint64_t wanted)
{
    uint32_t same = 0;
    for (; lanes; lanes &= lanes - 1)
        if (values[__builtin_ctz(lanes)] == wanted) same |= lanes & -lanes;
    return same;
}

static void enter_by_pointer(warp *w, const insn *i, uint32_t mask)
{
    const sg_function *f = w->block->launch->function;
    uint64_t handles[LANES];
    memcpy(handles, lanes64(w, &i->s[0]), sizeof handles);
    while (mask) {
        int lane = __builtin_ctz(mask), callee = 0;
        uint32_t same = lanes_with(handles, mask, handles[lane]);
        while (callee < f->callee_count && f->callees[callee].handle != handles[lane]) callee++;
        if (callee == f->callee_count) {
            warp_finding(w, i, lane, "out of bounds", "a call of 0x%llx, where no function is", (unsigned long long)handles[lane]);
            launch_fail(w->block->launch, SG_ILLEGAL_ADDRESS);
            w->yields = true;
            return;
        }
        enter(w, i, same, callee);
        mask &= ~same;
    }
}

void call_device_function(warp *w, const insn *i, uint32_t mask)
{
    if (i->call->callee >= 0)
        enter(w, i, mask, i->call->callee);
    else
        enter_by_pointer(w, i, mask);
}

void call_nobody(warp *w, const insn *i, uint32_t mask)
{
    warp_finding(w, i, __builtin_ctz(mask), "unknown instruction", "line %d of the PTX calls a function that the module does not define", i->ptx_line);
    launch_fail(w->block->launch, SG_ILLEGAL_INSTRUCTION);
    w->yields = true;
}

/* ---- returns ------------------------------------------------------------------------------------------------------------------------ */

static void close_frame(warp *w, int lane, const ptx_callee *c, const ptx_call *call)
{
    uint32_t base = w->frame[lane], caller = base - call->frame_bytes;
    if (call->again) take_back(w, lane);
    move_slots(w, lane, caller, call->results, base, c->results, least(c->result_count, call->result_count));
    w->frame[lane] = caller;
    w->depth[lane]--;
}

void return_to_caller(warp *w, const insn *i, uint32_t mask)
{
    const sg_function *f = w->block->launch->function;
    uint64_t to[LANES];
    for (int l = 0; l < LANES; l++) to[l] = lanes32(w, &i->s[0])[l];
    while (mask) {
        int32_t next = (int32_t)to[__builtin_ctz(mask)];
        uint32_t same = lanes_with(to, mask, (uint64_t)next);
        for (uint32_t rest = same; rest; rest &= rest - 1) close_frame(w, __builtin_ctz(rest), &f->callees[i->callee], f->code[next - 1].call);
        warp_branch(w, i, same, next);
        mask &= ~same;
    }
}
