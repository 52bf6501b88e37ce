/* The state of decoding one kernel, shared by decode.c (statements), decode_operand.c and link.c (calls). */
#ifndef SOFTGPU_ENGINE_DECODE_H
#define SOFTGPU_ENGINE_DECODE_H

#include "engine/opcode.h"
#include "engine/parse.h"

/* A piece of the kernel's code that was a function in the text. */
typedef struct segment {
    const routine *routine;   /* NULL: the kernel */
    const parsed *body;
    int registers;            /* the number of its first register */
    int32_t code;             /* its first instruction */
    uint32_t frame_bytes;
} segment;

enum { SOURCES_MOST = 320 };

typedef struct decoder {
    sg_function *function;
    segment *segments;        /* the kernel, then the routines that it needs */
    int segment_count;
    const segment *now;       /* the one that is being decoded */
    insn *i;
    operand d[SOURCES_MOST], s[SOURCES_MOST];
    int d_count, s_count, addresses;
    operand *pool;            /* of all instructions so far */
    int pool_count, pool_capacity;
    int32_t *starts;          /* of each instruction's operands in the pool */
    struct constant_key {
        uint64_t value;
        uint32_t offset;
        int bits;
    } *constants;
    int constant_count;
    uint32_t constant_capacity;
    struct shared_place {     /* of shared memory declared outside kernels */
        const ptx_variable *variable;
        int64_t offset;
    } *shared;
    int shared_count;
    char *error;
    size_t error_bytes;
} decoder;

bool decode_fail(decoder *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* How wide an operand must be: exactly `bits`, or at least; 0: any. */
typedef struct width {
    int bits;
    bool at_least;
} width;
/* Each takes an operand as it is written: a source or, as `result`, a target; false after a failure. */
bool add_scalar(decoder *d, const raw *r, width w, ptx_type type, bool result, operand *list, int *count);
bool add_operand(decoder *d, const raw *r, width w, ptx_type type, bool result);
bool add_address(decoder *d, const raw *r);
bool set_label(decoder *d, const raw *r, int scope);

/* Finds the routines that a kernel needs, directly or through others. */
void link_segments(decoder *d, const parsed *kernel, const routine *routines);
/* A call: its operands, its targets, where its arguments lie. */
bool link_call(decoder *d, const statement *s);
void link_return(decoder *d);
/* When all is decoded: where rets go to, how much frame memory a thread needs, which calls are recursive. */
void link_finish(decoder *d);
/* When registers have their places: which ones recursive calls must keep. */
void link_put_aside(decoder *d, const uint32_t *places, const uint8_t *register_bits);

/* What the device's own library does for vprintf and the like (builtin.c); NULL: it does not know the name. */
ptx_exec *ptx_builtin(const char *name);
extern ptx_exec call_device_function, return_to_caller, call_nobody; /* call.c */

#endif
