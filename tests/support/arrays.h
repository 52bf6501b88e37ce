/* Arrays as .npy files in the test's folder, for tests of the command. */
#ifndef ATTEND_TEST_SUPPORT_ARRAYS_H
#define ATTEND_TEST_SUPPORT_ARRAYS_H

#include "file/array.h"
#include <attend/attend.h>

void test_write_tensor(const char *name, attend_dtype dtype, int rank, const int64_t *shape, const void *data);
/* [batch, seqlen, heads, dim], normally distributed, seeded by the name. */
void test_write_gauss(const char *name, attend_dtype dtype, int64_t batch, int64_t seqlen, int64_t heads, int64_t dim);
/* int64 [count]. */
void test_write_integers(const char *name, const int64_t *integers, int count);
/* Fails the test if it cannot be read; free with attend_array_free(). */
attend_array test_read_npy(const char *name);

/* A group's setup: q, k, v in f32 and f16, with two entries, 5 queries, 7 keys, heads 4/2 of 8, and lengths.npy. */
int test_write_inputs(void **state);
#define QKV   "--q q.npy --k k.npy --v v.npy"
#define LAYER "--weights " TEST_DATA "/minilm/layer0.safetensors --input " TEST_DATA "/minilm/x.npy"

#endif
