/* A running launch: grid, blocks, warps, and what instructions may do to them. Blocks belong to a host thread, a worker; everything below
   `launch` is that thread's alone. */
#ifndef SOFTGPU_ENGINE_WARP_H
#define SOFTGPU_ENGINE_WARP_H

#include "engine/memory.h"
#include "engine/ptx.h"
#include "engine/race.h"

#include <stdatomic.h>

enum { WORK_SIZES = 64 };

typedef struct launch {
    sg_device *device;
    const sg_function *function;
    const sg_launch *request;
    uint8_t *constants;          /* the function's, with this device's addresses */
    uint8_t *parameters;
    uint64_t workspace;          /* of a cooperative grid: where its blocks meet */
    counted_kernel *counted;     /* NULL: not counting */
    race_launch *races;          /* NULL: no checks */
    int64_t shared_bytes;        /* of a block: static and dynamic, and the system's where the kernel asks for it */
    int64_t shared_own;          /* without the system's */
    int warps, threads;          /* of a block */
    int64_t blocks;              /* of the grid */
    int64_t stride, start;       /* a seeded order of blocks, or of clusters: start + n·stride modulo their number */
    atomic_llong taken;          /* how many of those were begun */
    int team;                    /* blocks that must run side by side: of a cluster, or all */
    int cluster;                 /* blocks of a cluster */
    uint64_t serial;             /* of the launch, for seeds */
    atomic_llong blocks_by_work[WORK_SIZES]; /* by the power of two of their instructions */
    atomic_int status;           /* sg_status: the first that went wrong */
} launch;

/* Lanes of a warp that are at one place. */
typedef struct group {
    int32_t pc;
    uint32_t lanes;
    uint32_t members; /* not 0: waits at a .sync instruction for these lanes */
} group;

typedef enum warp_state {
    WARP_READY,
    WARP_AT_BARRIER,
    WARP_POLLING, /* asked for something that is not there yet: the others first */
    WARP_DONE
} warp_state;

typedef struct block block;
typedef struct worker worker;
typedef struct bulk_copy bulk_copy; /* bulk.h */
typedef struct wgmma wgmma;         /* wgmma.h */

/* cp.async in flight: delivered when it is waited for. */
typedef struct async_copy {
    const char *from;
    char *to;
    int32_t group;
    uint8_t lane, bytes, used; /* used: bytes that come from the source; the rest is zeros */
    bool tied;                 /* an mbarrier, at `barrier` of shared memory, tells when it is there */
    uint32_t barrier;
} async_copy;

struct warp {
    uint8_t *bases[2];      /* registers, constants: the index is operand.constant */
    block *block;
    int number;             /* in its block */
    warp_state state;
    int32_t pc, next;       /* of the current group; instructions may set next */
    uint32_t active;        /* lanes of the current group */
    uint32_t live;          /* lanes that have not exited */
    uint32_t all;           /* lanes that the block's size gives it */
    group groups[LANES];    /* the other lanes */
    int group_count;
    bool yields;            /* the turn ends behind this instruction */
    int patience, hold;     /* steps until another group gets a turn whatever its place; until the lowest goes first again */
    int64_t steps;
    uint32_t *marks;        /* by operand.reg of doubtful operands: lanes that were written; NULL without checks */
    uint8_t *local, *local_written; /* LANES × local_bytes */
    async_copy *copies;
    int copy_count, copy_capacity;
    int32_t copy_group[LANES]; /* the cp.async group that each lane fills */
    wgmma *wgmmas;          /* products under way */
    int wgmma_count, wgmma_capacity;
    int32_t wgmma_group;    /* the one that is being filled */
    uint32_t wgmma_serial;  /* products begun so far */
    uint32_t wgmma_fences;  /* wgmma.fence, so far */
    uint32_t *written;      /* by a register's offset in words: fences at its last write, and one; 0: by a product, a constant, never. NULL: no wgmma here */
    int32_t bulk_group[LANES]; /* the same of cp.async.bulk */
    int registers, register_changes; /* that setmaxnreg left it; how many of them it ran */
    uint32_t carry;         /* condition code of add.cc and its like, a bit a lane */
    const insn *at_barrier; /* what it waits at */
    uint32_t at_cluster;    /* lanes that arrived at the cluster's barrier, which has not completed since */
    bool waits;             /* it asked in vain, and has passed no barrier since */
    uint32_t frame[LANES];  /* where the present function's frame begins in local memory */
    uint16_t depth[LANES];  /* calls that have not returned */
    struct lane_stack {     /* registers that recursive calls have put aside */
        uint64_t *values;
        int count, capacity;
    } aside[LANES];
};

typedef struct named_barrier {
    int expected;           /* threads; 0: all of the block */
    int arrived;            /* threads */
    uint32_t warps, waiting; /* that came; that wait */
    int count;              /* bar.red: threads, and those whose predicate is true */
    const insn *first;
} named_barrier;

enum { NAMED_BARRIERS = 16, WARPS_MOST = 32, RESERVED_SHARED = 1024 };

/* An mbarrier by its shared offset: what the hardware keeps in the 64 bits there. */
typedef struct phase_barrier {
    uint32_t at;
    int32_t expected, pending;  /* arrivals a phase; still to come */
    int64_t transactions;       /* bytes still to come */
    int32_t late;               /* arrivals of copies that are in flight */
    uint32_t phase;
} phase_barrier;

struct block {
    launch *launch;
    worker *worker;
    int64_t id;             /* linear */
    uint32_t index[3];
    warp warps[WARPS_MOST];
    int warp_count, live_warps;
    int register_pool;      /* that its warps gave up: of a thread of each warp */
    int64_t steps_before;   /* of its warps, when it began */
    uint8_t *shared, *shared_written; /* written: NULL without checks */
    uint8_t *registers, *local, *local_written;
    uint32_t *marks;
    race_block *races;
    named_barrier barriers[NAMED_BARRIERS];
    phase_barrier *phases;
    int phase_count, phase_capacity;
    bulk_copy *bulk;        /* on their way into its shared memory, and those that it sends to global memory */
    int bulk_count, bulk_capacity;
    counts *counts;         /* the worker's; NULL: not counting */
    sg_region *last_region;
    int rank;               /* in its cluster */
};

/* Generic addresses of shared, local and parameter memory. In shared::cluster, block `rank` of the cluster
   lies at (rank + 1)·SHARED_RANK; below SHARED_RANK lies one's own. */
#define SHARED_WINDOW       UINT64_C(0x0100000000)
#define SHARED_WINDOW_BYTES UINT64_C(0x0020000000)
#define SHARED_RANK         UINT64_C(0x0001000000)
#define LOCAL_WINDOW        UINT64_C(0x0200000000)
#define LOCAL_WINDOW_BYTES  UINT64_C(0x0010000000)
#define PARAM_WINDOW        UINT64_C(0x0300000000)
#define PARAM_WINDOW_BYTES  UINT64_C(0x0000010000)

/* ---- failures and findings (report_place.c) ---------------------------------------------------------------------------- */

/* Ends the launch; the first status stays. */
void launch_fail(launch *l, sg_status status);
bool launch_failed(const launch *l);
/* A finding at an instruction; kernel, block and thread are put in front. lane -1: the whole warp. */
void warp_finding(const warp *w, const insn *i, int lane, const char *kind, const char *format, ...) __attribute__((format(printf, 5, 6)));
/* "file.cuh:12, inlined at file.cu:34", or "kernel, line 56 of its PTX" where no line is known. */
void insn_place(const sg_function *f, const insn *i, char *text, size_t bytes);
race_report launch_report_race; /* its context is the launch */

/* ---- memory (access.c) ---------------------------------------------------------------------------------------------------- */

typedef enum access_kind { ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC } access_kind;

/* One warp access: lanes and where each goes, as the program has it. */
typedef struct warp_access {
    const insn *insn;
    ptx_space space;
    uint32_t lanes;
    const uint64_t *addresses;
    int bytes;              /* of each lane */
    int align;              /* 0: to bytes */
    access_kind kind;
    bool strong;            /* volatile, relaxed, acquire, release: no race against its like */
    bool async;             /* by the asynchronous proxy */
    uint32_t product;       /* not 0: a read that lasts until that product of the warpgroup is waited for */
    bool later;             /* an asynchronous write: the race detector is told elsewhere */
} warp_access;

/* Checks the access, feeds the race detector and the counters, marks what is written. hosts[lane]: its bytes on the host; NULL where the
   access is bad: then there was a finding and the launch has failed. */
void warp_access_hosts(warp *w, const warp_access *access, char *hosts[LANES]);

/* The addresses of an address operand whose base is source `at`, displacement added. 32-bit bases are widened. */
void warp_addresses(const warp *w, const insn *i, int at, int64_t displacement, uint64_t addresses[LANES]);

/* The block of a shared address: another one of the cluster for shared::cluster addresses. *offset: inside it. NULL: no such rank. */
block *shared_block(const warp *w, uint64_t address, uint64_t *offset);

/* ---- control (group.c, barrier.c) --------------------------------------------------------------------------------------------- */

/* Lanes `taken` of the current group go to target, the rest on. */
void warp_branch(warp *w, const insn *i, uint32_t taken, int32_t target);
void warp_exit(warp *w, uint32_t lanes);
/* For .sync instructions: whether all `members` are here (in mask). If not, these lanes wait, and the instruction runs again when all
   have come; the caller returns without doing anything. */
bool warp_gather(warp *w, uint32_t mask, uint32_t members);
/* Brings together groups that are at one place and chooses the one to run. False: none can run. */
bool warp_regroup(warp *w);

void block_arrive(warp *w, const insn *i, uint32_t mask, int barrier, int threads, bool waits, uint32_t predicate);
int64_t block_steps(const block *b); /* instructions of its warps, so far */
/* Completes the barriers that waited only for warps which have ended. */
void block_warp_ended(block *b);

phase_barrier *block_phase(block *b, uint32_t at); /* NULL: none was initialised there */
phase_barrier *block_phase_create(block *b, uint32_t at, int32_t expected);
void block_phase_remove(block *b, uint32_t at);

/* Whether who waits for the phase of this parity may go on. */
bool block_phase_passed(const phase_barrier *p, uint32_t parity);
/* Lets everything arrive that is on its way to the barrier. */
void block_phase_deliver(block *b, phase_barrier *p);
/* After an arrival or a transaction: completes the phase if nothing is missing. */
void block_phase_settle(block *b, phase_barrier *p);

/* A cluster's barrier: lanes of w->at_cluster have just arrived; whether these lanes' arrivals are over. */
void block_cluster_arrive(warp *w, bool relaxed);
bool block_cluster_passed(warp *w, uint32_t lanes);

/* What an instruction asked for is not there yet: ends the turn, and lets the warp's other lanes and all other warps go first. */
void warp_poll(warp *w, const insn *i);

/* cp.async (ops_async.c): delivers what the groups before the last `groups_left` of these lanes have copied. */
void warp_deliver_copies(warp *w, uint32_t lanes, int groups_left);
/* The lane's copies in flight are to arrive at an mbarrier; delivers those of all the block's warps that are. */
void warp_tie_copies(warp *w, int lane, uint32_t barrier);
void block_deliver_tied(block *b, uint32_t barrier);

/* Bulk copies (bulk.c): lets those arrive that the barrier counts; waits for groups of these lanes, or only until their sources are free;
   ends what a block leaves behind. */
void block_bulk_deliver(block *b, phase_barrier *p);
void warp_bulk_wait(warp *w, uint32_t lanes, int groups_left, bool read_only);
void block_bulk_end(block *b);

/* Products under way (ops_wgmma.c): finds fault with an instruction that touches their registers. */
void warp_check_held(warp *w, const insn *i);
/* Keeps w->written; finds fault with a product whose registers were written with no wgmma.fence since. */
void warp_note_writes(warp *w, const insn *i);

/* red and atom (ops_atomic.c): whether a type has an operation; applies it to an array. */
bool ptx_reduces(ptx_word op, ptx_type type);
void ptx_reduce(ptx_word op, ptx_type type, char *to, const char *from, int64_t bytes);

/* ---- running (run.c) ---------------------------------------------------------------------------------------------------------------- */

/* Runs a warp until it waits, ends, or has had `turns` instructions. */
void warp_run(warp *w, int turns);

/* block.c: the memory of a team of blocks, used again and again. NULL if memory ran out. */
block *team_create(launch *l, worker *worker, counts *counts);
void team_begin(block *team, int64_t number); /* the number-th team of the grid, from its first instruction */
void team_free(block *team);

/* A random number below `below`, from a state that only its owner uses. */
static inline uint32_t random_below(uint64_t *state, uint32_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 32) * below >> 32);
}
uint64_t *worker_random(worker *worker);

#endif
