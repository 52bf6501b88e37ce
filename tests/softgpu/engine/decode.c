/* From statements to instructions: finds the row of each opcode, fixes its operands, checks their widths. What no row knows stays an
   instruction without one, an error only when it is reached. */
#include "decode.h"

#include "../numbers/numbers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool decode_fail(decoder *d, const char *format, ...)
{
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    snprintf(d->error, d->error_bytes, "line %d: %s: %s", d->i->ptx_line, d->i->text, text);
    return false;
}

/* ---- constants -------------------------------------------------------------------------------------------------------- */

static uint32_t lanes_bytes(int bits) { return bits == 1 ? 4 : bits <= 32 ? 4 * LANES : (uint32_t)bits / 8 * LANES; }

static uint32_t new_constant(decoder *d, int bits)
{
    sg_function *f = d->function;
    uint32_t bytes = bits == 1 ? 64 : lanes_bytes(bits), at = f->constant_bytes; /* vectors stay aligned */
    if (at + bytes > d->constant_capacity) {
        d->constant_capacity = 2 * (at + bytes) + 4096;
        uint8_t *grown = aligned_alloc(64, d->constant_capacity);
        if (!grown) abort();
        memset(grown, 0, d->constant_capacity);
        if (at) memcpy(grown, f->constants, at);
        free(f->constants);
        f->constants = grown;
    }
    f->constant_bytes = at + bytes;
    return at;
}

static void fill_constant(uint8_t *at, int bits, uint64_t value)
{
    if (bits == 1) {
        uint32_t mask = value ? UINT32_MAX : 0;
        memcpy(at, &mask, sizeof mask);
    } else if (bits <= 32) {
        uint32_t narrow = (uint32_t)value & (bits < 32 ? (1u << bits) - 1 : UINT32_MAX);
        for (int l = 0; l < LANES; l++) memcpy(at + 4 * l, &narrow, 4);
    } else {
        for (int l = 0; l < LANES; l++) memcpy(at + 8 * l, &value, 8);
    }
}

static operand constant(decoder *d, int bits, uint64_t value)
{
    for (int c = 0; c < d->constant_count; c++)
        if (d->constants[c].bits == bits && d->constants[c].value == value)
            return (operand){.offset = d->constants[c].offset, .reg = -1, .constant = 1, .bits = (uint8_t)bits};
    uint32_t offset = new_constant(d, bits);
    fill_constant(d->function->constants + offset, bits, value);
    struct constant_key *grown = realloc(d->constants, (size_t)(d->constant_count + 1) * sizeof *grown);
    if (!grown) abort();
    d->constants = grown;
    d->constants[d->constant_count++] = (struct constant_key){value, offset, bits};
    return (operand){.offset = offset, .reg = -1, .constant = 1, .bits = (uint8_t)bits};
}

/* Shared memory declared outside kernels lies behind that of the kernel itself. */
static int64_t shared_offset(decoder *d, const ptx_variable *v)
{
    sg_function *f = d->function;
    if (!v->by_kernel) return v->offset;
    for (int s = 0; s < d->shared_count; s++)
        if (d->shared[s].variable == v) return d->shared[s].offset;
    struct shared_place *grown = realloc(d->shared, (size_t)(d->shared_count + 1) * sizeof *grown);
    if (!grown) abort();
    d->shared = grown;
    int64_t at = (f->static_shared + v->align - 1) / v->align * v->align;
    d->shared[d->shared_count++] = (struct shared_place){v, at};
    f->static_shared = at + v->bytes;
    if (v->align > f->shared_align) f->shared_align = v->align;
    return at;
}

/* A variable's address. Module variables get theirs when the function first runs on a device. */
static operand address_constant(decoder *d, ptx_variable *v, int64_t addend, int bits)
{
    sg_function *f = d->function;
    bool module = v->space == SPACE_GLOBAL || v->space == SPACE_CONST;
    bool behind = v->space == SPACE_SHARED && v->bytes == 0; /* extern: behind all the static ones, known when all are declared */
    if (!module && !behind) return constant(d, bits, (uint64_t)((v->space == SPACE_SHARED ? shared_offset(d, v) : v->offset) + addend));
    if (behind && v->align > f->shared_align) f->shared_align = v->align;
    operand o = {.offset = new_constant(d, bits), .reg = -1, .constant = 1, .bits = (uint8_t)bits};
    ptx_relocation *grown = realloc(f->relocations, (size_t)(f->relocation_count + 1) * sizeof *grown);
    if (!grown) abort();
    f->relocations = grown;
    f->relocations[f->relocation_count++] = (ptx_relocation){o.offset, v, addend, (uint8_t)bits};
    return o;
}

/* ---- operands -------------------------------------------------------------------------------------------------------- */

static operand special_register(decoder *d, int which)
{
    sg_function *f = d->function;
    for (int s = 0; s < f->special_count; s++)
        if (f->specials[s].which == which)
            return (operand){.offset = f->specials[s].offset, .reg = -1, .bits = (uint8_t)ptx_special_bits(which)};
    struct ptx_special *grown = realloc(f->specials, (size_t)(f->special_count + 1) * sizeof *grown);
    if (!grown) abort();
    f->specials = grown;
    f->specials[f->special_count++] = (struct ptx_special){(uint8_t)which, f->register_bytes};
    operand o = {.offset = f->register_bytes, .reg = -1, .bits = (uint8_t)ptx_special_bits(which)};
    f->register_bytes += lanes_bytes(o.bits);
    return o;
}

/* How wide an operand must be: exactly `bits`, or at least; 0: any. */
typedef struct width {
    int bits;
    bool at_least;
} width;

static bool fits(width w, int bits) { return w.bits == 0 || bits == w.bits || (w.at_least && bits > w.bits) || (w.bits == 8 && bits == 16); }

static bool is_float(ptx_type t) { return t == T_F32 || t == T_F64; }

static uint64_t immediate(const raw *r, ptx_type type, int bits)
{
    if (r->kind == RAW_FLOAT && bits == 64 && is_float(type)) {
        float narrow = sg_bits_float((uint32_t)r->value);
        double wide = narrow;
        uint64_t value;
        memcpy(&value, &wide, sizeof value);
        return value;
    }
    if (r->kind == RAW_DOUBLE && bits == 32) {
        double wide;
        memcpy(&wide, &r->value, sizeof wide);
        return sg_float_bits((float)wide);
    }
    return (uint64_t)r->value;
}

/* One register, constant or address into `list`. */
static bool add_scalar(decoder *d, const raw *r, width w, ptx_type type, bool result, operand *list, int *count)
{
    operand o = {0};
    int bits = w.bits ? w.bits : 32;
    if (*count == SOURCES_MOST) return decode_fail(d, "too many operands");
    switch (r->kind) {
    case RAW_REGISTER:
        o = (operand){.reg = d->now->registers + r->reg, .bits = d->now->body->register_bits[r->reg], .negated = r->negated};
        if (!fits(w, o.bits)) return decode_fail(d, "an operand of %d bits where %d are expected", o.bits, w.bits);
        break;
    case RAW_SPECIAL:
        if (result) return decode_fail(d, "a special register cannot be written");
        o = special_register(d, r->reg);
        break;
    case RAW_SINK:
        o = (operand){.reg = -2, .bits = (uint8_t)bits}; /* a register that nobody reads, made by the caller */
        break;
    case RAW_INTEGER:
    case RAW_FLOAT:
    case RAW_DOUBLE:
        if (result) return decode_fail(d, "a constant cannot be written");
        o = constant(d, bits, immediate(r, type, bits));
        o.negated = r->negated;
        break;
    case RAW_VARIABLE:
        if (result) return decode_fail(d, "a variable's name where a register is expected");
        if (r->variable->frame_register >= 0) {
            if (r->value || !fits(w, 64)) return decode_fail(d, "a frame address of a kind that is not known");
            o = (operand){.reg = d->now->registers + r->variable->frame_register, .bits = 64};
        } else {
            o = address_constant(d, r->variable, r->value, bits);
        }
        break;
    case RAW_NAME:
        if (result || !ptx_function_find(d->function->module, r->name)) return decode_fail(d, "there is no %s", r->name);
        o = constant(d, bits, ptx_function_handle(ptx_function_find(d->function->module, r->name)));
        break;
    default: return decode_fail(d, "an operand of a kind that does not fit");
    }
    list[(*count)++] = o;
    return true;
}

static bool add_operand(decoder *d, const raw *r, width w, ptx_type type, bool result)
{
    operand *list = result ? d->d : d->s;
    int *count = result ? &d->d_count : &d->s_count;
    if (r->kind != RAW_VECTOR) return add_scalar(d, r, w, type, result, list, count);
    if (d->i->copies && r->count) w.bits /= r->count; /* mov.b64 {a, b}, c */
    for (int i = 0; i < r->count; i++)
        if (!add_scalar(d, &r->items[i], w, type, result, list, count)) return false;
    return true;
}

/* [base + displacement, {coordinates}]: base and coordinates become sources. */
static bool add_address(decoder *d, const raw *r)
{
    if (r->kind != RAW_ADDRESS) return decode_fail(d, "expected an address in brackets");
    const raw *base = &r->items[0];
    width w = {32, true};
    if (d->addresses == 3) return decode_fail(d, "more addresses than three");
    d->i->offset[d->addresses++] = r->value;
    if (base->kind == RAW_VARIABLE || base->kind == RAW_INTEGER) w.bits = 64;
    /* ld.param of a function's own .param variables: they live in local memory. */
    if (base->kind == RAW_VARIABLE && d->i->space == SPACE_PARAM && base->variable->space == SPACE_LOCAL) d->i->space = SPACE_LOCAL;
    if (!add_scalar(d, base, w, T_B64, false, d->s, &d->s_count)) return false;
    return r->count < 2 || add_operand(d, &r->items[1], (width){32, false}, T_B32, false);
}

static int find_label(const parsed *p, const char *name, int scope)
{
    for (; scope >= 0; scope = p->scope_parents[scope])
        for (int l = 0; l < p->label_count; l++)
            if (p->labels[l].scope == scope && !strcmp(p->labels[l].name, name)) return l;
    return -1;
}

static bool set_label(decoder *d, const raw *r, int scope)
{
    insn *i = d->i;
    int found = r->kind == RAW_NAME ? find_label(d->now->body, r->name, scope) : -1;
    if (found < 0) return decode_fail(d, "there is no label %s", r->kind == RAW_NAME ? r->name : "here");
    const label *l = &d->now->body->labels[found];
    i->target = d->now->code + l->at;
    if (!l->targets) return true;
    int32_t *targets = calloc((size_t)l->target_count, sizeof *targets);
    if (!targets) abort();
    i->targets = targets;
    i->target_count = l->target_count;
    for (int t = 0; t < l->target_count; t++) {
        int at = l->targets[t].kind == RAW_NAME ? find_label(d->now->body, l->targets[t].name, l->scope) : -1;
        if (at < 0) return decode_fail(d, "a branch target that does not exist");
        targets[t] = d->now->code + d->now->body->labels[at].at;
    }
    i->target = -1;
    return true;
}

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
    i->file = s->file, i->line = s->line, i->location = s->location, i->ptx_line = s->ptx_line;
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
