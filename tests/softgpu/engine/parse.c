/* A recursive-descent reader of PTX as nvcc and people in asm() write it. What follows a syntax error is not read. */
#include "parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- symbols --------------------------------------------------------------------------------------------------------- */

static bool add_symbol(parser *p, symbol s)
{
    if (p->symbol_count == (int)(sizeof p->symbols / sizeof *p->symbols)) return lexer_fail(&p->lex, "too many declarations");
    p->symbols[p->symbol_count++] = s;
    return true;
}

/* The newest declaration of a name; scopes that were left have taken theirs along. `index`: which of a range of registers. */
static const symbol *find_symbol(const parser *p, const char *name, int *index)
{
    size_t length = strlen(name), digits = length;
    while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') digits--;
    for (int i = p->symbol_count - 1; i >= 0; i--) {
        const symbol *s = &p->symbols[i];
        if (s->variable || !s->count) {
            *index = 0;
            if (!strcmp(s->name, name)) return s;
        } else if (digits < length && !strncmp(s->name, name, digits) && !s->name[digits]) {
            long number = strtol(name + digits, NULL, 10);
            *index = (int)number;
            if (number < s->count) return s;
        }
    }
    return NULL;
}

int add_register(parser *p, int bits)
{
    parsed *q = p->parsed;
    if (q->register_count == q->register_capacity) {
        q->register_capacity = q->register_capacity ? 2 * q->register_capacity : 1024;
        uint8_t *grown = realloc(q->register_bits, (size_t)q->register_capacity);
        if (!grown) abort();
        q->register_bits = grown;
    }
    q->register_bits[q->register_count] = (uint8_t)bits;
    return q->register_count++;
}

/* ---- declarations ------------------------------------------------------------------------------------------------------ */

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
static bool parse_registers(parser *p)
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

/* ---- operands ------------------------------------------------------------------------------------------------------------ */

static bool parse_operand(parser *p, raw *r);

/* A comma, or the end of the list ahead. */
static bool end_operand(parser *p, const char *end)
{
    if (lexer_take(&p->lex, ",")) return true;
    if (lexer_peek(&p->lex) == TOKEN_MARK && !strcmp(p->lex.text, end)) return true;
    return lexer_fail(&p->lex, "expected \",\" or \"%s\" before \"%.40s\"", end, p->lex.kind == TOKEN_MARK || p->lex.kind == TOKEN_WORD ? p->lex.text : "this");
}

static bool parse_items(parser *p, raw *r, const char *end)
{
    raw items[160];
    r->kind = RAW_VECTOR;
    while (!lexer_take(&p->lex, end)) {
        if (r->count == (int)(sizeof items / sizeof *items)) return lexer_fail(&p->lex, "a list this long is not known");
        if (!parse_operand(p, &items[r->count++]) || !end_operand(p, end)) return false;
    }
    r->items = parsed_allocate(p->parsed, sizeof items[0] * (size_t)(r->count + 1));
    memcpy(r->items, items, sizeof items[0] * (size_t)r->count);
    return true;
}

/* [base + displacement] or [base, {coordinates}] */
static bool parse_address(parser *p, raw *r)
{
    raw items[2] = {{0}, {0}};
    r->kind = RAW_ADDRESS;
    r->count = 1;
    if (!parse_operand(p, &items[0])) return false;
    if (items[0].kind == RAW_VARIABLE) r->value = items[0].value, items[0].value = 0;
    for (;;) {
        int64_t step = 0;
        if (lexer_take(&p->lex, "+")) {
            bool negative = lexer_take(&p->lex, "-");
            if (!lexer_integer(&p->lex, &step)) return false;
            r->value += negative ? -step : step;
        } else if (lexer_take(&p->lex, "-")) {
            if (!lexer_integer(&p->lex, &step)) return false;
            r->value -= step;
        } else {
            break;
        }
    }
    if (lexer_take(&p->lex, ",")) {
        r->count = 2;
        if (!parse_operand(p, &items[1])) return false;
    }
    r->items = parsed_allocate(p->parsed, sizeof items);
    memcpy(r->items, items, sizeof items);
    return lexer_expect(&p->lex, "]");
}

static bool parse_word(parser *p, raw *r)
{
    lexer *lex = &p->lex;
    int index;
    const symbol *s = find_symbol(p, lex->text, &index);
    if (!strcmp(lex->text, "_")) {
        r->kind = RAW_SINK;
    } else if (s && s->variable) {
        *r = (raw){.kind = RAW_VARIABLE, .variable = s->variable};
    } else if (s) {
        *r = (raw){.kind = RAW_REGISTER, .reg = s->first + index, .negated = r->negated};
    } else if (ptx_special_find(lex->text) >= 0) {
        *r = (raw){.kind = RAW_SPECIAL, .reg = ptx_special_find(lex->text)};
    } else if (lex->text[0] == '%') {
        return lexer_fail(lex, "%s is not declared", lex->text);
    } else if (!strcmp(lex->text, "WARP_SZ")) {
        *r = (raw){.kind = RAW_INTEGER, .value = LANES};
    } else {
        *r = (raw){.kind = RAW_NAME, .name = lexer_keep(lex)};
    }
    lexer_next(lex);
    int64_t addend;
    if (r->kind == RAW_VARIABLE && lexer_take(lex, "+")) {
        if (!lexer_integer(lex, &addend)) return false;
        r->value = addend;
    }
    return true;
}

static bool parse_operand(parser *p, raw *r)
{
    lexer *lex = &p->lex;
    *r = (raw){0};
    if (lexer_take(lex, "{")) return parse_items(p, r, "}");
    if (lexer_take(lex, "(")) return parse_items(p, r, ")");
    if (lexer_take(lex, "[")) return parse_address(p, r);
    r->negated = lexer_take(lex, "!");
    bool minus = lexer_take(lex, "-");
    if (lexer_peek(lex) == TOKEN_NUMBER) {
        static const raw_kind kinds[] = {[NUMBER_INTEGER] = RAW_INTEGER, [NUMBER_FLOAT] = RAW_FLOAT, [NUMBER_DOUBLE] = RAW_DOUBLE};
        r->kind = kinds[lex->number_kind];
        r->value = minus ? (int64_t)-(uint64_t)lex->number : lex->number;
        lexer_next(lex);
        return true;
    }
    if (lexer_peek(lex) != TOKEN_WORD) return lexer_fail(lex, "expected an operand");
    if (!parse_word(p, r)) return false;
    if (lexer_take(lex, "|")) {
        r->other = parsed_allocate(p->parsed, sizeof *r->other);
        return parse_operand(p, r->other);
    }
    return true;
}

/* ---- statements ----------------------------------------------------------------------------------------------------------- */

int open_scope(parser *p)
{
    parsed *q = p->parsed;
    int *grown = realloc(q->scope_parents, (size_t)(q->scope_count + 1) * sizeof *grown);
    if (!grown) abort();
    q->scope_parents = grown;
    q->scope_parents[q->scope_count] = p->scope;
    return p->scope = q->scope_count++;
}

static void close_scope(parser *p)
{
    while (p->symbol_count && p->symbols[p->symbol_count - 1].scope == p->scope) p->symbol_count--;
    p->scope = p->parsed->scope_parents[p->scope];
}

static label *add_label(parser *p, const char *name)
{
    parsed *q = p->parsed;
    label *grown = realloc(q->labels, (size_t)(q->label_count + 1) * sizeof *grown);
    if (!grown) abort();
    q->labels = grown;
    q->labels[q->label_count] = (label){.name = name, .scope = p->scope, .at = q->count};
    return &q->labels[q->label_count++];
}

static statement *add_statement(parser *p)
{
    parsed *q = p->parsed;
    if (q->count == q->capacity) {
        q->capacity = q->capacity ? 2 * q->capacity : 1024;
        statement *grown = realloc(q->statements, (size_t)q->capacity * sizeof *grown);
        if (!grown) abort();
        q->statements = grown;
    }
    statement *s = &q->statements[q->count++];
    *s = (statement){.guard = -1, .scope = p->scope, .file = p->file, .line = p->line, .location = p->location, .ptx_line = p->lex.line};
    return s;
}

static bool parse_instruction(parser *p)
{
    lexer *lex = &p->lex;
    statement *s = add_statement(p);
    int index = p->parsed->count - 1;
    if (lexer_take(lex, "@")) {
        raw guard;
        if (!parse_operand(p, &guard)) return false;
        if (guard.kind != RAW_REGISTER) return lexer_fail(lex, "a guard must be a predicate");
        s->guard = guard.reg;
        s->guard_negated = guard.negated;
    }
    if (lexer_peek(lex) != TOKEN_WORD) return lexer_fail(lex, "expected an instruction");
    s->opcode = lexer_keep(lex);
    p->parsed->calls |= !strncmp(s->opcode, "call", 4) && (!s->opcode[4] || s->opcode[4] == '.');
    lexer_next(lex);
    raw operands[24];
    int count = 0;
    while (!lexer_take(lex, ";")) {
        if (count == (int)(sizeof operands / sizeof *operands)) return lexer_fail(lex, "too many operands");
        if (!parse_operand(p, &operands[count++]) || !end_operand(p, ";")) return false;
    }
    s = &p->parsed->statements[index];
    s->operand_count = count;
    s->operands = parsed_allocate(p->parsed, (size_t)(count + 1) * sizeof *operands);
    memcpy(s->operands, operands, (size_t)count * sizeof *operands);
    return true;
}

/* name: or name: .branchtargets a, b; — the word was peeked. */
static bool parse_label(parser *p, const char *name)
{
    label *l = add_label(p, name);
    if (lexer_take(&p->lex, ".callprototype") || lexer_take(&p->lex, ".calltargets")) return lexer_skip_past(&p->lex, ";");
    if (!lexer_take(&p->lex, ".branchtargets")) return true;
    raw r = {0};
    if (!parse_items(p, &r, ";")) return false;
    l->targets = r.items;
    l->target_count = r.count;
    return true;
}

/* The newest location at this place: callers come before what is inlined into them. */
static int find_location(const sg_module *m, int64_t file, int64_t line, int64_t column)
{
    for (int l = m->location_count - 1; l >= 0; l--)
        if (m->locations[l].file == file && m->locations[l].line == line && m->locations[l].column == column) return l;
    return -1;
}

static int add_location(sg_module *m, struct ptx_location location)
{
    int last = m->location_count - 1;
    if (last >= 0 && !memcmp(&m->locations[last], &location, sizeof location)) return last;
    if (!(m->location_count & (m->location_count + 1))) {
        m->locations = realloc(m->locations, (size_t)(2 * m->location_count + 2) * sizeof *m->locations);
        if (!m->locations) abort();
    }
    m->locations[m->location_count] = location;
    return m->location_count++;
}

/* .loc file line column [, function_name label[+n], inlined_at file line column] */
static bool parse_location(parser *p)
{
    int64_t at[3], caller[3];
    lexer *lex = &p->lex;
    struct ptx_location location = {.caller = -1};
    for (int i = 0; i < 3; i++)
        if (!lexer_integer(lex, &at[i])) return false;
    if (lexer_take(lex, ",")) {
        while (!lexer_take(lex, "inlined_at")) {
            if (lexer_peek(lex) == TOKEN_END) return lexer_fail(lex, "expected inlined_at");
            lexer_next(lex);
        }
        for (int i = 0; i < 3; i++)
            if (!lexer_integer(lex, &caller[i])) return false;
        location.caller = find_location(p->module, caller[0], caller[1], caller[2]);
        if (location.caller < 0)
            location.caller = add_location(p->module, (struct ptx_location){(int)caller[0], (int)caller[1], (int)caller[2], -1});
    }
    if (at[1] <= 0) return true; /* code of no line belongs to the one before */
    p->file = location.file = (int)at[0], p->line = location.line = (int)at[1], location.column = (int)at[2];
    p->location = add_location(p->module, location);
    return true;
}

static bool parse_directive_in_body(parser *p)
{
    lexer *lex = &p->lex;
    if (lexer_take(lex, ".reg")) return parse_registers(p);
    if (lexer_take(lex, ".shared")) return parse_variables(p, SPACE_SHARED, false);
    if (lexer_take(lex, ".local")) return parse_variables(p, SPACE_LOCAL, false);
    if (lexer_take(lex, ".param")) return parse_variables(p, SPACE_PARAM, false);
    if (lexer_take(lex, ".loc")) return parse_location(p);
    if (lexer_take(lex, ".pragma")) return lexer_skip_past(lex, ";");
    return lexer_fail(lex, "the directive %s is not known here", lex->text);
}

bool parse_body(parser *p)
{
    lexer *lex = &p->lex;
    if (!lexer_expect(lex, "{")) return false;
    for (int depth = 1; depth;) {
        token t = lexer_peek(lex);
        if (t == TOKEN_END) return lexer_fail(lex, "the function does not end");
        if (lexer_take(lex, "{")) {
            open_scope(p);
            depth++;
        } else if (lexer_take(lex, "}")) {
            if (--depth) close_scope(p);
        } else if (lexer_take(lex, ";")) {
            /* an empty statement */
        } else if (t == TOKEN_WORD && lex->text[0] == '.') {
            if (!parse_directive_in_body(p)) return false;
        } else if (t == TOKEN_WORD && lexer_colon_follows(lex)) {
            const char *name = lexer_keep(lex);
            lexer_next(lex);
            lexer_next(lex);
            if (!parse_label(p, name)) return false;
        } else if (!parse_instruction(p)) {
            return false;
        }
    }
    return true;
}
