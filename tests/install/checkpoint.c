/* Runs layer 0 of a checkpoint on five tokens and says what it decided. */
#include <attend/attend.h>
#include <attend/checkpoint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    attend_checkpoint *checkpoint = NULL;
    attend_checkpoint_layer *layer = NULL;
    attend_context *context = NULL;
    attend_plan *plan = NULL;
    attend_feature_args features = {.seqlens_q = NULL};
    attend_layer_args args = {.features = &features};
    if (argc != 2)
        return fprintf(stderr, "usage: %s FILE.safetensors | model.safetensors.index.json | FOLDER\n",
                       argv[0]),
               2;
    attend_status status = attend_checkpoint_open(argv[1], &checkpoint);
    if (!status) status = attend_checkpoint_decide(checkpoint, 0, NULL, &layer);
    if (!status) status = attend_checkpoint_load(layer, ATTEND_F32);
    if (status) return fprintf(stderr, "%s\n", attend_checkpoint_error_message()), 1;
    for (int i = 0; i < layer->decision_count; i++)
        printf("%s: %s\n", layer->decisions[i].of, layer->decisions[i].text);

    attend_problem problem = layer->problem;
    problem.batch = 1, problem.seqlen_q = 5;
    args.x =
        attend_tensor_3d(calloc((size_t)(5 * problem.hidden_size), 4), ATTEND_F32, 1, 5, problem.hidden_size);
    args.out =
        attend_tensor_3d(calloc((size_t)(5 * problem.output_size), 4), ATTEND_F32, 1, 5, problem.output_size);
    features.sinks = layer->sinks, features.relative_table = layer->relative_table,
    features.alibi_slopes = layer->alibi_slopes;
    status = attend_context_create(NULL, &context);
    if (!status) status = attend_layer_plan(context, &problem, &layer->weights, &plan);
    if (!status) status = attend_layer_forward(plan, &args);
    if (!status) status = attend_synchronize(context);
    if (status) return fprintf(stderr, "%s\n", attend_error_message()), 1;
    printf("%s on %s: [1, 5, %d]\n", layer->name.prefix, attend_context_device_name(context),
           (int)args.out.shape[2]);
    attend_plan_destroy(plan), attend_context_destroy(context);
    attend_checkpoint_free(layer), attend_checkpoint_close(checkpoint);
    free(args.x.data), free(args.out.data);
    return 0;
}
