/* Features as a list of settings, and a design in which each occurs alone and together with every setting of every other
   feature, while shapes, dtypes, inputs and layouts go round. */
#ifndef ATTEND_TEST_FEATURE_CASES_H
#define ATTEND_TEST_FEATURE_CASES_H

#include "cases.h"

typedef struct test_setting {
    const char *name; /* settings of one feature start with the same word */
    attend_problem fields; /* those that are not 0 are set */
} test_setting;

/* NULL past the last. */
const test_setting *test_feature_setting(int index);

/* Sets the fields of one setting in a problem. */
void test_setting_apply(const test_setting *setting, attend_problem *problem);

/* The design, always the same; free() it. Leaves out settings that need features outside `supported`. */
test_case *test_feature_cases(uint64_t supported, int *count);

#endif
