/* Calls. Each device function that a kernel needs becomes a segment of the kernel's code, once, with registers of its own beside all
   others': a lane is in one activation of it at a time, so that they need no stack. Recursive calls, which break this, put the registers
   of all device functions aside until they return. Variables and arguments do have a stack, in local memory. */
#include "engine/decode.h"

#include <stdlib.h>
#include <string.h>

enum { RECURSION_BYTES = 16384, FRAME_ALIGN = 16 };

static uint32_t aligned_frame(int64_t bytes) { return (uint32_t)((bytes + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN); }

static void *array(int count, size_t size)
{
    void *p = calloc(count > 0 ? (size_t)count : 1, size);
    if (!p) abort();
    return p;
}

/* ---- which routines ---------------------------------------------------------------------------------------------------------- */

static bool is_call(const statement *s) { return !strncmp(s->opcode, "call", 4) && (!s->opcode[4] || s->opcode[4] == '.'); }

/* The operand that says whom: behind the list of results, if there is one. */
static const raw *callee_of(const statement *s)
{
    int at = s->operand_count && s->operands[0].kind == RAW_VECTOR;
    return at < s->operand_count ? &s->operands[at] : NULL;
}

static void add_segment(decoder *d, const routine *r, const parsed *body, int64_t frame)
{
    for (int s = 0; s < d->segment_count; s++)
        if (d->segments[s].routine == r) return;
    segment *grown = realloc(d->segments, (size_t)(d->segment_count + 1) * sizeof *grown);
    if (!grown) abort();
    d->segments = grown;
    segment *at = &d->segments[d->segment_count++];
    *at = (segment){.routine = r, .body = body, .frame_bytes = aligned_frame(frame)};
    if (at == d->segments) return;
    at->registers = at[-1].registers + at[-1].body->register_count;
    at->code = at[-1].code + at[-1].body->count + 1;
}

static struct ptx_slot *slots_of(ptx_variable *const *variables, int count)
{
    struct ptx_slot *slots = array(count, sizeof *slots);
    for (int i = 0; i < count; i++) slots[i] = (struct ptx_slot){(int32_t)variables[i]->offset, (int32_t)variables[i]->bytes};
    return slots;
}

static void describe_callee(const decoder *d, const segment *s, ptx_callee *c)
{
    const routine *r = s->routine;
    *c = (ptx_callee){.name = r->layout.name, .handle = ptx_function_handle(ptx_function_find(d->function->module, r->layout.name)),
                      .entry = s->code, .frame_bytes = s->frame_bytes, .result_count = r->result_count,
                      .argument_count = r->argument_count, .variable_count = r->variable_count};
    c->results = slots_of(r->results, r->result_count);
    c->arguments = slots_of(r->arguments, r->argument_count);
    c->variables = array(r->variable_count, sizeof *c->variables);
    for (int v = 0; v < r->variable_count; v++) c->variables[v] = (int32_t)r->variables[v]->offset;
    for (const struct ptx_device_function *f = d->function->module->device_functions; f; f = f->next)
        if (!strcmp(f->name, c->name)) c->name = f->name; /* lives as long as the module */
}

void link_segments(decoder *d, const parsed *kernel, const routine *routines)
{
    add_segment(d, NULL, kernel, d->function->local_bytes);
    for (int s = 0; s < d->segment_count; s++) {
        const parsed *body = d->segments[s].body;
        for (int i = 0; body->calls && i < body->count; i++) {
            const raw *whom = is_call(&body->statements[i]) ? callee_of(&body->statements[i]) : NULL;
            for (const routine *r = routines; whom && r; r = r->next)
                if (r->defined && (whom->kind != RAW_NAME || !strcmp(whom->name, r->layout.name))) add_segment(d, r, &r->body, r->layout.local_bytes);
        }
    }
    d->function->callee_count = d->segment_count - 1;
    d->function->callees = array(d->function->callee_count, sizeof *d->function->callees);
    for (int c = 0; c < d->function->callee_count; c++) describe_callee(d, &d->segments[c + 1], &d->function->callees[c]);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------- */

static bool take_slots(decoder *d, const raw *list, struct ptx_slot **slots, int *count)
{
    *count = list->count;
    *slots = array(list->count, sizeof **slots);
    for (int i = 0; i < list->count; i++) {
        const raw *r = &list->items[i];
        if (r->kind != RAW_VARIABLE || r->variable->space != SPACE_LOCAL) return decode_fail(d, "arguments are known as .param variables only");
        (*slots)[i] = (struct ptx_slot){(int32_t)r->variable->offset, (int32_t)r->variable->bytes};
    }
    return true;
}

static void add_result(decoder *d, int reg, int bits) { d->d[d->d_count++] = (operand){.reg = reg, .bits = (uint8_t)bits}; }

/* What the call sets: where to return to, and the addresses of the frame's variables. */
static bool set_callee(decoder *d, int callee)
{
    const segment *s = &d->segments[callee + 1];
    if (d->d_count + 1 + s->routine->variable_count > SOURCES_MOST) return decode_fail(d, "too many variables in the functions it may call");
    add_result(d, s->registers + s->routine->return_register, 32);
    for (int v = 0; v < s->routine->variable_count; v++) add_result(d, s->registers + s->routine->variables[v]->frame_register, 64);
    return true;
}

static bool set_all_callees(decoder *d)
{
    for (int c = 0; c < d->function->callee_count; c++)
        if (!set_callee(d, c)) return false;
    return true;
}

static void set_targets(insn *i, const sg_function *f)
{
    int only = i->call->callee;
    int32_t *targets = array(f->callee_count, sizeof *targets);
    for (int c = 0; c < f->callee_count; c++)
        if (only < 0 || only == c) targets[i->target_count++] = f->callees[c].entry;
    i->targets = targets;
}

bool link_call(decoder *d, const statement *s)
{
    insn *i = d->i;
    const sg_function *f = d->function;
    const raw *whom = callee_of(s);
    ptx_call *c = i->call = array(1, sizeof *c);
    c->callee = -1;
    c->frame_bytes = d->now->frame_bytes;
    if (!whom) return decode_fail(d, "a call of nothing");
    if (whom != s->operands && !take_slots(d, &s->operands[0], &c->results, &c->result_count)) return false;
    const raw *list = whom + 1 < s->operands + s->operand_count && whom[1].kind == RAW_VECTOR ? whom + 1 : NULL;
    if (list && !take_slots(d, list, &c->arguments, &c->argument_count)) return false;
    if (whom->kind == RAW_REGISTER) {
        d->s[d->s_count++] = (operand){.reg = d->now->registers + whom->reg, .bits = d->now->body->register_bits[whom->reg]};
        if (d->s[0].bits != 64) return decode_fail(d, "a pointer of %d bits", d->s[0].bits);
        if (!set_all_callees(d)) return false;
        set_targets(i, f);
        return true;
    }
    if (whom->kind != RAW_NAME) return decode_fail(d, "a call of something that is no function");
    for (int each = 0; each < f->callee_count; each++)
        if (!strcmp(f->callees[each].name, whom->name)) c->callee = each;
    if (c->callee >= 0) {
        set_targets(i, f);
        return set_callee(d, c->callee);
    }
    c->builtin = ptx_builtin(whom->name);
    i->exec = c->builtin ? c->builtin : call_nobody;
    return true;
}

void link_return(decoder *d)
{
    insn *i = d->i;
    i->exec = return_to_caller;
    i->returns = true;
    i->callee = (int)(d->now - d->segments) - 1;
    d->s[d->s_count++] = (operand){.reg = d->now->registers + d->now->routine->return_register, .bits = 32};
}

/* ---- when all is decoded ------------------------------------------------------------------------------------------------------ */

static bool may_call(const insn *call, int callee) { return call->call && !call->call->builtin && call->exec != call_nobody && (call->call->callee < 0 || call->call->callee == callee); }

static void set_returns(sg_function *f)
{
    for (int32_t i = 0; i < f->length; i++) {
        insn *at = &f->code[i];
        if (!at->returns) continue;
        int32_t *targets = NULL;
        for (int32_t from = 0; from < f->length; from++) {
            if (!may_call(&f->code[from], at->callee)) continue;
            if (!(at->target_count & (at->target_count + 1))) {
                targets = realloc(targets, (size_t)(2 * at->target_count + 2) * sizeof *targets);
                if (!targets) abort();
            }
            targets[at->target_count++] = from + 1;
        }
        at->targets = targets;
    }
}

static int segment_at(const decoder *d, int32_t code)
{
    int s = d->segment_count - 1;
    while (d->segments[s].code > code) s--;
    return s;
}

/* reach[a·n + b]: a calls b, directly or through others. */
static bool *find_reach(const decoder *d)
{
    int n = d->segment_count;
    bool *reach = array(n * n, sizeof *reach);
    for (int32_t i = 0; i < d->function->length; i++)
        for (int c = 0; c < n - 1; c++)
            if (may_call(&d->function->code[i], c)) reach[segment_at(d, i) * n + c + 1] = true;
    for (int k = 0; k < n; k++)
        for (int a = 0; a < n; a++)
            for (int b = 0; reach[a * n + k] && b < n; b++) reach[a * n + b] |= reach[k * n + b];
    return reach;
}

void link_finish(decoder *d)
{
    sg_function *f = d->function;
    int n = d->segment_count;
    if (n == 1) return;
    set_returns(f);
    bool *reach = find_reach(d), recursive = false;
    for (int32_t i = 0; i < f->length; i++) {
        int from = segment_at(d, i);
        for (int c = 0; c < n - 1; c++)
            if (may_call(&f->code[i], c)) f->code[i].call->again |= reach[(c + 1) * n + from];
        recursive |= f->code[i].call && f->code[i].call->again;
    }
    f->local_bytes = recursive ? RECURSION_BYTES : 0;
    for (int s = 0; s < n; s++) f->local_bytes += d->segments[s].frame_bytes;
    free(reach);
}

void link_put_aside(decoder *d, const uint32_t *places, const uint8_t *register_bits)
{
    sg_function *f = d->function;
    bool recursive = false;
    for (int32_t i = 0; i < f->length; i++) recursive |= f->code[i].call && f->code[i].call->again;
    if (!recursive) return;
    const segment *last = &d->segments[d->segment_count - 1];
    int first = d->segments[1].registers, count = last->registers + last->body->register_count - first;
    f->put_aside = array(count, sizeof *f->put_aside);
    for (int r = first; r < first + count; r++) {
        bool have = places[r] == UINT32_MAX;
        for (int each = 0; each < f->put_aside_count && !have; each++)
            have = f->put_aside[each].offset == places[r] && f->put_aside[each].bits >= register_bits[r];
        if (!have) f->put_aside[f->put_aside_count++] = (operand){.offset = places[r], .reg = -1, .bits = register_bits[r]};
    }
}
