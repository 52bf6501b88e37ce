/* One copy of a function for each vector width, chosen when its library is loaded. */
#ifndef SOFTGPU_NUMBERS_CLONES_H
#define SOFTGPU_NUMBERS_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define SG_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define SG_VECTOR_CLONES
#endif

#endif
