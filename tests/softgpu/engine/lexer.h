/* Words, numbers, strings and marks of PTX text, one token ahead. */
#ifndef SOFTGPU_ENGINE_LEXER_H
#define SOFTGPU_ENGINE_LEXER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum token { TOKEN_END, TOKEN_WORD, TOKEN_NUMBER, TOKEN_STRING, TOKEN_MARK } token;
typedef enum number_kind { NUMBER_INTEGER, NUMBER_FLOAT, NUMBER_DOUBLE } number_kind;

typedef struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    char bytes[];
} arena_chunk;

typedef struct lexer {
    const char *at;          /* behind the present token */
    const char *start;       /* of the present token */
    int line;
    token kind;
    bool have;               /* a token was read and not taken */
    char text[1024];         /* of a word, string or mark */
    int64_t number;          /* integers; bits of floats */
    number_kind number_kind;
    bool failed;
    char *error;
    size_t error_bytes;
    arena_chunk **keep;      /* where kept words go */
} lexer;

void lexer_begin(lexer *lex, const char *text, char *error, size_t bytes);
token lexer_peek(lexer *lex);
void lexer_next(lexer *lex);
/* Takes the present token if it is this word or mark. */
bool lexer_take(lexer *lex, const char *text);
bool lexer_expect(lexer *lex, const char *text);
bool lexer_integer(lexer *lex, int64_t *value);
/* Whether ':' (and not '::') comes behind the present word. */
bool lexer_colon_follows(lexer *lex);
bool lexer_skip_past(lexer *lex, const char *text);
bool lexer_skip_block(lexer *lex); /* behind its { */
const char *lexer_keep(lexer *lex); /* a copy of the present word */
/* Records the first sentence, with the line; false, for returning. After it everything reads as the end. */
bool lexer_fail(lexer *lex, const char *format, ...) __attribute__((format(printf, 2, 3)));

void *lexer_arena_allocate(arena_chunk **arena, size_t bytes); /* zeroed */
void lexer_arena_free(arena_chunk *arena);

float sg_bits_float_of(int64_t bits);

#endif
