/* A model of the tiled algorithm, with the arithmetic of a tensor-core kernel and, on request, one defect:
   what the suite must accept and what it must reject. */
#ifndef ATTEND_TEST_SUPPORT_MODEL_H
#define ATTEND_TEST_SUPPORT_MODEL_H

#include <attend/attend.h>

typedef enum model_defect {
    MODEL_CORRECT,
    MODEL_NARROW_ACCUMULATION, /* the output is accumulated in the storage dtype */
    MODEL_OUTPUT_NOT_RESCALED, /* the running max grows, but the output so far is not rescaled */
    MODEL_SUM_NOT_RESCALED,
    MODEL_KEY_SKIPPED,         /* the last key of one tile */
    MODEL_PHANTOM_KEYS,        /* missing keys of the last tile count, with score 0 and value 0 */
    MODEL_CAUSAL_ONE_MORE,     /* each query attends to one key too many */
    MODEL_CAUSAL_ONE_LESS,
    MODEL_CAUSAL_OTHER_CORNER, /* top-left and bottom-right alignment are swapped */
    MODEL_WRONG_KV_HEAD,
    MODEL_LSE_BASE_2,
    MODEL_LSE_UNSCALED,
    MODEL_SCALE_MISSING,       /* of the last head */
    MODEL_LENGTH_IGNORED,      /* keys past seqlens_k count */
    MODEL_TF32_SCORES,         /* Q and K are truncated to 10 bits */
    MODEL_LAZY_MAXIMUM,        /* the running max is raised only when a weight reaches 2^8: 16-bit weights are rounded elsewhere */
    MODEL_DEFECTS
} model_defect;

const char *model_defect_name(model_defect defect);

/* Whether the defect can change a result of this problem. */
bool model_defect_applies(model_defect defect, const attend_problem *problem, const attend_attention_args *args);

/* Fills out and lse. problem and args: resolved, on the host. */
void model_run(model_defect defect, const attend_problem *problem, const attend_attention_args *args);

#endif
