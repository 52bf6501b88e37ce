/* --page-size: keys and values in pages. */
#ifndef ATTEND_TOOL_PAGES_H
#define ATTEND_TOOL_PAGES_H

#include "tool/job.h"

/* A table of pages [batch, columns], each sequence's its own, in any order that the seed gives. */
attend_status pages_table(pool *pool, uint64_t seed, int64_t batch, int64_t columns, attend_tensor *table);

/* Copies the job's K and V to its cache, in pages of --page-size keys. What no key fills is NaN. */
attend_status pages_make(const options *options, job *job);

#endif
