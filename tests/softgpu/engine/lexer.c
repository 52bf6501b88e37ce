#include "engine/lexer.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 16 };

void *lexer_arena_allocate(arena_chunk **arena, size_t bytes)
{
    bytes = (bytes + 15) / 16 * 16;
    if (!*arena || (*arena)->size - (*arena)->used < bytes) {
        size_t size = bytes > CHUNK ? bytes : CHUNK;
        arena_chunk *chunk = calloc(1, sizeof *chunk + size + 16);
        if (!chunk) abort();
        *chunk = (arena_chunk){.next = *arena, .size = size};
        *arena = chunk;
    }
    void *at = (*arena)->bytes + (*arena)->used;
    (*arena)->used += bytes;
    return at;
}

void lexer_arena_free(arena_chunk *arena)
{
    while (arena) {
        arena_chunk *next = arena->next;
        free(arena);
        arena = next;
    }
}

float sg_bits_float_of(int64_t bits)
{
    uint32_t word = (uint32_t)bits;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

void lexer_begin(lexer *lex, const char *text, char *error, size_t bytes)
{
    *lex = (lexer){.at = text, .start = text, .line = 1, .error = error, .error_bytes = bytes};
}

bool lexer_fail(lexer *lex, const char *format, ...)
{
    char text[800];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (!lex->failed) snprintf(lex->error, lex->error_bytes, "line %d: %s", lex->line, text);
    lex->failed = true;
    lex->have = true;
    lex->kind = TOKEN_END;
    return false;
}

static void skip_space(lexer *lex)
{
    for (;; lex->at++) {
        if (*lex->at == '\n') {
            lex->line++;
        } else if (lex->at[0] == '/' && lex->at[1] == '/') {
            lex->at += strcspn(lex->at, "\n") - 1;
        } else if (lex->at[0] == '/' && lex->at[1] == '*') {
            const char *end = strstr(lex->at + 2, "*/");
            for (const char *c = lex->at; end && c < end; c++) lex->line += *c == '\n';
            lex->at = end ? end + 1 : lex->at + strlen(lex->at) - 1;
        } else if (!isspace((unsigned char)*lex->at)) {
            return;
        }
    }
}

static bool word_start(int c) { return isalpha(c) || c == '_' || c == '$' || c == '%' || c == '.'; }

static void read_word(lexer *lex)
{
    const char *end = lex->at + 1;
    const bool directive = *lex->at == '.'; /* .reg.b16 is two */
    /* "::" belongs to words like shared::cta; a single ':' ends a label. */
    while (isalnum((unsigned char)*end) || *end == '_' || *end == '$' || (*end == '.' && !directive) || *end == '%' ||
           (end[0] == ':' && end[1] == ':') || (end[0] == ':' && end[-1] == ':'))
        end++;
    size_t length = (size_t)(end - lex->at);
    if (length >= sizeof lex->text) {
        lexer_fail(lex, "a name that is too long");
        return;
    }
    memcpy(lex->text, lex->at, length);
    lex->text[length] = 0;
    lex->at = end;
    lex->kind = TOKEN_WORD;
}

static void read_number(lexer *lex)
{
    char *end;
    lex->kind = TOKEN_NUMBER;
    lex->number_kind = NUMBER_INTEGER;
    if (lex->at[0] == '0' && (lex->at[1] == 'f' || lex->at[1] == 'F')) {
        lex->number_kind = NUMBER_FLOAT;
        lex->number = (int64_t)strtoull(lex->at + 2, &end, 16);
    } else if (lex->at[0] == '0' && (lex->at[1] == 'd' || lex->at[1] == 'D')) {
        lex->number_kind = NUMBER_DOUBLE;
        lex->number = (int64_t)strtoull(lex->at + 2, &end, 16);
    } else if (lex->at[0] == '0' && (lex->at[1] == 'b' || lex->at[1] == 'B')) {
        lex->number = (int64_t)strtoull(lex->at + 2, &end, 2);
    } else {
        lex->number = (int64_t)strtoull(lex->at, &end, 0);
        if (*end == '.' || ((*end == 'e' || *end == 'E') && isdigit((unsigned char)end[1]))) {
            double value = strtod(lex->at, &end);
            memcpy(&lex->number, &value, sizeof value);
            lex->number_kind = NUMBER_DOUBLE;
        }
    }
    if (*end == 'U') end++;
    lex->at = end;
}

static void read_string(lexer *lex)
{
    size_t length = strcspn(lex->at + 1, "\"\n");
    if (length >= sizeof lex->text || lex->at[1 + length] != '"') {
        lexer_fail(lex, "a string that does not end");
        return;
    }
    memcpy(lex->text, lex->at + 1, length);
    lex->text[length] = 0;
    lex->at += length + 2;
    lex->kind = TOKEN_STRING;
}

token lexer_peek(lexer *lex)
{
    if (lex->have) return lex->kind;
    skip_space(lex);
    lex->have = true;
    lex->start = lex->at;
    int c = (unsigned char)*lex->at;
    if (!c)
        lex->kind = TOKEN_END;
    else if (word_start(c))
        read_word(lex);
    else if (isdigit(c))
        read_number(lex);
    else if (c == '"')
        read_string(lex);
    else {
        lex->kind = TOKEN_MARK;
        lex->text[0] = (char)c;
        lex->text[1] = 0;
        lex->at++;
    }
    return lex->kind;
}

void lexer_next(lexer *lex)
{
    lexer_peek(lex);
    if (!lex->failed) lex->have = false;
}

bool lexer_take(lexer *lex, const char *text)
{
    token t = lexer_peek(lex);
    if ((t != TOKEN_WORD && t != TOKEN_MARK) || strcmp(lex->text, text)) return false;
    lexer_next(lex);
    return true;
}

bool lexer_expect(lexer *lex, const char *text)
{
    if (lexer_take(lex, text)) return true;
    lexer_peek(lex);
    return lexer_fail(lex, "expected \"%s\" before \"%.40s\"", text, lex->kind == TOKEN_END ? "the end" : lex->text);
}

bool lexer_integer(lexer *lex, int64_t *value)
{
    if (lexer_peek(lex) != TOKEN_NUMBER || lex->number_kind != NUMBER_INTEGER) return lexer_fail(lex, "expected a number");
    *value = lex->number;
    lexer_next(lex);
    return true;
}

bool lexer_colon_follows(lexer *lex)
{
    lexer_peek(lex);
    const char *at = lex->at + strspn(lex->at, " \t");
    return at[0] == ':' && at[1] != ':';
}

bool lexer_skip_past(lexer *lex, const char *text)
{
    while (!lexer_take(lex, text)) {
        if (lexer_peek(lex) == TOKEN_END) return lexer_fail(lex, "expected \"%s\"", text);
        lexer_next(lex);
    }
    return true;
}

bool lexer_skip_block(lexer *lex)
{
    for (int depth = 1; depth;) {
        if (lexer_peek(lex) == TOKEN_END) return lexer_fail(lex, "a block does not end");
        if (lexer_take(lex, "{"))
            depth++;
        else if (lexer_take(lex, "}"))
            depth--;
        else
            lexer_next(lex);
    }
    return true;
}

const char *lexer_keep(lexer *lex)
{
    char *copy = lexer_arena_allocate(lex->keep, strlen(lex->text) + 1);
    return strcpy(copy, lex->text);
}
