/* Design: caches of 8 bits. Caches of the problem's dtype, and appending, are in attend/cache.h. */
#ifndef ATTEND_DESIGN_CACHE_H
#define ATTEND_DESIGN_CACHE_H

#include <attend/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Joins attend_cache in the place of reserved bytes; a value is what is stored times its scale. fp8 (e4m3): f32
 * [num_kv_heads], the caller's, read by append and attention. int8: f32 [batch or pages, capacity or page_size,
 * num_kv_heads], written by append. */
typedef struct attend_cache_scales {
    attend_tensor k_scales, v_scales;
} attend_cache_scales;

#ifdef __cplusplus
}
#endif

#endif
