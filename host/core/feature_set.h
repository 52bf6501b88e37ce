/* Which features a problem asks for, and the error if a backend or kernel lacks some of them. */
#ifndef ATTEND_CORE_FEATURE_SET_H
#define ATTEND_CORE_FEATURE_SET_H

#include <attend/problem.h>

/* The features in the shared functions of visibility.h and score.h: supported by every kernel that calls
   them. */
#define ATTEND_FEATURES_INTERVAL                                                                    \
    (ATTEND_FEATURE_CAUSAL | ATTEND_FEATURE_WINDOW | ATTEND_FEATURE_CHUNK | ATTEND_FEATURE_PREFIX | \
     ATTEND_FEATURE_PACKED | ATTEND_FEATURE_LEFT_PADDING)
#define ATTEND_FEATURES_ELEMENT                                                                           \
    (ATTEND_FEATURE_SEGMENTS | ATTEND_FEATURE_MASK | ATTEND_FEATURE_BLOCK_MASK | ATTEND_FEATURE_SOFTCAP | \
     ATTEND_FEATURE_ALIBI | ATTEND_FEATURE_RELATIVE_BIAS | ATTEND_FEATURE_BIAS)
#define ATTEND_FEATURES_HEAD (ATTEND_FEATURE_HEAD_SCALES | ATTEND_FEATURE_SINKS)

/* Features that a layer applies before attention; attention kernels are not concerned. */
#define ATTEND_FEATURES_LAYER (ATTEND_FEATURE_ROTARY | ATTEND_FEATURE_QK_NORM | ATTEND_FEATURE_ABSOLUTE)

uint64_t attend_features_of(const attend_problem *problem);

/* "softcap, sinks": the names of the bits. */
void attend_features_text(uint64_t features, char *text, size_t bytes);

/* OK, or UNSUPPORTED with a message such as "the fp64 reference does not support: packed sequences". */
attend_status attend_features_check(const attend_problem *problem, uint64_t supported, const char *who);

#endif
