/* Memory that a plan keeps between runs. */
#ifndef ATTEND_TEST_SUPPORT_FORGET_H
#define ATTEND_TEST_SUPPORT_FORGET_H

#include <attend/attend.h>

/* Fills with NaN what runs of a plan on a CPU or CUDA write for themselves. What an earlier run left there is
   right, and would hide that the next one computes nothing. Waits until the plan's runs have ended. */
void test_forget_runs(const attend_plan *plan);

#endif
