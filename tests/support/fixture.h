/* One test case: tensors in their layout, with NaN in all bytes that belong to no element and inputs that end where reading faults;
   runs on a device; checks against the reference. */
#ifndef ATTEND_TEST_SUPPORT_FIXTURE_H
#define ATTEND_TEST_SUPPORT_FIXTURE_H

#include "core/arguments.h"
#include "support/cases.h"

typedef struct test_memory {
    unsigned char *bytes; /* of an input, they end with it, and reading on faults */
    size_t size;
    attend_tensor tensor;
} test_memory;

typedef struct test_fixture {
    test_case c;
    attend_problem problem; /* resolved */
    attend_feature_args features;
    attend_attention_args args; /* with these features */
    int64_t *seqlens_q, *seqlens_k, *starts_k, *cu_seqlens_q, *cu_seqlens_k;
    test_memory q, k, v, out, lse;
    void *feature[ATTEND_FEATURE_TENSORS]; /* feature tensors' memory */
} test_fixture;

/* Memory for a tensor in a layout, all of it NaN; an input may broadcast its batch. */
void test_memory_make(test_memory *memory, attend_tensor tensor, bool input, test_layout layout);
void test_memory_free(test_memory *memory);
/* Where it first holds something that belongs to no element, in bytes from the tensor's start; PTRDIFF_MAX: nowhere. */
ptrdiff_t test_memory_written_outside(const test_memory *memory);
/* Rows before starts and from lengths on (NULL: none) become NaN. */
void test_forget_rows(const attend_tensor *tensor, const int64_t *starts, const int64_t *lengths);

void test_fixture_make(test_fixture *fixture, const test_case *c);
/* Makes the feature tensors of a resolved problem, without lists and positions; their memory is in `memory`, of guard.h. */
void test_features_make(const attend_problem *problem, uint64_t seed, attend_feature_args *features, void **memory);
void test_fixture_free(test_fixture *fixture);

/* The device under test: ATTEND_TEST_DEVICE (cpu, cuda, reference), cpu by default. */
attend_context *test_context(void);

/* Whether a row of the kernel table is to be tested: one of CUDA's that runs forward, on this device, with ATTEND_TEST_ROWS in its
   name. */
bool test_wants_row(const attend_kernel_info *row);
/* The same of one of a test's promises. fp16 and bf16 are one code: with ATTEND_TEST_SHORT a promise is tested on one of the two rows,
   and the next promise on the other. */
bool test_wants_promise(const attend_kernel_info *row, int promise);
/* 0: no CUDA device. */
int test_multiprocessors(const attend_context *context);

/* Features that some kernel of the context's device supports; all features for the reference. */
uint64_t test_supported(const attend_context *context);

/* Plans and runs; fails the test with the library's sentence on an error. */
void test_fixture_run(test_fixture *fixture, attend_context *context);

enum { TEST_SENTENCE = 512 };
/* Whether rule 1 and the LSE's bound hold, with rule_2 also rule 2, and nothing else was written; otherwise
   `sentence` says what fails. */
bool test_fixture_judge(const test_fixture *fixture, bool rule_2, attend_comparison *comparison, char sentence[TEST_SENTENCE]);

/* Fails the test, with the worst element, unless both rules hold and nothing else was written. */
attend_comparison test_fixture_check(const test_fixture *fixture);

#endif
