/* Reading what nvcc embeds: the fat binary's entries, and ptxas's figures in its cubins. Knows no engine. */
#ifndef SOFTGPU_RUNTIME_FATBINARY_H
#define SOFTGPU_RUNTIME_FATBINARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fat_image {
    const void *entry; /* in the program; the same image has the same */
    int capability;    /* 80, 90 */
} fat_image;

/* The PTX for a device of a compute capability: the highest target not above it; architecture-specific code (sm_90a)
   for exactly its own. Otherwise false and a sentence that says what the binary holds. Takes the registered wrapper. */
bool fat_find_ptx(const void *wrapper, int capability, fat_image *ptx, char *why, size_t why_bytes);
/* The machine code that a device of the capability would run; false if there is none. */
bool fat_find_cubin(const void *wrapper, int capability, fat_image *cubin);

/* The image's content, decompressed; free() it. NULL where memory is short or it is not what its header says. */
char *fat_read(const fat_image *image, size_t *bytes);

typedef struct cubin_kernel {
    const char *name;
    int registers;
    int64_t shared_bytes, stack_bytes;
} cubin_kernel;
/* Calls `visit` for each kernel of a cubin, in no particular order. */
void cubin_visit(const char *cubin, size_t bytes, int capability, void (*visit)(const cubin_kernel *kernel, void *context),
                 void *context);

#endif
