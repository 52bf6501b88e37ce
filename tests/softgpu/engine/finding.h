/* Findings with a place in the source, and the options that all of the engine reads. */
#ifndef SOFTGPU_ENGINE_FINDING_H
#define SOFTGPU_ENGINE_FINDING_H

#include "engine/engine.h"

extern sg_options sg_settings;

enum { PLACE_BYTES = 480, FINDING_BYTES = 2048 }; /* of a place, and of what is wrong there: two more places and words */

/* A finding at a place ("kernel.cu:12"): printed once for each kind and place, counted always. */
void sg_finding_at(const char *kind, const char *place, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One without a line: of those that are of the same (a call's operand in an allocation, say) only the first is printed. */
void sg_finding_of(const char *kind, const char *same, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One finding, for the report: how often it fired, and its text. NULL beyond the last. */
const char *sg_finding_text(int64_t number, int64_t *times);

#endif
