/* Findings with a place in the source, and the options that all of the engine reads. */
#ifndef SOFTGPU_ENGINE_FINDING_H
#define SOFTGPU_ENGINE_FINDING_H

#include "engine/engine.h"

extern sg_options sg_settings;

/* A finding at a place ("kernel.cu:12"): printed once for each kind and place, counted always. */
void sg_finding_at(const char *kind, const char *place, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* One finding, for the report: how often it fired, and its text. NULL beyond the last. */
const char *sg_finding_text(int64_t number, int64_t *times);

#endif
