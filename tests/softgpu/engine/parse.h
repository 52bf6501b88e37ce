/* From PTX text to statements: names resolved to registers, variables and labels, opcodes and operands still as written. */
#ifndef SOFTGPU_ENGINE_PARSE_H
#define SOFTGPU_ENGINE_PARSE_H

#include "engine/ptx.h"

typedef enum raw_kind {
    RAW_REGISTER, RAW_INTEGER, RAW_FLOAT /* bits of an f32 */, RAW_DOUBLE, RAW_VARIABLE, RAW_SPECIAL, RAW_NAME /* a label or function */,
    RAW_SINK, RAW_VECTOR /* {…} and (…) */, RAW_ADDRESS /* items[0]: the base, items[1]: coordinates */
} raw_kind;

typedef struct raw {
    raw_kind kind;
    bool negated;
    int reg;                  /* RAW_REGISTER: number; RAW_SPECIAL: which */
    int64_t value;            /* integers, bits, displacements */
    ptx_variable *variable;
    const char *name;
    struct raw *items;
    int count;
    struct raw *other;        /* the q of p|q */
} raw;

typedef struct statement {
    const char *opcode;       /* "add.s32" */
    int guard;                /* register; -1 */
    bool guard_negated;
    raw *operands;
    int operand_count;
    int scope;                /* where its labels are looked up */
    int file, line, location, ptx_line;
    uint32_t unused;          /* bytes that a load reads for nothing, a bit each */
} statement;

typedef struct label {
    const char *name;
    int scope;
    int32_t at;
    raw *targets;             /* .branchtargets */
    int target_count;
} label;

/* All that a function's text says; lives in `memory` until its instructions are decoded. */
typedef struct parsed {
    struct arena_chunk *memory;
    statement *statements;
    int count, capacity;
    label *labels;
    int label_count;
    int *scope_parents;
    int scope_count;
    uint8_t *register_bits;
    int register_count, register_capacity;
    bool calls;
} parsed;

/* A device function's text, until all kernels are decoded. */
typedef struct routine {
    sg_function layout;       /* its name, frame and line numbers */
    parsed body;
    bool defined;
    int return_register;      /* of its own: the instruction to go on at */
    ptx_variable **results, **arguments, **variables; /* variables: all in the frame, parameters among them */
    int result_count, argument_count, variable_count;
    struct routine *next;
} routine;

/* Parses a module's text; each function is handed to ptx_decode at its end. False with a sentence that has the line. */
bool ptx_parse(sg_module *module, char *error, size_t bytes);

/* decode.c: turns statements, and those of the routines that they call, into the function's code. */
bool ptx_decode(sg_function *function, const parsed *parsed, const routine *routines, char *error, size_t bytes);
/* flow.c: gives every register its place in the register file and finds doubtful reads. The places, to be freed; UINT32_MAX: unused. */
uint32_t *ptx_place_registers(sg_function *function, const uint8_t *register_bits, int register_count);

void *parsed_allocate(parsed *p, size_t bytes); /* zeroed; ends the process where memory is out: test equipment */

#endif
