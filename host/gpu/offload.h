/* Runs whose tensors lie on the host: how they are cut so that copies on the device fit a budget, and the
   buffers, streams and events of the pipeline that brings blocks of queries and parts of keys.
   docs/offload.md. */
#ifndef ATTEND_GPU_OFFLOAD_H
#define ATTEND_GPU_OFFLOAD_H

#include "kernels.h"

/* On the device. The output of a block takes the place of its queries. States are those of a block's rows
   between two parts of the keys, or those that the caller keeps on the host. */
typedef enum attend_gpu_buffer {
    ATTEND_GPU_QUERIES,
    ATTEND_GPU_LSE,
    ATTEND_GPU_STATE_OUT,
    ATTEND_GPU_STATE_MAX,
    ATTEND_GPU_STATE_SUM,
    ATTEND_GPU_KEYS,
    ATTEND_GPU_VALUES,
    ATTEND_GPU_MASK,     /* that varies by query and key, and is too large to be copied once */
    ATTEND_GPU_BIAS,     /* likewise */
    ATTEND_GPU_PARTIALS, /* of spans that are split, where those of the whole problem are too large */
    ATTEND_GPU_BUFFERS
} attend_gpu_buffer;

/* What a problem is cut into: boxes of KV heads; of each, blocks of queries; of each, parts of keys. All but
   the last of a kind have these sizes. */
typedef struct attend_gpu_blocks {
    int64_t batch, kv_heads, queries, keys;
    int64_t query_slots, key_slots; /* buffers in turn: one is filled while another is used */
    bool carries;                   /* a block keeps a state between parts */
    bool states;                    /* the caller may keep states on the host */
    bool streams_mask, streams_bias, partials_of_box;
    const attend_kernel_row *rows[2]; /* that may run */
} attend_gpu_blocks;

/* One launch, and what comes with it. Steps of one block follow each other, keys ascending. */
typedef struct attend_gpu_step {
    attend_kernel_box box;
    bool begins, ends;          /* the first, the last part of its block */
    bool loads;                 /* its keys are not there yet */
    int64_t block, load, index; /* so many blocks, loads, steps came before: slots are taken in turn */
} attend_gpu_step;

typedef struct attend_gpu_steps {
    const attend_problem *problem;
    const attend_gpu_blocks *blocks;
    const attend_lists *lists; /* readable on the host; NULL: they are not, and every key may be visible */
    attend_kernel_box whole;   /* of the run */
    attend_gpu_step at;
    int64_t seen_end; /* of the block: no row sees a key from here on */
    bool begun;
} attend_gpu_steps;

/* The next step, the first at first; false behind the last. */
bool attend_gpu_next_step(attend_gpu_steps *steps);

/* Pinned memory that pageable tensors pass through, some pieces of it in flight. */
enum { ATTEND_GPU_PINNED = 4, ATTEND_GPU_QUERY_SLOTS = 2, ATTEND_GPU_KEY_SLOTS = 2 };
typedef struct attend_gpu_pinned {
    char *memory;
    size_t piece_bytes;
    cudaEvent_t copied[ATTEND_GPU_PINNED]; /* what was last copied from or to a piece */
    int next;
} attend_gpu_pinned;

typedef struct attend_gpu_offload {
    int host_tensors; /* of attend_host_tensors; 0: none */
    double budget;    /* bytes */
    bool streaming;   /* in a run's view of the plan: what is streamed needs no room of its own */
    attend_gpu_blocks blocks;
    void *buffers[ATTEND_GPU_BUFFERS];
    attend_gpu_pinned pinned;
    cudaStream_t in, out;
    cudaEvent_t begun;
    cudaEvent_t queries_there[ATTEND_GPU_QUERY_SLOTS], queries_done[ATTEND_GPU_QUERY_SLOTS],
        queries_free[ATTEND_GPU_QUERY_SLOTS];
    cudaEvent_t keys_there[ATTEND_GPU_KEY_SLOTS], keys_free[ATTEND_GPU_KEY_SLOTS],
        masks_there[ATTEND_GPU_KEY_SLOTS], masks_free[ATTEND_GPU_KEY_SLOTS];
} attend_gpu_offload;

/* The problem whole, which is streamed where it is too large. rows: that may run; states: on the host, too.
   */
attend_gpu_blocks attend_gpu_whole_blocks(const attend_problem *problem,
                                          const attend_kernel_row *const rows[2], bool states, double budget);
/* The blocks that move the fewest bytes; false where no choice fits so many bytes. */
bool attend_gpu_choose_blocks(const attend_problem *problem, double budget, const attend_gpu_blocks *whole,
                              attend_gpu_blocks *blocks);
/* Of spans that are split. */
int64_t attend_gpu_whole_partials(const attend_problem *problem, const attend_kernel_row *const rows[2]);
size_t attend_gpu_least_bytes(const attend_problem *problem, const attend_gpu_blocks *whole);

/* Bytes of one slot of a buffer, and how many slots it has. */
size_t attend_gpu_slot_bytes(const attend_problem *problem, const attend_gpu_blocks *blocks,
                             attend_gpu_buffer buffer);
int64_t attend_gpu_slots(const attend_gpu_blocks *blocks, attend_gpu_buffer buffer);
/* Elements from one row of a query, key or value to the next: so many, and those up to 16 bytes. */
int64_t attend_gpu_pitch(const attend_problem *problem, attend_gpu_buffer buffer);

/* Where the elements of a tensor lie. */
typedef enum attend_gpu_place {
    ATTEND_GPU_ON_DEVICE,
    ATTEND_GPU_PAGE_LOCKED,
    ATTEND_GPU_PAGEABLE
} attend_gpu_place;

#endif
