/* Gradients of a job: memory for those that its problem has, a run backwards, and what judges them. */
#ifndef ATTEND_TOOL_GRADIENTS_H
#define ATTEND_TOOL_GRADIENTS_H

#include "tool/job.h"

enum { GRADIENTS = 8 };

typedef struct gradients {
    attend_attention_grads grads; /* `features` is set by gradients_run() */
    attend_feature_grads features;
    double seconds;
} gradients;

/* Gradient number `index`: its name in reports, its tensor, and the file that the options name for it. */
typedef struct gradient_row {
    const char *name;
    attend_tensor *tensor;
    const char *path;
} gradient_row;
gradient_row gradients_row(const options *options, gradients *gradients, int index);

/* Loads --dout and --dlse, or makes a random dout. Allocates the gradients that options name; with `all`
   those that the problem has. */
attend_status gradients_make(const options *options, job *job, bool all, gradients *gradients);
/* After a forward run with lse on a plan with `backward`. */
attend_status gradients_run(const job *job, const running *running, const outcome *outcome,
                            gradients *gradients);

#endif
