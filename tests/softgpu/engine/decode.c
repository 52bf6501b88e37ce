/* From statements to instructions: finds the row of each opcode, fixes its operands, checks their widths. What no row knows stays an
   instruction without one, an error only when it is reached. */
#include "engine/decode.h"

#include "numbers/numbers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one statement ------------------------------------------------------------------------------------------------------ */

static width width_of(const insn *i, const char *spec, ptx_type *type)
{
    int which = spec[1] >= '0' && spec[1] <= '3' ? spec[1] - '0' : 0;
    width w = {.at_least = strchr(spec, '~') != NULL};
    *type = i->type[which];
    w.bits = ptx_type_bits(*type);
    if (strchr(spec, '+')) w.bits *= 2, *type = T_B64;
    const char *fixed = strchr(spec, '=');
    if (fixed) w.bits = atoi(fixed + 1), *type = T_B32;
    return w;
}

static bool take_operand(decoder *d, const char *spec, const raw *r, const statement *s, int *constants)
{
    ptx_type type;
    width w = width_of(d->i, spec, &type);
    switch (spec[0]) {
    case 'd': return add_operand(d, r, w, type, true);
    case 's': return add_operand(d, r, w, type, false);
    case 'b': return add_operand(d, r, w, type, true) && add_operand(d, r, w, type, false);
    case 'q': return add_scalar(d, r, (width){1, false}, T_PRED, false, d->s, &d->s_count);
    case 'p':
        if (!add_scalar(d, r, (width){1, false}, T_PRED, true, d->d, &d->d_count)) return false;
        return !r->other || add_scalar(d, r->other, (width){1, false}, T_PRED, true, d->d, &d->d_count);
    case 'a': return add_address(d, r);
    case 'l': return set_label(d, r, s->scope);
    case 'i':
        if (r->kind != RAW_INTEGER) return decode_fail(d, "expected an integer constant");
        d->i->imm[(*constants)++] = r->value;
        return true;
    default: return decode_fail(d, "the table's operand %s is not known", spec);
    }
}

static bool take_operands(decoder *d, const statement *s)
{
    const char *spec = d->i->row->operands;
    bool optional = false;
    int constants = 0, at = 0;
    while (*spec) {
        char one[16];
        size_t length = strcspn(spec, " ");
        snprintf(one, sizeof one, "%.*s", (int)length, spec);
        optional |= strchr(one, '?') != NULL;
        if (at < s->operand_count) {
            const raw *r = &s->operands[at++];
            if (!take_operand(d, one, r, s, &constants)) return false;
            /* d|p: a value and a predicate, as shfl gives them. */
            if (one[0] == 'd' && r->other && !add_scalar(d, r->other, (width){1, false}, T_PRED, true, d->d, &d->d_count)) return false;
        } else if (!optional) {
            return decode_fail(d, "%d operands are too few", s->operand_count);
        }
        spec += length + (spec[length] == ' ');
    }
    if (at < s->operand_count) return decode_fail(d, "%d operands are too many", s->operand_count);
    return true;
}

static void keep_operands(decoder *d, int32_t index)
{
    int total = d->d_count + d->s_count;
    if (d->pool_count + total > d->pool_capacity) {
        d->pool_capacity = 2 * (d->pool_count + total) + 4096;
        operand *grown = realloc(d->pool, (size_t)d->pool_capacity * sizeof *grown);
        if (!grown) abort();
        d->pool = grown;
    }
    d->starts[index] = d->pool_count;
    memcpy(d->pool + d->pool_count, d->d, (size_t)d->d_count * sizeof *d->d);
    memcpy(d->pool + d->pool_count + d->d_count, d->s, (size_t)d->s_count * sizeof *d->s);
    d->pool_count += total;
    d->i->d_count = (uint16_t)d->d_count;
    d->i->s_count = (uint16_t)d->s_count;
}

static bool decode_statement(decoder *d, const statement *s, int32_t index)
{
    insn *i = d->i = &d->function->code[index];
    *i = *opcode_find(d->function->module->opcodes, s->opcode); /* all that the opcode says */
    i->file = s->file, i->line = s->line, i->location = s->location, i->ptx_line = s->ptx_line, i->unused = s->unused;
    i->guard = (operand){.reg = s->guard < 0 ? -1 : d->now->registers + s->guard, .bits = 1, .negated = s->guard_negated};
    i->target = -1;
    d->d_count = d->s_count = d->addresses = 0;
    if (i->row) {
        bool calls = !strcmp(i->row->name, "call");
        if (calls ? !link_call(d, s) : !take_operands(d, s)) return false;
        if (d->now->routine && !strcmp(i->row->name, "ret")) link_return(d);
        opcode_read_clock(i, s->operand_count == 2 && s->operands[1].kind == RAW_SPECIAL ? s->operands[1].reg : -1);
        keep_operands(d, index);
        char reason[200];
        i->d = d->pool + d->starts[index]; /* for finish only: the pool may still move */
        i->s = i->d + i->d_count;
        if (i->row->finish && !i->row->finish(i, reason, sizeof reason)) return decode_fail(d, "%s", reason);
    } else {
        d->starts[index] = d->pool_count;
    }
    if (i->ends && s->guard >= 0) i->ends = false;
    return true;
}

/* The sink `_` becomes one register of each width that nobody reads. */
static void make_sinks(decoder *d, uint8_t *bits, int *register_count)
{
    int sinks[130];
    memset(sinks, -1, sizeof sinks);
    for (int o = 0; o < d->pool_count; o++)
        if (d->pool[o].reg == -2) {
            int width = d->pool[o].bits;
            if (sinks[width] < 0) {
                sinks[width] = *register_count;
                bits[(*register_count)++] = (uint8_t)width;
            }
            d->pool[o].reg = sinks[width];
        }
}

static bool decode_segment(decoder *d, const segment *now)
{
    statement end = {.opcode = now->routine ? "ret" : "exit", .guard = -1, .file = -1, .location = -1};
    d->now = now;
    for (int32_t i = 0; i < now->body->count; i++)
        if (!decode_statement(d, &now->body->statements[i], now->code + i)) return false;
    return decode_statement(d, &end, now->code + now->body->count);
}

static bool decode_all(decoder *d)
{
    sg_function *f = d->function;
    const segment *last = &d->segments[d->segment_count - 1];
    f->length = last->code + last->body->count + 1;
    f->code = calloc((size_t)f->length, sizeof *f->code);
    d->starts = calloc((size_t)f->length, sizeof *d->starts);
    if (!f->code || !d->starts) abort();
    for (int s = 0; s < d->segment_count; s++)
        if (!decode_segment(d, &d->segments[s])) return false;
    int registers = last->registers + last->body->register_count;
    uint8_t *bits = malloc((size_t)registers + 130);
    if (!bits) abort();
    for (int s = 0; s < d->segment_count; s++)
        if (d->segments[s].body->register_count)
            memcpy(bits + d->segments[s].registers, d->segments[s].body->register_bits, (size_t)d->segments[s].body->register_count);
    make_sinks(d, bits, &registers);
    f->operands = d->pool;
    for (int32_t i = 0; i < f->length; i++) {
        f->code[i].d = d->pool + d->starts[i];
        f->code[i].s = f->code[i].d + f->code[i].d_count;
    }
    link_finish(d);
    uint32_t *places = ptx_place_registers(f, bits, registers);
    link_put_aside(d, places, bits);
    free(places);
    free(bits);
    return true;
}

bool ptx_decode(sg_function *function, const parsed *parsed, const routine *routines, char *error, size_t bytes)
{
    decoder *d = calloc(1, sizeof *d);
    if (!d) abort();
    d->function = function;
    d->error = error;
    d->error_bytes = bytes;
    link_segments(d, parsed, routines);
    bool done = decode_all(d);
    if (!done && !function->operands) function->operands = d->pool;
    free(d->constants);
    free(d->starts);
    free(d->segments);
    free(d->shared);
    free(d);
    return done;
}
