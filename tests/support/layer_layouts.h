/* Layers whose activations lie with gaps, over each other, or broadcast, wherever the memory is; see layer_layouts.c. */
#ifndef ATTEND_TEST_SUPPORT_LAYER_LAYOUTS_H
#define ATTEND_TEST_SUPPORT_LAYER_LAYOUTS_H

#include <attend/attend.h>
#include <stddef.h>

/* Where tensors lie while a plan has them: `enter` gives memory there with the host's bytes, `leave` brings them back and frees it.
   NULL for both: on the host. */
typedef struct test_place {
    void *(*enter)(const void *host, size_t bytes);
    void (*leave)(void *there, void *host, size_t bytes);
} test_place;

/* Runs all layouts on the context's device, each plan several times with another's run between; fails the test where a result is wrong, a
   byte between rows was written, or an input changed. */
void test_layer_layouts(attend_context *context, test_place place);

#endif
