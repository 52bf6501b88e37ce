/* What features make of scores on the CPU: host/score.h applied to tiles of them, through the kernel's modifier. */
#ifndef ATTEND_CPU_ELEMENTS_H
#define ATTEND_CPU_ELEMENTS_H

#include "kernel.h"

/* The query heads of one KV head of one batch entry. */
typedef struct attend_cpu_elements {
    const attend_head *heads;
    int64_t group;
} attend_cpu_elements;

/* The modifier where attend_is_elementwise() says so: dot products come in, scores in units of log2 go out. */
void attend_cpu_elements_apply(const void *elements, const attend_cpu_scores *tile);
/* Whether no row of the tile sees any of its keys, as far as block masks and prefixes tell. */
bool attend_cpu_elements_hidden(const void *elements, const attend_cpu_scores *tile);

#endif
