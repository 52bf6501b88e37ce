/* What comparing attention and comparing a layer share. */
#ifndef ATTEND_HOST_COMPARE_H
#define ATTEND_HOST_COMPARE_H

#include "reference/reference.h"

/* Rule 2 for a group of elements: rms(error) over what it may be; arguments are sums of squares. Small groups have room for
   chance: the rms of n independent errors scatters by about 1/sqrt(n), four of that are allowed, with n the number of rows
   because the elements of a row share the errors of their weights. */
double attend_quality_ratio(double error, double baseline, double expected, int64_t elements, int64_t rows,
                            attend_dtype dtype);

/* Keeps the largest ratio seen, and its element; the first among equals, a NaN as infinity. */
void attend_note_worst(double ratio, attend_element element, double *worst_ratio, attend_element *worst);

/* 0 becomes as many threads as there are processors. */
attend_status attend_compare_threads(int threads, int *resolved);

attend_status attend_compare_resolved(const attend_problem *problem, const attend_attention_args *args, int threads,
                                      attend_comparison *result);

#endif
