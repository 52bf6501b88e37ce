/* Feature tensors with random values: masks, biases, segments, slopes, tables, sinks. */
#include "support/fixture.h"
#include "support/guard.h"
#include "reference/reference.h"
#include "core/tensor.h"
#include "shared/splitmix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t draw(uint64_t seed, uint64_t index) { return attend_mix(seed * ATTEND_MIX_STEP ^ index); }

/* From -1 to 1. */
static double even(uint64_t bits) { return (double)(bits >> 11) * 0x1p-52 - 1; }

static double element(attend_feature_tensor feature, uint64_t seed, uint64_t index, int64_t last_axis)
{
    uint64_t bits = draw(seed + 31 * (uint64_t)feature, index);
    switch (feature) {
    case ATTEND_FEATURE_TENSOR_SEGMENTS_Q:
    /* Documents of 17 tokens with 3 different ids, -20, 23 and 66; of 13 tokens after the first batch entry. */
    case ATTEND_FEATURE_TENSOR_SEGMENTS_K: return (double)(last_axis / (index > (uint64_t)last_axis ? 13 : 17) % 3 * 43 - 20);
    case ATTEND_FEATURE_TENSOR_MASK: return bits % 4 ? (double)(1 + bits % 255) : 0;
    case ATTEND_FEATURE_TENSOR_BLOCK_MASK: return bits % 2 ? 1 : 0;
    case ATTEND_FEATURE_TENSOR_BIAS: return bits % 16 ? 3 * even(bits) : -INFINITY;
    case ATTEND_FEATURE_TENSOR_SLOPES: return 0.3 * (1 + even(bits));
    case ATTEND_FEATURE_TENSOR_RELATIVE_TABLE: return 2 * even(bits);
    case ATTEND_FEATURE_TENSOR_HEAD_SCALES: return bits % 8 ? (bits % 3 ? 1 : -1) * (1 + 0.5 * even(bits)) : 0;
    case ATTEND_FEATURE_TENSOR_SINKS: return 4 * even(bits);
    case ATTEND_FEATURE_TENSOR_BLOCK_OFFSETS:
    case ATTEND_FEATURE_TENSOR_BLOCK_INDICES: return 0; /* make_list() */
    case ATTEND_FEATURE_TENSOR_POSITIONS: return 0; /* the test's */
    }
    return 0;
}

/* Axes that the tensor does not vary along have extent 1 for odd seeds, otherwise their full extent with
   stride 0. */
static void *make_feature_tensor(const attend_problem *p, attend_feature_tensor feature, uint64_t seed, attend_tensor *t)
{
    attend_feature_shape e = attend_feature_expected(p, feature);
    if (e.rank == 0 || (e.optional && seed % 2)) return NULL;
    int64_t stride = 1;
    *t = (attend_tensor){.rank = e.rank, .dtype = attend_feature_dtype(feature)};
    if (feature == ATTEND_FEATURE_TENSOR_BIAS && seed % 3) t->dtype = p->dtype;
    for (int i = e.rank - 1; i >= 0; i--) {
        t->shape[i] = e.varies[i] || !(seed % 2) ? e.shape[i] : 1;
        t->stride[i] = e.varies[i] ? stride : 0;
        if (e.varies[i]) stride *= e.shape[i];
    }
    t->data = test_guarded((size_t)stride * attend_dtype_bytes(t->dtype));
    int64_t last = e.rank && e.shape[e.rank - 1] ? e.shape[e.rank - 1] : 1;
    for (int64_t i = 0; i < stride; i++) attend_store(t, i, element(feature, seed, (uint64_t)i, i % last));
    return t->data;
}

/* About every second block of keys, for each row of offsets; indices behind the last are -1. */
static void make_list(const attend_problem *p, uint64_t seed, const attend_tensor *offsets, const attend_tensor *indices)
{
    const int64_t blocks = (p->seqlen_k + p->block_k - 1) / p->block_k, rows = offsets->shape[2];
    const int64_t batch = offsets->stride[0] ? offsets->shape[0] : 1, heads = offsets->stride[1] ? offsets->shape[1] : 1;
    int32_t *index = indices->data;
    int64_t count = 0;
    memset(index, 0xff, (size_t)p->block_list * sizeof *index);
    for (int64_t n = 0; n < batch * heads * rows; n++) {
        ((int64_t *)offsets->data)[n] = count;
        for (int64_t j = 0; j < blocks && n % rows + 1 < rows; j++)
            if (draw(seed, (uint64_t)(n * blocks + j)) % 2 && count < p->block_list) index[count++] = (int32_t)j;
    }
}

void test_features_make(const attend_problem *p, uint64_t seed, attend_feature_args *features, void **memory)
{
    for (int i = 0; i < ATTEND_FEATURE_TENSORS; i++) {
        const attend_feature_tensor feature = (attend_feature_tensor)i;
        memory[i] = feature == ATTEND_FEATURE_TENSOR_POSITIONS ? NULL : make_feature_tensor(p, feature, seed, attend_feature_tensor_of(features, feature));
    }
    if (p->block_list > 0 && features->block_offsets.data) make_list(p, seed, &features->block_offsets, &features->block_indices);
}
