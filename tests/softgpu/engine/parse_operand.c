/* Operands as written: registers, numbers, names, vectors and addresses. */
#include "engine/parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A comma, or the end of the list ahead. */
bool end_operand(parser *p, const char *end)
{
    if (lexer_take(&p->lex, ",")) return true;
    if (lexer_peek(&p->lex) == TOKEN_MARK && !strcmp(p->lex.text, end)) return true;
    return lexer_fail(&p->lex, "expected \",\" or \"%s\" before \"%.40s\"", end, p->lex.kind == TOKEN_MARK || p->lex.kind == TOKEN_WORD ? p->lex.text : "this");
}

bool parse_items(parser *p, raw *r, const char *end)
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

bool parse_operand(parser *p, raw *r)
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
