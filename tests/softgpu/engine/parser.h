/* The parser's state, shared by parse.c (symbols, bodies), parse_variables.c, parse_operand.c and parse_module.c (functions, the module). */
#ifndef SOFTGPU_ENGINE_PARSER_H
#define SOFTGPU_ENGINE_PARSER_H

#include "engine/lexer.h"
#include "engine/parse.h"

typedef struct symbol {
    const char *name;
    int scope;
    int first, count;         /* registers: `count` of them, named name0, name1 …; count 0: one, named name */
    ptx_variable *variable;   /* not a register */
} symbol;

typedef struct parser {
    lexer lex;
    sg_module *module;
    sg_function *function;    /* NULL at module level */
    routine *routine;         /* the device function that is being read; NULL in a kernel */
    routine *routines;        /* all of the module */
    struct kernel {           /* those that call, until all routines are known */
        sg_function *function;
        parsed body;
        struct kernel *next;
    } *kernels;
    parsed *parsed;
    symbol symbols[4096];
    int symbol_count;
    int scope;
    int file, line, location; /* of the last .loc */
    uint32_t unused;          /* of the instruction that follows */
} parser;

bool add_symbol(parser *p, symbol s);
/* The newest declaration of a name; scopes that were left have taken theirs along. `index`: which of a range of registers. */
const symbol *find_symbol(const parser *p, const char *name, int *index);
int add_register(parser *p, int bits);
bool parse_registers(parser *p);
bool parse_operand(parser *p, raw *r);
bool parse_items(parser *p, raw *r, const char *end);
bool end_operand(parser *p, const char *end);
/* The rest of a declaration behind its state space; a parameter has no semicolon. */
bool parse_variables(parser *p, ptx_space space, bool parameter);
bool parse_body(parser *p);
int open_scope(parser *p);

#endif
