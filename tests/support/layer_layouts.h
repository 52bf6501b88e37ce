/* Layers whose activations have gaps, overlap or are broadcast, in any kind of memory; see
   layer_layouts.c. */
#ifndef ATTEND_TEST_SUPPORT_LAYER_LAYOUTS_H
#define ATTEND_TEST_SUPPORT_LAYER_LAYOUTS_H

#include <attend/attend.h>
#include <stddef.h>

/* The location of tensors during a run: `enter` returns memory there with a copy of the host's bytes, `leave`
   copies them back and frees it. NULL for both: the host. */
typedef struct test_location {
    void *(*enter)(const void *host, size_t bytes);
    void (*leave)(void *there, void *host, size_t bytes);
} test_location;

/* Runs all layouts on the context's device, each plan several times, with another plan's runs between. Fails
   the test if a result is wrong, a byte between rows was written, or an input changed. */
void test_layer_layouts(attend_context *context, test_location location);

#endif
