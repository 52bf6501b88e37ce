/* Features as a list of settings, and a design that combines them. */
#ifndef ATTEND_TEST_SUPPORT_FEATURE_CASES_H
#define ATTEND_TEST_SUPPORT_FEATURE_CASES_H

#include "support/cases.h"

typedef struct test_setting {
    const char *name; /* all settings of a feature begin with the same word */
    attend_problem fields; /* fields that are not 0 are set */
} test_setting;

/* NULL past the last. */
const test_setting *test_feature_setting(int index);

/* Sets the fields of one setting in a problem. */
void test_setting_apply(const test_setting *setting, attend_problem *problem);

/* The design, always the same; free() it. It leaves out settings that need features outside `supported`. It
   covers all pairs of a setting with settings of other features, shapes, dtypes, inputs and layouts; and all
   triples of features, with lengths, split keys and fp32 or 16 bits among them. A brief design has five
   features in each case, which takes fewer cases; otherwise settings also occur alone, and in pairs. */
test_case *test_feature_cases(uint64_t supported, bool brief, int *count);

#endif
