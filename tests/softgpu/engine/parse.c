/* A recursive-descent reader of PTX as nvcc and people in asm() write it: symbols and bodies. What follows a syntax error is not read. */
#include "engine/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- symbols --------------------------------------------------------------------------------------------------------- */

bool add_symbol(parser *p, symbol s)
{
    if (p->symbol_count == (int)(sizeof p->symbols / sizeof *p->symbols)) return lexer_fail(&p->lex, "too many declarations");
    p->symbols[p->symbol_count++] = s;
    return true;
}

const symbol *find_symbol(const parser *p, const char *name, int *index)
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
    *s = (statement){.guard = -1, .scope = p->scope, .file = p->file, .line = p->line, .location = p->location, .ptx_line = p->lex.line, .unused = p->unused};
    p->unused = 0;
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

/* "used_bytes_mask N": the load that follows is wider than what is used of it, a padding's bytes say. */
static bool parse_pragma(parser *p)
{
    static const char used[] = "used_bytes_mask ";
    lexer *lex = &p->lex;
    if (lexer_peek(lex) == TOKEN_STRING && !strncmp(lex->text, used, sizeof used - 1))
        p->unused = ~(uint32_t)strtoul(lex->text + sizeof used - 1, NULL, 0);
    return lexer_skip_past(lex, ";");
}

static bool parse_directive_in_body(parser *p)
{
    lexer *lex = &p->lex;
    if (lexer_take(lex, ".reg")) return parse_registers(p);
    if (lexer_take(lex, ".shared")) return parse_variables(p, SPACE_SHARED, false);
    if (lexer_take(lex, ".local")) return parse_variables(p, SPACE_LOCAL, false);
    if (lexer_take(lex, ".param")) return parse_variables(p, SPACE_PARAM, false);
    if (lexer_take(lex, ".loc")) return parse_location(p);
    if (lexer_take(lex, ".pragma")) return parse_pragma(p);
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
