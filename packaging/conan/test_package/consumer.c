/* One query that attends to one key: the result is its value. */
#include <attend/attend.h>
#include <stdio.h>

int main(void)
{
    float q = 1, k = 2, v = 3, out = 0;
    attend_problem problem = {.batch = 1, .seqlen_q = 1, .seqlen_k = 1, .num_heads = 1, .head_dim = 1};
    attend_attention_args args = {.q = attend_tensor_4d(&q, ATTEND_F32, 1, 1, 1, 1),
                                  .k = attend_tensor_4d(&k, ATTEND_F32, 1, 1, 1, 1),
                                  .v = attend_tensor_4d(&v, ATTEND_F32, 1, 1, 1, 1),
                                  .out = attend_tensor_4d(&out, ATTEND_F32, 1, 1, 1, 1)};
    attend_context *context = NULL;
    attend_plan *plan = NULL;
    attend_status status = attend_context_create(&(attend_context_options){.device = ATTEND_CPU}, &context);
    if (!status) status = attend_attention_plan(context, &problem, &plan);
    if (!status) status = attend_attention_forward(plan, &args);
    if (!status) status = attend_synchronize(context);
    printf("%s: %g\n", attend_status_name(status), (double)out);
    attend_plan_destroy(plan);
    attend_context_destroy(context);
    return status || out != v;
}
