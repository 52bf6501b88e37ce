/* Tensors that reach further than 32 bits count: one axis of a small tensor steps over 2^31 elements and more, through memory of which
   only the pages that are touched exist. */
#ifndef ATTEND_TEST_SUPPORT_FAR_H
#define ATTEND_TEST_SUPPORT_FAR_H

#include <attend/attend.h>

/* Memory that costs nothing until it is touched, zeros; NULL where the system refuses so much. */
typedef struct test_far_memory {
    void *(*reserve)(size_t bytes);
    void (*release)(void *memory, size_t bytes);
    int64_t most; /* bytes of one tensor; beyond, its steps are shorter, though its last element stays as far */
} test_far_memory;

extern const test_far_memory test_far_host;

/* A field of args, weights or an inspection. */
typedef struct test_far_field {
    attend_tensor *tensor;
    int kept;    /* last axes that never step far */
    bool output; /* its copy holds zeros */
    void *memory;
    size_t bytes;
} test_far_field;

/* Replaces a tensor by a copy of which one axis, chosen by `turn` among those that may, steps beyond 2^31 elements; one without such an
   axis stays. False where the system refuses. */
bool test_far_spread(test_far_field *field, int turn, const test_far_memory *memory);
void test_far_free(test_far_field *field, const test_far_memory *memory);

/* Whether two tensors of one shape hold the same bits. */
bool test_far_equal(const attend_tensor *a, const attend_tensor *b);

#endif
