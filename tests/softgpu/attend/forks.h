/* Runs of a test as processes of their own, with a fault each: forked from one that has loaded the kernels, which takes longer than
   most runs, or, with a setting of the software device, started anew. */
#ifndef SOFTGPU_ATTEND_FORKS_H
#define SOFTGPU_ATTEND_FORKS_H

#include <stdint.h>

extern const char *forks_program; /* set by main() */
extern char forks_text[1 << 16];  /* what the last run wrote, and the device about it */

/* The exit code of run(mode), with a fault ("copy:3") or NULL. With a setting ("SOFTGPU_SEED=3"), which is read when the device is
   loaded, the program is started with `mode` as its argument instead. *findings: of the device. */
int forks_run(const char *setting, const char *fault, int (*run)(const char *mode), const char *mode, int *findings);

/* Of this process; see runtime/queue.h. */
void forks_set_faults(const char *specification);
int64_t forks_calls(const char *kind);

#endif
