/* The command line, read once into one struct. Every usage error is found here, before any file is opened. */
#ifndef ATTEND_TOOL_OPTIONS_H
#define ATTEND_TOOL_OPTIONS_H

#include "tool/inspect_options.h"
#include "tool/values.h"

enum {
    EXIT_DONE = 0,    /* done, or within bounds */
    EXIT_FAILED = 1,  /* memory, device, disk */
    EXIT_USAGE = 2,   /* bad usage or bad input */
    EXIT_OUTSIDE = 3, /* compared, and outside the bounds */
};

typedef enum command {
    COMMAND_RUN = 1,
    COMMAND_ATTENTION = 2,
    COMMAND_COMPARE = 4,
    COMMAND_BENCH = 8,
    COMMAND_INFO = 16,
    COMMAND_INSPECT = 32,
    COMMAND_ROTARY = 64,
    COMMAND_GRADIENTS = 128
} command;

typedef enum causal_choice {
    CAUSAL_NOT_GIVEN,
    CAUSAL_BARE, /* --causal without a value: needs both alignments to be the same */
    CAUSAL_NAMED /* --causal=…: options.causal */
} causal_choice;

/* The shape of --random; -1: not given. */
typedef struct random_shape {
    int64_t batch, heads, kv_heads, seqlen_q, seqlen_k, head_dim, head_dim_v;
    int64_t hidden; /* width of a random layer; -1: attention only */
} random_shape;

/* Features of attention: fields of attend_problem, and files of feature tensors. */
typedef struct feature_options {
    bool align_bottom_right, windowed;
    int64_t window_left, window_right, chunk, prefix; /* chunk, prefix 0: none */
    float softcap;                                    /* 0: none */
    bool alibi_given;
    attend_alibi alibi;
    int64_t block_q, block_k; /* 0: none */
    bool relative_bidirectional;
    int64_t relative_max_distance; /* 0: none */
    const char *seqlens_q, *starts_k, *cu_seqlens_q, *cu_seqlens_k, *segments_q, *segments_k;
    const char *mask, *block_mask, *block_offsets, *block_indices, *bias, *alibi_slopes, *relative_table,
        *head_scales, *sinks, *positions, *position_table;
} feature_options;

/* Files of gradients: those that arrive, and those wanted. */
typedef struct gradient_options {
    const char *dout, *dlse, *dq, *dk, *dv, *bias, *alibi_slopes, *relative_table, *head_scales, *sinks;
} gradient_options;

typedef enum rotary_choice { ROTARY_AUTO, ROTARY_NO, ROTARY_GIVEN } rotary_choice;

/* Positions: fields of attend_problem that begin with rotary, qk_norm or absolute. */
typedef struct rope_options {
    rotary_choice choice;
    attend_rotary rotary;
    int64_t dim, first_position;
    double base;
    attend_rotary_scaling scaling;
    double factor, low, high, attention_factor;
    int64_t original_seqlen;
    bool untruncated;
    bool scaling_given;
    bool norm_given;
    attend_qk_norm norm;
    float norm_epsilon;
    attend_absolute absolute; /* sinusoids only; learned positions are features.position_table */
    double absolute_base;
} rope_options;

/* Texts point into argv; NULL: not given. */
typedef struct options {
    command command;
    const char *name; /* of the command */

    const char *weights, *input, *name_prefix; /* a layer */
    int64_t layer;                             /* -1: not given */
    const char *layout;      /* of the checkpoint library; NULL: found from tensor names and config.json */
    int64_t heads, kv_heads; /* 0: not given */

    const char *q, *k, *v, *seqlens_k; /* attention on tensors */
    float scale;                       /* 0: not given */

    bool random; /* attention on random tensors */
    random_shape shape;
    attend_values values;
    uint64_t seed;

    feature_options features;
    gradient_options gradients;
    bool backward; /* compare: gradients, too; rotary: by the negative angles */
    inspect_options inspect;
    rope_options rope;
    causal_choice causal_choice;
    attend_causal causal;
    const char *output, *lse;
    const char *result, *result_lse; /* compare, rotary: another program's result */
    attend_device against;
    bool kernels, sweep, offload, decode, explain, strict;
    int64_t page_size; /* of keys and values in pages; 0: one tensor each */
    double seconds;    /* how long to time each algorithm */

    attend_device device;
    bool dtype_given;
    attend_dtype dtype;
    int threads;
    int64_t memory_limit; /* bytes of device memory; 0: what is free */
    bool json, quiet;
    bool help;
} options;

/* Fails with ATTEND_INVALID_ARGUMENT. argv[0] is the command's name. `json` is set even if another option is
   wrong. */
attend_status options_read(int argc, char **argv, options *options);

/* All commands, or the options of one. */
void options_print_usage(void);
void options_print_help(const options *options);

#endif
