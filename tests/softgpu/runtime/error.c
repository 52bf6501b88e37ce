/* Names and sentences of CUDA's errors, from the table in errors.def. */
#include "runtime/state.h"
#include <string.h>

static const struct {
    cudaError_t error;
    const char *name, *sentence;
} errors[] = {
#define ERROR(error, sentence) {error, #error, sentence},
#include "runtime/errors.def"
#undef ERROR
};
enum { ERRORS = sizeof errors / sizeof errors[0] };
static const char unknown[] = "unrecognized error code";

const char *cudaGetErrorName(cudaError_t error) {
    for (int i = 0; i < ERRORS; i++)
        if (errors[i].error == error) return errors[i].name;
    return unknown;
}

const char *cudaGetErrorString(cudaError_t error) {
    for (int i = 0; i < ERRORS; i++)
        if (errors[i].error == error) return errors[i].sentence;
    return unknown;
}

cudaError_t error_named(const char *name, cudaError_t otherwise) {
    for (int i = 0; i < ERRORS; i++)
        if (strcmp(errors[i].name, name) == 0) return errors[i].error;
    return otherwise;
}
