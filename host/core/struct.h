/* The public structs as callers of any release pass them: sizes, reserved fields, reading and writing.
   attend.h has the rule; only this file applies it. */
#ifndef ATTEND_CORE_STRUCT_H
#define ATTEND_CORE_STRUCT_H

#include "core/status.h"

/* Every public struct and the bytes that it had in the first release with the rule. SIZED ones are passed
   with their size, RESERVING ones too, and have a field `reserved` that callers must leave zero; FROZEN ones
   are members of others or elements of callers' arrays. */
#define ATTEND_STRUCTS(SIZED, RESERVING, FROZEN) \
    RESERVING(attend_problem, 304)               \
    RESERVING(attend_context_options, 32)        \
    RESERVING(attend_compare_options, 24)        \
    RESERVING(attend_plan_options, 8)            \
    RESERVING(attend_rotary_args, 760)           \
    SIZED(attend_feature_args, 1000)             \
    SIZED(attend_attention_args, 408)            \
    RESERVING(attend_attention_grads, 496)       \
    SIZED(attend_feature_grads, 400)             \
    SIZED(attend_cache_append_args, 328)         \
    SIZED(attend_layer_args, 648)                \
    SIZED(attend_layer_weights, 1040)            \
    RESERVING(attend_layer_grads, 344)           \
    SIZED(attend_inspection, 624)                \
    SIZED(attend_merge_args, 264)                \
    SIZED(attend_lists, 40)                      \
    SIZED(attend_run, 24)                        \
    SIZED(attend_plan_memory, 24)                \
    SIZED(attend_explanation, 376)               \
    SIZED(attend_kernel_choice, 184)             \
    SIZED(attend_kernel_info, 64)                \
    SIZED(attend_kernel_resources, 32)           \
    SIZED(attend_layer_comparison, 320)          \
    SIZED(attend_rotary_comparison, 104)         \
    SIZED(attend_backward_comparison, 776)       \
    FROZEN(attend_gradient_comparison, 96)       \
    FROZEN(attend_comparison, 200)               \
    FROZEN(attend_cache, 624)                    \
    FROZEN(attend_tensor, 80)                    \
    FROZEN(attend_state, 240)                    \
    FROZEN(attend_element, 56)                   \
    FROZEN(attend_key_window, 24)                \
    FROZEN(attend_projection_work, 56)

typedef struct attend_struct {
    const char *name;
    size_t bytes, first;                /* size in this release and in the first */
    size_t reserved_at, reserved_bytes; /* bytes that callers must leave zero */
} attend_struct;

#define ATTEND_STRUCT_NUMBER(type, first) ATTEND_STRUCT_##type,
enum { ATTEND_STRUCTS(ATTEND_STRUCT_NUMBER, ATTEND_STRUCT_NUMBER, ATTEND_STRUCT_NUMBER) ATTEND_STRUCT_COUNT };

extern const attend_struct attend_structs[ATTEND_STRUCT_COUNT];

/* ATTEND_STRUCT(attend_problem) */
#define ATTEND_STRUCT(type) (&attend_structs[ATTEND_STRUCT_##type])

/* Fails if the argument called `name` is NULL or cannot have `bytes` bytes. */
attend_status attend_struct_check(const attend_struct *type, const char *name, const void *given,
                                  size_t bytes);

/* Copies a caller's struct. Fields that an older caller does not have become zero; fields that only a newer
   caller has must be zero. */
attend_status attend_struct_read(const attend_struct *type, const char *name, void *to, const void *from,
                                 size_t from_bytes);

/* Writes a result to a caller's checked struct: as many bytes as it has, with zeros for fields that are
   unknown here. */
void attend_struct_write(const attend_struct *type, void *to, size_t to_bytes, const void *from);

/* Fails if one of these reserved bytes of `name` is not zero. */
attend_status attend_reserved_check(const char *name, const void *reserved, size_t bytes);

#endif
