/* Attention layers of checkpoints: a layer that transformers saved becomes a problem, its weights, and a
 * sentence for everything that was decided. A library of its own, libattend_checkpoint: what attention is
 * needs no files.
 *
 *     attend_checkpoint *checkpoint;
 *     attend_checkpoint_layer *layer;
 *     attend_checkpoint_open("Llama-3.2-1B", &checkpoint);
 *     attend_checkpoint_decide(checkpoint, 0, NULL, &layer);
 *     attend_checkpoint_load(layer, ATTEND_F32);
 *     attend_problem problem = layer->problem;
 *     problem.batch = 1, problem.seqlen_q = 128;
 *     attend_layer_plan(context, &problem, &layer->weights, &plan);
 *     args.sinks = layer->sinks, args.relative_table = layer->relative_table, args.alibi_slopes =
 * layer->alibi_slopes;
 *
 * A layer is right or refused. What a layer computes is decided by its config.json's model_type, a row of the
 * table in docs/checkpoints.md, together with the keys of the config that the row reads. Refused are, each
 * with a sentence that says what to do instead: a model_type without a row, a key that is known to change
 * attention and that the row does not read, a tensor beside the layer's projections that nothing consumes.
 * Without a config.json nothing is guessed but what names and shapes prove: how many heads, causality and the
 * rotary embedding must be given.
 *
 * Its calls take no sizes, and its structs hold attend_problem and attend_layer_weights, which grow: until
 * release 1.0 what attend.h says of programs and libraries of different releases does not hold for this
 * library; who uses it compiles against the headers of the release that it runs with. Its structs have no
 * padding, but named `reserved` bytes, which the caller leaves zero.
 *
 * Every call that can fail returns a status of attend; the sentence is attend_checkpoint_error_message(). A
 * checkpoint and its layers serve one thread at a time. */
#ifndef ATTEND_CHECKPOINT_H
#define ATTEND_CHECKPOINT_H

#include <attend/layer.h>
#include <attend/problem.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attend_checkpoint attend_checkpoint;

/* Opens a .safetensors file, an index of several (model.safetensors.index.json), or a folder that holds one
 * of these; config.json is read where it lies beside them. Shards are opened when a layer needs them. Errors:
 * BAD_FILE, IO_ERROR, OUT_OF_MEMORY. */
ATTEND_API attend_status attend_checkpoint_open(const char *path, attend_checkpoint **checkpoint);
/* Layers must have been freed. NULL is fine. */
ATTEND_API void attend_checkpoint_close(attend_checkpoint *checkpoint);

/* The sentence of the last failure of this library in the calling thread; "" before the first. */
ATTEND_API const char *attend_checkpoint_error_message(void);

/* A layer of self-attention, as names tell. */
typedef struct attend_checkpoint_name {
    const char *prefix; /* what the names of its tensors begin with, "model.layers.3." */
    const char *layout; /* how they go on: a name of attend_checkpoint_layout() */
    const char *title;  /* of the models that have such names, for people */
    int64_t number;     /* the last number in the prefix; 0 without one */
} attend_checkpoint_name;

/* Layer `index` of those found, in the order of their numbers; false past the last. Texts live as long as the
   checkpoint. */
ATTEND_API bool attend_checkpoint_layer_name(const attend_checkpoint *checkpoint, int64_t index,
                                             attend_checkpoint_name *name);

/* The names of layouts, from index 0 on; NULL past the last. */
ATTEND_API const char *attend_checkpoint_layout(int index);

/* Which layer is meant. */
typedef struct attend_checkpoint_query {
    const char *name_prefix; /* its tensors' names begin so; NULL: any */
    const char *layout;      /* NULL: any that the model's row has */
    int64_t number;          /* of the layer, from 0; -1: the least that is there */
} attend_checkpoint_query;

/* The only layer that `query` fits. Fails where there is none, or more than one of that number; the sentence
 * says what there is. */
ATTEND_API attend_status attend_checkpoint_find(const attend_checkpoint *checkpoint,
                                                const attend_checkpoint_query *query, int64_t *index);

/* Decisions that a caller takes from the files, or'ed together. */
typedef enum attend_checkpoint_overrides {
    ATTEND_OVERRIDE_CAUSAL = 1 << 0,           /* causal */
    ATTEND_OVERRIDE_SCALE = 1 << 1,            /* softmax_scale; 0: the usual */
    ATTEND_OVERRIDE_SOFTCAP = 1 << 2,          /* softcap */
    ATTEND_OVERRIDE_WINDOW = 1 << 3,           /* windowed, window_left, window_right */
    ATTEND_OVERRIDE_ALIBI = 1 << 4,            /* alibi */
    ATTEND_OVERRIDE_RELATIVE = 1 << 5,         /* relative_buckets (0: none), relative_max_distance,
                                      relative_bidirectional: the caller brings the table */
    ATTEND_OVERRIDE_SINKS = 1 << 6,            /* sinks: the caller brings them */
    ATTEND_OVERRIDE_ROTARY = 1 << 7,           /* rotary: which elements turn together, or none */
    ATTEND_OVERRIDE_ROTARY_DIM = 1 << 8,       /* rotary_dim */
    ATTEND_OVERRIDE_ROTARY_BASE = 1 << 9,      /* rotary_base */
    ATTEND_OVERRIDE_ROTARY_SCALING = 1 << 10,  /* rotary_scaling and its parameters */
    ATTEND_OVERRIDE_QK_NORM = 1 << 11,         /* qk_norm */
    ATTEND_OVERRIDE_QK_NORM_EPSILON = 1 << 12, /* qk_norm_epsilon */
    ATTEND_OVERRIDE_CHUNK = 1 << 13            /* chunk */
} attend_checkpoint_overrides;

/* What a caller knows better than the files: each overrides one decision and leaves the others in force. */
typedef struct attend_checkpoint_options {
    /* of attend_checkpoint_overrides: these fields of `problem` hold, the others are not read */
    int overrides;
    uint8_t reserved[4];
    attend_problem problem;
    int64_t num_heads, num_kv_heads; /* 0: as the files say */
} attend_checkpoint_options;

/* A sentence of what was decided and by what: {"causal", "top-left, as all llama models are"}. */
typedef struct attend_checkpoint_decision {
    const char *of, *text;
} attend_checkpoint_decision;

/* Made and freed by the library. Everything but the tensors is there once it is decided. */
typedef struct attend_checkpoint_layer {
    attend_problem problem;       /* batch and lengths are the caller's, dtype comes with loading */
    attend_layer_weights weights; /* in memory of the layer's own, aligned to 64 bytes */
    attend_tensor sinks, relative_table, alibi_slopes; /* f32, of attend_layer_args; absent where the problem
                                                          asks for none or the caller brings them */
    attend_checkpoint_name name;
    const char *model_type;                   /* "" without a config.json */
    const char *stored_dtype;                 /* of the weights in the file, "BF16" */
    const char *input_tensor, *output_tensor; /* the weights that read x and write the output */
    const attend_checkpoint_decision *decisions;
    int decision_count;
    bool conv1d; /* the weights are stored [in, out] */
    uint8_t reserved[3];
} attend_checkpoint_layer;

/* Decides what a layer computes, and reads no weights yet. `options` may be NULL. Errors: INVALID_ARGUMENT
 * (something must be given, or does not fit), UNSUPPORTED (the layer is not one that attend computes),
 * BAD_FILE, IO_ERROR, OUT_OF_MEMORY. */
ATTEND_API attend_status attend_checkpoint_decide(attend_checkpoint *checkpoint, int64_t index,
                                                  const attend_checkpoint_options *options,
                                                  attend_checkpoint_layer **layer);
/* Reads the weights into aligned memory, converted to `dtype` (f32, f16, bf16); once a layer: after a failure
 * it can only be freed. A finite value that overflows is an error. A plan made of the weights uses them: free
 * the layer after it. */
ATTEND_API attend_status attend_checkpoint_load(attend_checkpoint_layer *layer, attend_dtype dtype);
/* NULL is fine. */
ATTEND_API void attend_checkpoint_free(attend_checkpoint_layer *layer);

#ifdef __cplusplus
}
#endif

#endif
