/* Declarations: registers, variables and where they lie, initial values. */
#include "engine/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *word;
    int bits;
} declared_types[] = {
    {".pred", 1}, {".b8", 8}, {".u8", 8}, {".s8", 8}, {".b16", 16}, {".u16", 16}, {".s16", 16}, {".f16", 16}, {".bf16", 16},
    {".b32", 32}, {".u32", 32}, {".s32", 32}, {".f32", 32}, {".f16x2", 32}, {".bf16x2", 32}, {".b64", 64}, {".u64", 64}, {".s64", 64},
    {".f64", 64}, {".b128", 128},
};

static int declared_bits(const char *word)
{
    for (size_t i = 0; i < sizeof declared_types / sizeof *declared_types; i++)
        if (!strcmp(word, declared_types[i].word)) return declared_types[i].bits;
    return 0;
}

/* .reg .b32 %r<7>, %x; */
bool parse_registers(parser *p)
{
    lexer *lex = &p->lex;
    int bits = 0, elements = 1;
    for (; lexer_peek(lex) == TOKEN_WORD && lex->text[0] == '.'; lexer_next(lex)) {
        if (!strcmp(lex->text, ".v2")) elements = 2;
        if (!strcmp(lex->text, ".v4")) elements = 4;
        if (declared_bits(lex->text)) bits = declared_bits(lex->text);
    }
    if (!bits || elements != 1) return lexer_fail(lex, "a .reg of a type that is not known");
    do {
        if (lexer_peek(lex) != TOKEN_WORD) return lexer_fail(lex, "expected a register's name");
        symbol s = {.name = lexer_keep(lex), .scope = p->scope, .first = p->parsed->register_count};
        lexer_next(lex);
        if (lexer_take(lex, "<")) {
            int64_t count;
            if (!lexer_integer(lex, &count) || count > 1 << 20 || !lexer_expect(lex, ">")) return false;
            s.count = (int)count;
            for (int i = 0; i < s.count; i++) add_register(p, bits);
            if (!s.count) continue;
        } else {
            add_register(p, bits);
        }
        if (!add_symbol(p, s)) return false;
    } while (lexer_take(lex, ","));
    return lexer_expect(lex, ";");
}

static int64_t align_up(int64_t value, int64_t align) { return (value + align - 1) / align * align; }

/* One element of an initialiser: a number, or an address like generic(name)+4. */
static bool parse_initial_element(parser *p, ptx_variable *v, int64_t at, int element_bytes)
{
    lexer *lex = &p->lex;
    bool generic = false, negative = lexer_take(lex, "-");
    if (lexer_peek(lex) == TOKEN_NUMBER) {
        uint64_t bits = lex->number_kind == NUMBER_FLOAT && element_bytes == 8 ? 0 : (uint64_t)lex->number;
        if (lex->number_kind == NUMBER_FLOAT && element_bytes == 8) {
            double wide = (double)sg_bits_float_of(lex->number);
            memcpy(&bits, &wide, 8);
        }
        if (negative) bits = -bits;
        lexer_next(lex);
        if (at + element_bytes > v->bytes) return lexer_fail(lex, "more initial values than elements");
        memcpy(v->initial + at, &bits, (size_t)element_bytes);
        return true;
    }
    if (lexer_take(lex, "generic")) {
        generic = true;
        if (!lexer_expect(lex, "(")) return false;
    }
    if (lexer_peek(lex) != TOKEN_WORD) return lexer_fail(lex, "expected an initial value");
    struct ptx_fixup *fixup = calloc(1, sizeof *fixup);
    if (!fixup) abort();
    *fixup = (struct ptx_fixup){.at = at, .name = strdup(lex->text), .generic = generic, .next = v->fixups};
    v->fixups = fixup;
    lexer_next(lex);
    if (generic && !lexer_expect(lex, ")")) return false;
    if (lexer_take(lex, "+")) return lexer_integer(lex, &fixup->addend);
    return true;
}

static bool parse_initial(parser *p, ptx_variable *v, int element_bytes)
{
    v->initial = calloc(1, (size_t)v->bytes);
    if (!v->initial) abort();
    if (!lexer_take(&p->lex, "{")) return parse_initial_element(p, v, 0, element_bytes);
    int64_t at = 0;
    int depth = 1;
    while (depth) {
        if (lexer_take(&p->lex, "{"))
            depth++;
        else if (lexer_take(&p->lex, "}"))
            depth--;
        else if (!lexer_take(&p->lex, ",")) {
            if (!parse_initial_element(p, v, at, element_bytes)) return false;
            at += element_bytes;
        }
    }
    return true;
}

/* A device function's variables lie in a frame that every call makes anew: their addresses are in registers that the call sets. */
static void add_frame_variable(parser *p, ptx_variable *v)
{
    routine *r = p->routine;
    ptx_variable **grown = realloc(r->variables, (size_t)(r->variable_count + 1) * sizeof *grown);
    if (!grown) abort();
    r->variables = grown;
    r->variables[r->variable_count++] = v;
    v->frame_register = add_register(p, 64);
}

/* Gives a variable of a function its place; module variables live on their own. */
static void place_variable(parser *p, ptx_variable *v)
{
    sg_function *f = p->function;
    if (v->space == SPACE_SHARED && (!f || p->routine)) {
        v->by_kernel = v->bytes > 0;
    } else if (v->space == SPACE_SHARED) {
        v->offset = align_up(f->static_shared, v->align);
        f->static_shared = v->offset + v->bytes;
        if (v->align > f->shared_align) f->shared_align = v->align;
    } else if (f && (v->space == SPACE_LOCAL || v->space == SPACE_PARAM)) {
        v->space = SPACE_LOCAL; /* .param inside a body: arguments of calls */
        v->offset = align_up(f->local_bytes, v->align);
        f->local_bytes = v->offset + v->bytes;
        if (p->routine) add_frame_variable(p, v);
    }
}

/* The rest of a declaration behind its state space: [.align n] [.attribute(.managed)] .type name[n] [= …] {, name…} */
bool parse_variables(parser *p, ptx_space space, bool parameter)
{
    lexer *lex = &p->lex;
    int64_t align = 0;
    int bits = 0, elements = 1;
    bool managed = false;
    for (;;) {
        if (lexer_take(lex, ".align")) {
            if (!lexer_integer(lex, &align)) return false;
        } else if (lexer_take(lex, ".attribute")) {
            if (!lexer_expect(lex, "(")) return false;
            while (!lexer_take(lex, ")")) {
                managed |= lexer_peek(lex) == TOKEN_WORD && !strcmp(lex->text, ".managed");
                if (lexer_peek(lex) == TOKEN_END) return lexer_fail(lex, "expected )");
                lexer_next(lex);
            }
        } else if (lexer_take(lex, ".ptr") || lexer_take(lex, ".global") || lexer_take(lex, ".const")) {
            /* what a pointer parameter points to */
        } else if (lexer_take(lex, ".v2")) {
            elements = 2;
        } else if (lexer_take(lex, ".v4")) {
            elements = 4;
        } else if (lexer_peek(lex) == TOKEN_WORD && declared_bits(lex->text)) {
            bits = declared_bits(lex->text);
            lexer_next(lex);
        } else {
            break;
        }
    }
    if (!bits) return lexer_fail(lex, "expected a type");
    do {
        if (lexer_peek(lex) != TOKEN_WORD) return lexer_fail(lex, "expected a variable's name");
        ptx_variable *v = calloc(1, sizeof *v);
        if (!v) abort();
        *v = (ptx_variable){.name = strdup(lex->text), .space = space, .align = align ? align : bits / 8 * elements, .managed = managed,
                            .frame_register = -1,
                            .bytes = bits / 8 * elements, .next = p->module->variables};
        p->module->variables = v;
        lexer_next(lex);
        while (lexer_take(lex, "[")) {
            int64_t count = 0;
            if (!lexer_take(lex, "]") && (!lexer_integer(lex, &count) || !lexer_expect(lex, "]"))) return false;
            if (count < 0 || __builtin_mul_overflow(v->bytes, count, &v->bytes)) return lexer_fail(lex, "a size that does not fit");
        }
        if (parameter && p->routine) {
            place_variable(p, v);
        } else if (parameter) {
            sg_function *f = p->function;
            v->offset = align_up(f->parameter_total, v->align);
            f->parameter_total = v->offset + v->bytes;
            f->parameter_offsets = realloc(f->parameter_offsets, (size_t)(f->parameter_count + 1) * sizeof *f->parameter_offsets);
            f->parameter_bytes = realloc(f->parameter_bytes, (size_t)(f->parameter_count + 1) * sizeof *f->parameter_bytes);
            if (!f->parameter_offsets || !f->parameter_bytes) abort();
            f->parameter_offsets[f->parameter_count] = (int32_t)v->offset;
            f->parameter_bytes[f->parameter_count++] = (int32_t)v->bytes;
        } else {
            place_variable(p, v);
        }
        if (!add_symbol(p, (symbol){.name = v->name, .scope = p->scope, .variable = v})) return false;
        if (lexer_take(lex, "=") && !parse_initial(p, v, bits / 8)) return false;
    } while (!parameter && lexer_take(lex, ","));
    return parameter || lexer_expect(lex, ";");
}
