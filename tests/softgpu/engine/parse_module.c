/* Functions and what else a module has at its top. */
#include "engine/parser.h"

#include "engine/demangle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- functions and the module ----------------------------------------------------------------------------------------------- */

static bool parse_dimensions(parser *p, int dimensions[3])
{
    int64_t value;
    for (int i = 0; i < 3; i++) dimensions[i] = 1;
    for (int i = 0; i < 3; i++) {
        if (!lexer_integer(&p->lex, &value)) return false;
        dimensions[i] = (int)value;
        if (!lexer_take(&p->lex, ",")) break;
    }
    return true;
}

static bool parse_function_directives(parser *p, sg_function *f)
{
    lexer *lex = &p->lex;
    int d[3];
    for (;;) {
        if (lexer_take(lex, ".maxntid")) {
            if (!parse_dimensions(p, d)) return false;
            f->max_threads = d[0] * d[1] * d[2];
        } else if (lexer_take(lex, ".reqntid")) {
            if (!parse_dimensions(p, f->required_threads)) return false;
            f->max_threads = f->required_threads[0] * f->required_threads[1] * f->required_threads[2];
        } else if (lexer_take(lex, ".reqnctapercluster")) {
            if (!parse_dimensions(p, f->required_cluster)) return false;
        } else if (lexer_take(lex, ".minnctapersm") || lexer_take(lex, ".maxnreg") || lexer_take(lex, ".maxclusterrank") ||
                   lexer_take(lex, ".maxnctapersm")) {
            if (!parse_dimensions(p, d)) return false;
        } else if (lexer_take(lex, ".pragma")) {
            if (!lexer_skip_past(lex, ";")) return false;
        } else if (!lexer_take(lex, ".explicitcluster") && !lexer_take(lex, ".noreturn") && !lexer_take(lex, ".blocksareclusters")) {
            return true;
        }
    }
}

static void free_parsed(parsed *q)
{
    free(q->statements);
    free(q->labels);
    free(q->scope_parents);
    free(q->register_bits);
    lexer_arena_free(q->memory);
    *q = (parsed){0};
}

void *parsed_allocate(parsed *p, size_t bytes) { return lexer_arena_allocate(&p->memory, bytes); }

static bool parse_entry(parser *p, sg_function *f)
{
    lexer *lex = &p->lex;
    if (lexer_take(lex, "("))
        while (!lexer_take(lex, ")")) {
            if (!lexer_expect(lex, ".param") || !parse_variables(p, SPACE_PARAM, true)) return false;
            lexer_take(lex, ",");
        }
    return parse_function_directives(p, f) && parse_body(p);
}

/* From here on declarations and statements are the function's. */
static void begin_function(parser *p, sg_function *f, parsed *body)
{
    p->function = f;
    p->parsed = body;
    p->lex.keep = &body->memory;
    p->scope = -1;
    p->file = p->location = -1;
    open_scope(p);
}

static void end_function(parser *p, int symbols)
{
    p->symbol_count = symbols;
    p->function = NULL;
    p->routine = NULL;
    p->parsed = NULL;
    p->scope = 0;
}

static bool decode_kernel(parser *p, sg_function *f, const parsed *body)
{
    char reason[400];
    return ptx_decode(f, body, p->routines, reason, sizeof reason) || lexer_fail(&p->lex, "%s: %s", f->name, reason);
}

static bool parse_kernel(parser *p)
{
    if (lexer_peek(&p->lex) != TOKEN_WORD) return lexer_fail(&p->lex, "expected a function's name");
    sg_function *f = calloc(1, sizeof *f);
    struct kernel *k = calloc(1, sizeof *k);
    int symbols = p->symbol_count;
    if (!f || !k) abort();
    *f = (sg_function){.module = p->module, .name = strdup(p->lex.text), .display = demangled(p->lex.text), .max_threads = 1024,
                       .shared_align = 1, .next = p->module->functions};
    p->module->functions = f;
    *k = (struct kernel){.function = f, .next = p->kernels};
    lexer_next(&p->lex);
    begin_function(p, f, &k->body);
    bool done = parse_entry(p, f);
    end_function(p, symbols);
    if (done && k->body.calls) {
        p->kernels = k;
        return true;
    }
    done = done && decode_kernel(p, f, &k->body);
    free_parsed(&k->body);
    free(k);
    return done;
}

/* ---- device functions ------------------------------------------------------------------------------------------------------ */

static bool parse_formals(parser *p, ptx_variable ***list, int *count)
{
    lexer *lex = &p->lex;
    if (!lexer_take(lex, "(")) return true;
    while (!lexer_take(lex, ")")) {
        ptx_variable **grown = realloc(*list, (size_t)(*count + 1) * sizeof *grown);
        if (!grown) abort();
        *list = grown;
        if (!lexer_expect(lex, ".param") || !parse_variables(p, SPACE_PARAM, true)) return false;
        (*list)[(*count)++] = p->module->variables; /* the newest */
        lexer_take(lex, ",");
    }
    return true;
}

static bool parse_function_head(parser *p, routine *r)
{
    lexer *lex = &p->lex;
    r->return_register = add_register(p, 32);
    if (!parse_formals(p, &r->results, &r->result_count)) return false;
    if (lexer_peek(lex) != TOKEN_WORD) return lexer_fail(lex, "expected a function's name");
    r->layout.name = strdup(lex->text);
    if (!r->layout.name) abort();
    ptx_function_number(p->module, lex->text);
    lexer_next(lex);
    return parse_formals(p, &r->arguments, &r->argument_count) && parse_function_directives(p, &r->layout);
}

/* [(results)] name (arguments) and a body, or only announced. */
static bool parse_function(parser *p)
{
    routine *r = calloc(1, sizeof *r);
    int symbols = p->symbol_count;
    if (!r) abort();
    r->next = p->routines;
    p->routines = r;
    p->routine = r;
    begin_function(p, &r->layout, &r->body);
    bool done = parse_function_head(p, r);
    r->defined = done && !lexer_take(&p->lex, ";");
    done = done && (!r->defined || parse_body(p));
    end_function(p, symbols);
    return done;
}

static bool decode_waiting(parser *p)
{
    for (struct kernel *k = p->kernels; k; k = k->next)
        if (!decode_kernel(p, k->function, &k->body)) return false;
    return true;
}

static void free_waiting(parser *p)
{
    while (p->kernels) {
        struct kernel *next = p->kernels->next;
        free_parsed(&p->kernels->body);
        free(p->kernels);
        p->kernels = next;
    }
    while (p->routines) {
        routine *r = p->routines, *next = r->next;
        free_parsed(&r->body);
        free(r->results), free(r->arguments), free(r->variables), free(r->layout.name), free(r);
        p->routines = next;
    }
}

/* ---- the module ------------------------------------------------------------------------------------------------------------- */

static bool parse_file_name(parser *p)
{
    int64_t number;
    if (!lexer_integer(&p->lex, &number) || number < 0 || number > 65535) return lexer_fail(&p->lex, "expected a file's number");
    if (number >= p->module->file_count) {
        p->module->files = realloc(p->module->files, (size_t)(number + 1) * sizeof *p->module->files);
        if (!p->module->files) abort();
        for (int i = p->module->file_count; i <= number; i++) p->module->files[i] = NULL;
        p->module->file_count = (int)number + 1;
    }
    if (lexer_peek(&p->lex) != TOKEN_STRING) return lexer_fail(&p->lex, "expected a file's name");
    p->module->files[number] = counts_file(p->lex.text);
    lexer_next(&p->lex);
    while (lexer_take(&p->lex, ",")) { /* time and size */
        int64_t ignored;
        if (!lexer_integer(&p->lex, &ignored)) return false;
    }
    return true;
}

static bool parse_target(parser *p)
{
    do {
        if (lexer_peek(&p->lex) != TOKEN_WORD) return lexer_fail(&p->lex, "expected a target");
        if (!strncmp(p->lex.text, "sm_", 3)) p->module->target = atoi(p->lex.text + 3);
        lexer_next(&p->lex);
    } while (lexer_take(&p->lex, ","));
    return true;
}

static bool parse_module_item(parser *p)
{
    lexer *lex = &p->lex;
    if (lexer_take(lex, ".version") || lexer_take(lex, ".address_size")) return lexer_next(lex), true;
    if (lexer_take(lex, ".target")) return parse_target(p);
    if (lexer_take(lex, ".file")) return parse_file_name(p);
    if (lexer_take(lex, ".section")) {
        while (lexer_peek(lex) != TOKEN_END && !lexer_take(lex, "{")) lexer_next(lex);
        return lexer_skip_block(lex);
    }
    if (lexer_take(lex, ".visible") || lexer_take(lex, ".extern") || lexer_take(lex, ".weak") || lexer_take(lex, ".common") || lexer_take(lex, ";"))
        return true;
    if (lexer_take(lex, ".entry")) return parse_kernel(p);
    if (lexer_take(lex, ".func")) return parse_function(p);
    if (lexer_take(lex, ".global")) return parse_variables(p, SPACE_GLOBAL, false);
    if (lexer_take(lex, ".const")) return parse_variables(p, SPACE_CONST, false);
    if (lexer_take(lex, ".shared")) return parse_variables(p, SPACE_SHARED, false);
    if (lexer_take(lex, ".pragma") || lexer_take(lex, ".alias")) return lexer_skip_past(lex, ";");
    return lexer_fail(lex, "\"%s\" is not known at module level", lex->text);
}

bool ptx_parse(sg_module *module, char *error, size_t bytes)
{
    parser *p = calloc(1, sizeof *p);
    struct arena_chunk *names = NULL;
    if (!p) abort();
    p->module = module;
    lexer_begin(&p->lex, module->text, error, bytes);
    p->lex.keep = &names;
    bool done = true;
    while (done && lexer_peek(&p->lex) != TOKEN_END) {
        done = parse_module_item(p);
        p->lex.keep = &names;
    }
    done = done && !p->lex.failed && decode_waiting(p);
    free_waiting(p);
    lexer_arena_free(names);
    free(p);
    return done;
}
