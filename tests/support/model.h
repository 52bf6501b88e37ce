/* The tiled algorithm in miniature, with the arithmetic of a tensor-core kernel and, on demand, one defect: what the suite must
   pass and what it must catch. */
#ifndef ATTEND_TEST_SUPPORT_MODEL_H
#define ATTEND_TEST_SUPPORT_MODEL_H

#include <attend/attend.h>

typedef enum model_defect {
    MODEL_CORRECT,
    MODEL_NARROW_ACCUMULATION, /* the output is accumulated in the storage dtype */
    MODEL_OUTPUT_NOT_RESCALED, /* the running maximum grows, the old output stays as it was */
    MODEL_SUM_NOT_RESCALED,
    MODEL_KEY_SKIPPED,         /* the last key of one tile */
    MODEL_PHANTOM_KEYS,        /* the tail tile's missing keys count, with score 0 and value 0 */
    MODEL_CAUSAL_ONE_MORE,     /* each query sees one key too many */
    MODEL_CAUSAL_ONE_LESS,
    MODEL_CAUSAL_OTHER_CORNER, /* top-left taken for bottom-right and the other way round */
    MODEL_WRONG_KV_HEAD,
    MODEL_LSE_BASE_2,
    MODEL_LSE_UNSCALED,
    MODEL_SCALE_MISSING,       /* on the last head */
    MODEL_LENGTH_IGNORED,      /* keys past seqlens_k count */
    MODEL_TF32_SCORES,         /* Q and K cut to 10 bits */
    MODEL_LAZY_MAXIMUM,        /* the maximum that weights refer to stays until one reaches 2^8: 16-bit weights are rounded elsewhere */
    MODEL_DEFECTS
} model_defect;

const char *model_defect_name(model_defect defect);

/* Whether the defect can change anything in this problem. */
bool model_defect_applies(model_defect defect, const attend_problem *problem, const attend_attention_args *args);

/* Fills out and lse. problem and args: resolved, on the host. */
void model_run(model_defect defect, const attend_problem *problem, const attend_attention_args *args);

#endif
