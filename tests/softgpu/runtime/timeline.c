/* SOFTGPU_TIMELINE: a line for each piece of work with its modelled begin and end, for draw_timeline. */
#include "runtime/stream.h"
#include <stdio.h>
#include <stdlib.h>

static const char *kind_of(const task *t, double *bytes, const char **name) {
    *bytes = 0, *name = t->what;
    switch (t->kind) {
    case TASK_KERNEL: return *name = t->kernel.function->name, "kernel";
    case TASK_COPY:
        *bytes = (double)t->copy.width * (double)t->copy.height * (double)t->copy.depth;
        return t->copy.kind == cudaMemcpyHostToDevice ? "in" : t->copy.kind == cudaMemcpyDeviceToHost ? "out" : "copy";
    case TASK_FILL: return "fill";
    case TASK_LIBRARY:
    case TASK_PLAN: return "kernel";
    default: return NULL;
    }
}

/* Called with the lock. */
void timeline_note(const stream *s, const task *t, double begin, double end) {
    static FILE *file;
    const char *path = getenv("SOFTGPU_TIMELINE"), *name;
    double bytes;
    const char *kind = kind_of(t, &bytes, &name);
    if (!path || !kind) return;
    if (!file) file = fopen(path, "w");
    if (!file) return;
    fprintf(file, "%d\t%llu\t%.3f\t%.3f\t%s\t%.0f\t%s\n", s->context->index, (unsigned long long)s->id, begin * 1e6, end * 1e6, kind, bytes,
            name);
    fflush(file);
}
