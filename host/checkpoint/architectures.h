/* The table of architectures: what a model_type of transformers computes, and which keys of its config change
 * it. */
#ifndef ATTEND_CHECKPOINT_ARCHITECTURES_H
#define ATTEND_CHECKPOINT_ARCHITECTURES_H

#include <attend/problem.h>

typedef enum attend_rule_test {
    ATTEND_IF_TRUE,  /* the key is true */
    ATTEND_IF_FALSE, /* it is false */
    ATTEND_IF_SET,   /* it is not missing, null, false or 0 */
    ATTEND_IF_TEXT,  /* it is the text `value` */
    ATTEND_IF_OTHER  /* it is a text other than `value` */
} attend_rule_test;

typedef enum attend_rule_effect {
    ATTEND_THEN_NOTHING, /* the model's code ignores it, or it only repeats what tensors and shapes show */
    ATTEND_THEN_REFUSE,
    ATTEND_THEN_CAUSAL,
    ATTEND_THEN_HALVES, /* rotary embedding of halves */
    ATTEND_THEN_INTERLEAVED,
    ATTEND_THEN_ALIBI, /* instead of a rotary embedding */
    ATTEND_THEN_SCALED_ALIBI,
    ATTEND_THEN_SCALE,       /* the key's value */
    ATTEND_THEN_SCALE_ROOT,  /* 1/sqrt of it */
    ATTEND_THEN_SCALE_TIMES, /* the default scale times it */
    ATTEND_THEN_SCALE_ONE,
    ATTEND_THEN_SCALE_LAYER, /* the default scale divided by the layer's number, counted from 1 */
    ATTEND_THEN_SOFTCAP
} attend_rule_effect;

typedef struct attend_rule {
    const char *key; /* "a/b": b within a */
    attend_rule_test test;
    attend_rule_effect effect;
    const char *value;
    double usual; /* the key's number if it is missing; 0: the rule needs the key */
} attend_rule;

/* A boolean key. */
typedef struct attend_switch {
    const char *key; /* NULL: always true */
    bool usual;      /* its value if it is missing */
} attend_switch;

typedef enum attend_causality {
    ATTEND_BOTH_WAYS,
    ATTEND_DECODES,       /* causal */
    ATTEND_BY_STACK,      /* causal if the layer's prefix contains "decoder" */
    ATTEND_MUST_BE_GIVEN, /* the model's caller decides it, so the option must be given */
} attend_causality;

/* Which layers have the config's sliding_window if it has no layer_types. */
typedef enum attend_window_rule {
    ATTEND_NO_WINDOW,
    ATTEND_WINDOW_ALL,
    ATTEND_WINDOW_EVEN,    /* layers 0, 2, … */
    ATTEND_WINDOW_PATTERN, /* all but each sliding_window_pattern'th */
    ATTEND_WINDOW_FROM,    /* layers from max_window_layers on */
    ATTEND_WINDOW_NEO,     /* layers that are "local" in attention_layers, with window_size keys */
    ATTEND_WINDOW_BERT     /* local_attention keys, half of them on each side, except in each
                              global_attn_every_n_layers'th layer */
} attend_window_rule;

/* Which layers of a model with rotary embedding have it. */
typedef enum attend_rotary_layers {
    ATTEND_ROTARY_ALL,
    ATTEND_ROTARY_LISTED,  /* layers with a 1 in no_rope_layers */
    ATTEND_ROTARY_SLIDING, /* layers with a window; no layer if sliding_window is null */
    ATTEND_ROTARY_BUT_FULL /* layers with a window; all layers if sliding_window is null */
} attend_rotary_layers;

typedef enum attend_norm_rule {
    ATTEND_NO_NORM,
    ATTEND_NORM_RMS,
    ATTEND_NORM_RMS_ONE, /* multiplied by 1 + weight */
    ATTEND_NORM_LAYER
} attend_norm_rule;

/* A key that the config must have, since models of the type have the feature, and its default is not
   attend's. The option replaces the key. */
typedef struct attend_need {
    const char *key;
    int override; /* of attend_checkpoint_overrides */
    const char *option;
} attend_need;

/* The config must have the base: versions of transformers have different defaults. */
#define ATTEND_BASE_MUST_BE_GIVEN (-1.0)

typedef struct attend_architecture {
    const char *model_type;
    const char *layouts; /* names of layouts, separated by blanks */
    const char *without; /* layers whose prefix contains this are not covered by the row; NULL: all are */
    attend_causality causal;
    attend_rotary rotary;
    attend_rotary_layers rotary_layers;
    double part, base; /* defaults of rotary embedding: rotated fraction of a head, base; 0: 1 and 10000 */
    int64_t dim;       /* default of rotary_dim, in elements; 0: by `part` */
    const char *part_key, *base_key; /* NULL: partial_rotary_factor, rope_theta */
    bool scaled;                     /* the config must have rope_scaling */
    /* key of the base of layers with a window (default 10000), whose frequencies are not scaled */
    const char *sliding_base;
    attend_window_rule window;
    int64_t pattern;   /* default of sliding_window_pattern; 0: the config must have it */
    int64_t span;      /* default of sliding_window, where null means no window; -1: a missing key does too */
    bool window_asked; /* windows need use_sliding_window */
    bool untyped;      /* the model's code does not read layer_types */
    attend_norm_rule norm;
    attend_switch normed, biased; /* whether Q and K have norms, and projections biases */
    const char *q_norm; /* name of the norm of Q within the scope; NULL: q_norm; the norm of K has k for q */
    bool sinks, scale_one;
    int64_t relative_distance; /* default of the largest distance of relative positions */
    const attend_rule *rules;
    const attend_need *needs;
    int64_t heads;             /* default number of query heads; 0: the config must have it */
    const char *decoder_heads; /* key of the number of heads of decoder layers, which the config must have */
    const struct attend_part *parts; /* of a model with submodels; NULL: none */
    const char *refused;             /* why no layer of the type is read; NULL: layers are read */
} attend_architecture;

/* A submodel: layers whose prefix contains `within` are described by the config under `key`. */
typedef struct attend_part {
    const char *within, *key;
} attend_part;

/* NULL: no such row. */
const attend_architecture *attend_architecture_of(const char *model_type);
const attend_architecture *attend_architecture_at(int index);
bool attend_architecture_has_layout(const attend_architecture *row, const char *layout);

/* Keys that change attention in some model. A config that has one which the row does not read is refused,
   unless the caller gives the option. */
typedef struct attend_known_key {
    const char *key;
    int override; /* the bit of attend_checkpoint_overrides; 0: no option overrides the key */
    const char *option;
    const char *harmless; /* a text value that does not change attention; NULL: none */
    double one;           /* a number, besides 0, that does not change attention */
} attend_known_key;
/* NULL past the last. */
const attend_known_key *attend_known_key_at(int index);

#endif
