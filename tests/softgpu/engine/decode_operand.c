/* Operands of instructions: registers, constants laid out as lanes read them, addresses, labels. */
#include "engine/decode.h"

#include "numbers/numbers.h"

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
bool add_scalar(decoder *d, const raw *r, width w, ptx_type type, bool result, operand *list, int *count)
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

bool add_operand(decoder *d, const raw *r, width w, ptx_type type, bool result)
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
bool add_address(decoder *d, const raw *r)
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

bool set_label(decoder *d, const raw *r, int scope)
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
