/* Features as a list of settings, and a design in which they meet each other. */
#ifndef ATTEND_TEST_SUPPORT_FEATURE_CASES_H
#define ATTEND_TEST_SUPPORT_FEATURE_CASES_H

#include "support/cases.h"

typedef struct test_setting {
    const char *name; /* settings of one feature start with the same word */
    attend_problem fields; /* those that are not 0 are set */
} test_setting;

/* NULL past the last. */
const test_setting *test_feature_setting(int index);

/* Sets the fields of one setting in a problem. */
void test_setting_apply(const test_setting *setting, attend_problem *problem);

/* The design, always the same; free() it. Leaves out settings that need features outside `supported`. Every setting meets every setting
   of every other feature and every shape, dtype, input and layout; and every three features meet, with lengths, split keys and fp32 or 16 bits
   among them. In a brief design five features are on at once, which takes fewer cases; else settings also stand alone, and in pairs alone. */
test_case *test_feature_cases(uint64_t supported, bool brief, int *count);

#endif
