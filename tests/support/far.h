/* Tensors whose offsets exceed 32 bits: one axis of a small tensor gets a stride such that it spans 2^31
   elements and more, in memory of which only touched pages exist. */
#ifndef ATTEND_TEST_SUPPORT_FAR_H
#define ATTEND_TEST_SUPPORT_FAR_H

#include <attend/attend.h>

/* Zeroed memory that takes no pages until it is touched; NULL if the system refuses that much. */
typedef struct test_far_memory {
    void *(*reserve)(size_t bytes);
    void (*release)(void *memory, size_t bytes);
    int64_t most; /* bytes a tensor; beyond, strides are shorter, but its last element is as far */
} test_far_memory;

extern const test_far_memory test_far_host;

/* A field of args, weights or an inspection. */
typedef struct test_far_field {
    attend_tensor *tensor;
    int kept;    /* number of last axes that keep small strides */
    bool output; /* an output: its copy holds zeros */
    void *memory;
    size_t bytes;
} test_far_field;

/* Replaces a tensor by a copy in which one axis, chosen by `variation` among the possible ones, spans more
   than 2^31 elements; a tensor without such an axis stays. False if the system refuses the memory. */
bool test_far_spread(test_far_field *field, int variation, const test_far_memory *memory);
void test_far_free(test_far_field *field, const test_far_memory *memory);

/* Whether two tensors of the same shape have the same bits. */
bool test_far_equal(const attend_tensor *a, const attend_tensor *b);

#endif
