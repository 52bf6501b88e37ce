/* PTX as the executor runs it: modules, functions, and instructions whose operands are places in a warp's register file. Parsing
   (lexer.c, parse.c) makes statements, decoding (decode.c) finds each one's row in the tables of ops_*.c and fixes its operands,
   flow.c gives registers their places. All of it happens once a module; nothing here changes while kernels run. */
#ifndef SOFTGPU_ENGINE_PTX_H
#define SOFTGPU_ENGINE_PTX_H

#include "engine/counts.h"

enum { LANES = 32 };

typedef struct warp warp; /* warp.h */
typedef struct insn insn;

/* ---- types and modifiers ------------------------------------------------------------------------------------------ */

typedef enum ptx_type {
    T_NONE, T_PRED, T_B8, T_B16, T_B32, T_B64, T_B128, T_U8, T_U16, T_U32, T_U64, T_S8, T_S16, T_S32, T_S64, T_F16, T_F16X2, T_BF16,
    T_BF16X2, T_F32, T_F32X2, T_F64, T_TF32, T_E4M3, T_E5M2, T_E4M3X2, T_E5M2X2, T_S4, T_U4, T_B1, T_U8X4, T_S8X4, T_U16X2, T_S16X2,
    PTX_TYPES
} ptx_type;

int ptx_type_bits(ptx_type type); /* of a register that holds it; T_PRED: 1 */

typedef enum ptx_space {
    SPACE_GENERIC, SPACE_GLOBAL, SPACE_SHARED, SPACE_CLUSTER /* shared::cluster */, SPACE_LOCAL, SPACE_PARAM, SPACE_CONST
} ptx_space;

/* Words of an opcode that are yes or no. */
enum {
    F_SAT = 1 << 0, F_FTZ = 1 << 1, F_CC = 1 << 2, F_HI = 1 << 3, F_LO = 1 << 4, F_WIDE = 1 << 5, F_NAN = 1 << 6, F_XORSIGN = 1 << 7,
    F_ABS = 1 << 8, F_RELU = 1 << 9, F_SATFINITE = 1 << 10, F_UNI = 1 << 11, F_ALIGNED = 1 << 12, F_APPROX = 1 << 13, F_FULL = 1 << 14,
    F_TO = 1 << 15, F_TRANS = 1 << 16, F_ROW = 1 << 17, F_COL = 1 << 18, F_SYNC = 1 << 19, F_SHIFTAMT = 1 << 20, F_WRAP = 1 << 21,
    F_CLAMP = 1 << 22, F_LEFT = 1 << 23, F_RIGHT = 1 << 24, F_NC = 1 << 25, F_NOINC = 1 << 26, F_PARITY = 1 << 27, F_MULTICAST = 1 << 28,
    F_READ = 1 << 29, F_NOFTZ = 1 << 30
};

/* Words that choose one of several: comparisons, operations of atom, set, vote, shfl, prmt, testp … in i->op, and, where there are two
   (setp.lt.and), the second in i->op2. */
typedef enum ptx_word {
    W_NONE, W_EQ, W_NE, W_LT, W_LE, W_GT, W_GE, W_LO, W_LS, W_HI, W_HS, W_EQU, W_NEU, W_LTU, W_LEU, W_GTU, W_GEU, W_NUM, W_NAN,
    W_ADD, W_MIN, W_MAX, W_AND, W_OR, W_XOR, W_INC, W_DEC, W_EXCH, W_CAS, W_POPC,
    W_UP, W_DOWN, W_BFLY, W_IDX, W_ALL, W_ANY, W_BALLOT, W_UNI,
    W_F4E, W_B4E, W_RC8, W_ECL, W_ECR, W_RC16,
    W_FINITE, W_INFINITE, W_NUMBER, W_NOTANUMBER, W_NORMAL, W_SUBNORMAL,
    W_ARRIVE, W_RED, W_TX /* complete_tx::bytes */
} ptx_word;

typedef enum ptx_round { R_NONE, R_RN, R_RZ, R_RM, R_RP, R_RNA, R_RNI, R_RZI, R_RMI, R_RPI } ptx_round;
typedef enum ptx_order { ORDER_WEAK, ORDER_VOLATILE, ORDER_RELAXED, ORDER_ACQUIRE, ORDER_RELEASE, ORDER_ACQ_REL, ORDER_SC } ptx_order;
typedef enum ptx_scope { SCOPE_NONE, SCOPE_CTA, SCOPE_CLUSTER, SCOPE_GPU, SCOPE_SYS } ptx_scope;

/* ---- instructions --------------------------------------------------------------------------------------------------- */

/* A register, or a constant (all lanes alike). Registers of up to 32 bits are uint32_t[LANES], narrow ones zero-extended; 64 bits:
   uint64_t[LANES]; 128: uint64_t[2][LANES], low halves first; predicates: one uint32_t, a bit a lane. */
typedef struct operand {
    uint32_t offset;  /* bytes into the warp's registers, or into the function's constants */
    int32_t reg;      /* while decoding: the function's number of the register; then of its mark, see doubtful; -1: a constant */
    uint8_t constant; /* index of its base: 0 registers, 1 constants */
    uint8_t bits;
    uint8_t negated;  /* !p */
    uint8_t doubtful; /* of a source: no write precedes on some path, so its mark is checked; of a result: its mark is kept */
} operand;

typedef void ptx_exec(warp *w, const insn *i, uint32_t mask);

/* One kind of instruction; the tables of ops_*.c are lists of these. The first row that matches is taken.
   name      the opcode's leading words: "add", "cp.async.commit_group".
   types     its type words in order, alternatives by '|': "u32|s32", "f32.s32"; "" for none; "*" for any.
   flags     which F_… words may occur.
   words     which other words the row knows, so that the rest is refused: 'c' a comparison or operation (op, op2), 'r' rounding,
             's' space, 'o' order and scope, 'v' vector, 'm' shape and count, 't' what all tensor copies here are: tile, bulk_group.
   operands  space-separated: d result, s source, b both, p predicate result, q predicate source, a address, i integer constant, l label. Behind
             the letter: a digit: of type that many in the opcode (0 if absent); "+": twice the type's width; "=N": N bits; "~": at least the
             type's width. "?": this one and the rest may be missing. d and s take vectors too. */
typedef struct ptx_row {
    const char *name, *types;
    uint32_t flags;
    const char *words, *operands;
    pipe pipe;
    int flops; /* of a lane */
    ptx_exec *exec;
    /* Checks what the row cannot say, and may set i->exec, i->data, i->tensor_flops; false with a sentence. NULL: nothing. */
    bool (*finish)(insn *i, char *error, size_t bytes);
} ptx_row;

/* A call: whom, and where the arguments lie in the caller's frame (call.c). */
typedef struct ptx_call {
    int callee;                /* index in the function's callees; -1: whom the first source points to */
    ptx_exec *builtin;         /* instead: what the device's library does */
    uint32_t frame_bytes;      /* of the caller */
    bool again;                /* may come back to the caller's function: its registers are put aside */
    int result_count, argument_count;
    struct ptx_slot {
        int32_t offset, bytes; /* in the frame */
    } *results, *arguments;
} ptx_call;

/* A device function that some kernel calls, in that kernel's code. */
typedef struct ptx_callee {
    const char *name;
    uint64_t handle;           /* what a pointer to it is */
    int32_t entry;             /* its first instruction */
    uint32_t frame_bytes;
    int result_count, argument_count, variable_count;
    struct ptx_slot *results, *arguments;
    int32_t *variables;        /* frame offsets, in the order of the registers that hold their addresses */
} ptx_callee;

struct insn {
    ptx_exec *exec;
    const operand *d, *s;     /* results and sources, vectors laid flat */
    operand guard;            /* reg -1: none */
    uint16_t d_count, s_count;
    uint16_t vector;          /* elements of .v2 .v4 .v8 and .x1 .x2 .x4; 1 */
    uint8_t type[4], type_count;
    uint8_t op, op2, round, order, scope, space, space2;
    bool ends;                /* nothing runs on behind it: ret, exit, an unguarded bra */
    bool returns;             /* ret of a device function: targets are all places behind its calls */
    int callee;               /* whose ret */
    ptx_call *call;           /* of a call */
    bool copies;              /* a mov: passes doubt on instead of raising it */
    bool chooses;             /* selp: of its first two sources it reads the one that the third chooses */
    bool speculates;          /* a load of local memory whose value is only chosen from: that it was written is asked there */
    bool holds;               /* its registers stay its own until it is waited for; its first sources are its results' old values */
    bool doubts, marks;       /* some source, some result is doubtful */
    uint32_t flags;
    int shape[3];             /* m16n8k16 */
    int64_t offset[3];        /* displacements of the address operands, in order */
    int64_t imm[4];           /* operands 'i' in order */
    int32_t target;           /* of a branch; -1 */
    const int32_t *targets;   /* brx.idx */
    int32_t target_count;
    const void *data;         /* the row's own: an sg_mma, the words of a lop3 */
    int64_t tensor_flops;
    uint32_t unused;          /* bytes that a load reads for nothing, a bit each */
    const ptx_row *row;       /* NULL: unknown; running it is an error */
    int file, line;           /* of the source; file -1: unknown */
    int location;             /* in the module's locations; -1 */
    int ptx_line;
    const char *text;         /* the opcode */
};

typedef struct ptx_variable {
    char *name;
    ptx_space space;
    int64_t offset, bytes, align; /* in the function's shared, local or parameter memory; bytes 0: extern shared */
    bool managed;
    bool by_kernel;           /* shared memory that each kernel which uses it finds a place for */
    int frame_register;       /* device functions: the register of their own that holds its address; -1 */
    uint8_t *initial;         /* module variables: their bytes, NULL for zeros */
    struct ptx_fixup {        /* addresses of other variables inside them */
        int64_t at, addend;
        char *name;
        bool generic;
        struct ptx_fixup *next;
    } *fixups;
    struct ptx_instance {     /* on a device */
        sg_device *device;
        uint64_t address;
        struct ptx_instance *next;
    } *instances;
    struct ptx_variable *next;
} ptx_variable;

/* Constants that hold a module variable's address, known once there is a device. */
typedef struct ptx_relocation {
    uint32_t offset;
    ptx_variable *variable;
    int64_t addend;
    uint8_t bits;
} ptx_relocation;

struct sg_function {
    sg_module *module;
    char *name, *display;           /* as the module has it; as people read it */
    insn *code;
    int32_t length;                 /* code[length - 1] is always an exit */
    operand *operands;
    uint8_t *constants;
    uint32_t constant_bytes;
    ptx_relocation *relocations;
    int relocation_count;
    uint32_t register_bytes;        /* of a warp's register file */
    bool multiplies;                /* has wgmma */
    int mark_count;                 /* registers whose written lanes are kept track of */
    struct ptx_special {            /* %tid.x …: registers filled when a block begins, or copied when read */
        uint8_t which;
        uint32_t offset;
    } *specials;
    int special_count;
    int32_t *parameter_offsets, *parameter_bytes;
    int parameter_count;
    int64_t parameter_total;
    int64_t static_shared, shared_align;
    int64_t local_bytes;            /* its own frame and those of all that it calls */
    ptx_callee *callees;
    int callee_count;
    operand *put_aside;             /* registers of callees, kept over a recursive call */
    int put_aside_count;
    int max_threads, required_threads[3], required_cluster[3];
    sg_resources resources;
    bool have_resources;
    struct sg_function *next;
};

typedef struct opcode_cache opcode_cache; /* opcode.h */

struct sg_module {
    char *text;                     /* the PTX, NUL-terminated */
    int target;
    const char **files;             /* by .file number, NULL where unnamed */
    int file_count;
    struct ptx_location {           /* .loc: a place, and where the function that it lies in was inlined */
        int file, line, column;
        int caller;                 /* another location; -1: none */
    } *locations;
    int location_count;
    ptx_variable *variables;
    sg_function *functions;
    opcode_cache *opcodes;          /* what each opcode's text means; instructions point into it */
    struct ptx_device_function {    /* .func, numbered from 1 */
        char *name;
        int number;
        struct ptx_device_function *next;
    } *device_functions;
};

/* Pointers to device functions: their number, far from any memory. */
#define FUNCTION_WINDOW UINT64_C(0x0400000000)
static inline uint64_t ptx_function_handle(int number) { return FUNCTION_WINDOW + 16 * (uint64_t)number; }
/* The number of a device function, given at first use. */
int ptx_function_number(sg_module *module, const char *name);
/* 0: nothing of that name is known. */
int ptx_function_find(const sg_module *module, const char *name);

/* ---- special registers: %tid.x and its like ---------------------------------------------------------------------------- */

typedef enum ptx_special_register {
    SPECIAL_TID_X, SPECIAL_TID_Y, SPECIAL_TID_Z, SPECIAL_NTID_X, SPECIAL_NTID_Y, SPECIAL_NTID_Z, SPECIAL_CTAID_X, SPECIAL_CTAID_Y, SPECIAL_CTAID_Z,
    SPECIAL_NCTAID_X, SPECIAL_NCTAID_Y, SPECIAL_NCTAID_Z, SPECIAL_LANEID, SPECIAL_WARPID, SPECIAL_NWARPID, SPECIAL_SMID, SPECIAL_NSMID,
    SPECIAL_GRIDID, SPECIAL_LANEMASK_EQ, SPECIAL_LANEMASK_LE, SPECIAL_LANEMASK_LT, SPECIAL_LANEMASK_GE, SPECIAL_LANEMASK_GT,
    SPECIAL_CLUSTERID_X, SPECIAL_CLUSTERID_Y, SPECIAL_CLUSTERID_Z, SPECIAL_NCLUSTERID_X, SPECIAL_NCLUSTERID_Y, SPECIAL_NCLUSTERID_Z,
    SPECIAL_CLUSTER_CTAID_X, SPECIAL_CLUSTER_CTAID_Y, SPECIAL_CLUSTER_CTAID_Z, SPECIAL_CLUSTER_NCTAID_X, SPECIAL_CLUSTER_NCTAID_Y,
    SPECIAL_CLUSTER_NCTAID_Z, SPECIAL_CLUSTER_CTARANK, SPECIAL_CLUSTER_NCTARANK, SPECIAL_DYNAMIC_SMEM_SIZE, SPECIAL_TOTAL_SMEM_SIZE, SPECIAL_ENVREG1, SPECIAL_ENVREG2,
    SPECIAL_RESERVED_BEGIN, SPECIAL_RESERVED_END, SPECIAL_RESERVED_CAP, SPECIAL_RESERVED_0, SPECIAL_RESERVED_1,
    SPECIAL_CLOCK, SPECIAL_CLOCK_HI, SPECIAL_CLOCK64, SPECIAL_GLOBALTIMER, SPECIALS
} ptx_special_register;

/* -1: no such register. */
int ptx_special_find(const char *name);
int ptx_special_bits(int which);
/* Changes while a block runs: read by an instruction of its own. */
static inline bool ptx_special_moves(int which) { return which >= SPECIAL_CLOCK; }

/* ---- the tables ------------------------------------------------------------------------------------------------------- */

/* NULL past the last. */
const ptx_row *ptx_table(int index);
/* Each ops_*.c holds one, ended by a row without a name. */
extern const ptx_row ptx_integer_rows[], ptx_bits_rows[], ptx_logic_rows[], ptx_move_rows[], ptx_compare_rows[], ptx_float_rows[],
    ptx_double_rows[], ptx_approx_rows[], ptx_half_rows[], ptx_convert_rows[], ptx_memory_rows[], ptx_atomic_rows[],
    ptx_async_rows[], ptx_warp_rows[], ptx_matrix_rows[], ptx_barrier_rows[], ptx_control_rows[], ptx_mbarrier_rows[],
    ptx_bulk_rows[], ptx_tensor_rows[], ptx_wmma_rows[], ptx_wgmma_rows[], ptx_cluster_rows[];

#endif
