/* The table of architectures: what a model_type of transformers computes, and which keys of its config change
 * it. */
#ifndef ATTEND_CHECKPOINT_ARCHITECTURES_H
#define ATTEND_CHECKPOINT_ARCHITECTURES_H

#include <attend/problem.h>

typedef enum attend_rule_test {
    ATTEND_IF_TRUE,  /* the key is true */
    ATTEND_IF_FALSE, /* it is false */
    ATTEND_IF_SET,   /* it is neither missing, null, false nor 0 */
    ATTEND_IF_TEXT,  /* it is the text `value` */
    ATTEND_IF_OTHER  /* it is a text other than `value` */
} attend_rule_test;

typedef enum attend_rule_effect {
    ATTEND_THEN_NOTHING, /* the model's code does not read it, or tensors and shapes say the same */
    ATTEND_THEN_REFUSE,
    ATTEND_THEN_CAUSAL,
    ATTEND_THEN_HALVES, /* the rotary embedding */
    ATTEND_THEN_INTERLEAVED,
    ATTEND_THEN_ALIBI, /* and no rotary embedding */
    ATTEND_THEN_SCALED_ALIBI,
    ATTEND_THEN_SCALE,       /* the key's value */
    ATTEND_THEN_SCALE_ROOT,  /* 1/sqrt of it */
    ATTEND_THEN_SCALE_TIMES, /* the usual, times it */
    ATTEND_THEN_SCALE_ONE,
    ATTEND_THEN_SCALE_LAYER, /* divided by the layer's number, counted from 1 */
    ATTEND_THEN_SOFTCAP
} attend_rule_effect;

typedef struct attend_rule {
    const char *key; /* "a/b": b within a */
    attend_rule_test test;
    attend_rule_effect effect;
    const char *value;
    double usual; /* the key's number where it is missing; 0: the rule is about keys that are there */
} attend_rule;

/* A key that says yes or no. */
typedef struct attend_switch {
    const char *key; /* NULL: yes */
    bool usual;      /* what holds where it is missing */
} attend_switch;

typedef enum attend_causality {
    ATTEND_BOTH_WAYS,
    ATTEND_DECODES,      /* causal */
    ATTEND_BY_STACK,     /* causal where the prefix has "decoder" */
    ATTEND_MUST_BE_SAID, /* the model's code leaves it to its caller */
} attend_causality;

/* Which layers have config's sliding_window, where layer_types does not say. */
typedef enum attend_window_rule {
    ATTEND_NO_WINDOW,
    ATTEND_WINDOW_ALL,
    ATTEND_WINDOW_EVEN,    /* layers 0, 2, … */
    ATTEND_WINDOW_PATTERN, /* all but each sliding_window_pattern'th */
    ATTEND_WINDOW_FROM,    /* layers from max_window_layers on */
    ATTEND_WINDOW_NEO,     /* as attention_layers says: "local" ones, of window_size keys */
    ATTEND_WINDOW_BERT     /* local_attention keys, half of them to each side, but in each
                              global_attn_every_n_layers'th layer */
} attend_window_rule;

/* Which layers are rotated, of those whose model rotates. */
typedef enum attend_rotary_layers {
    ATTEND_ROTARY_ALL,
    ATTEND_ROTARY_LISTED,  /* no_rope_layers has 1 for them */
    ATTEND_ROTARY_SLIDING, /* those with a window: none where sliding_window is null */
    ATTEND_ROTARY_BUT_FULL /* those with a window: all where sliding_window is null */
} attend_rotary_layers;

typedef enum attend_norm_rule {
    ATTEND_NO_NORM,
    ATTEND_NORM_RMS,
    ATTEND_NORM_RMS_ONE, /* multiplied by 1 + weight */
    ATTEND_NORM_LAYER
} attend_norm_rule;

/* A key that a config must have: models of the type do not run without what it says, and its value without it
 * is not attend's. The option says it instead. */
typedef struct attend_need {
    const char *key;
    int said; /* of attend_checkpoint_said */
    const char *option;
} attend_need;

/* A base that must be in the config: versions of transformers have different ones. */
#define ATTEND_BASE_MUST_BE_SAID (-1.0)

typedef struct attend_architecture {
    const char *model_type;
    const char *layouts; /* words */
    const char *without; /* layers whose prefix has this are others; NULL: none */
    attend_causality causal;
    attend_rotary rotary;
    attend_rotary_layers rotary_layers;
    double part, base; /* of rotary embeddings where the config does not say; 0: always all, 10000 */
    int64_t dim;       /* the same in elements, of rotary_dim; 0: as part says */
    const char *part_key, *base_key; /* NULL: partial_rotary_factor, rope_theta */
    bool scaled;                     /* their scaling must be in the config */
    const char
        *sliding_base; /* key of the base of layers with a window, which are not scaled; 10000 without */
    attend_window_rule window;
    int64_t pattern;   /* of windows, where the config does not say; 0: it must */
    int64_t span;      /* the same, of the window's keys; null is none; -1: so is a missing key */
    bool window_asked; /* windows are only with use_sliding_window */
    bool untyped;      /* its models do not read layer_types */
    attend_norm_rule norm;
    attend_switch normed, biased; /* whether Q and K have norms, and projections biases */
    const char *q_norm;           /* within the scope; NULL: q_norm; that of K is named alike */
    bool sinks, scale_one;
    int64_t relative_distance; /* of relative tables, where the config does not say */
    const attend_rule *rules;
    const attend_need *needs;
    int64_t heads;                   /* of Q, where the config does not say; 0: it must */
    const char *decoder_heads;       /* key of the heads of decoder layers, which must be there */
    const struct attend_part *parts; /* several models in one */
    const char *refused;             /* why nothing of it is read */
} attend_architecture;

/* A model within a model: layers whose prefix has `within` are described by a config of their own. */
typedef struct attend_part {
    const char *within, *key;
} attend_part;

/* NULL where there is none. */
const attend_architecture *attend_architecture_of(const char *model_type);
const attend_architecture *attend_architecture_at(int index);
bool attend_architecture_has_layout(const attend_architecture *row, const char *layout);

/* Keys that change attention in some model, with the option that overrules them: one that the row does not
 * read is refused. */
typedef struct attend_known_key {
    const char *key;
    int said; /* of attend_checkpoint_said; 0: nothing overrules it */
    const char *option;
    const char *harmless; /* a text that changes nothing; NULL: none */
    double one;           /* the number that changes nothing, besides 0 */
} attend_known_key;
/* NULL past the last. */
const attend_known_key *attend_known_key_at(int index);

#endif
