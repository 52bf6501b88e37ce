/* attend_plan_explain() as a block of text and as JSON's "explain". */
#include "tool/explain.h"
#include "tool/library.h"
#include "file/fail.h"

#include <stdlib.h>

static void add_projections(const attend_explanation *e, cJSON *json)
{
    static const char *const names[] = {"q", "k", "v", "output"};
    if (!e->projection_count) return;
    cJSON *list = cJSON_AddArrayToObject(json, "projections");
    for (int i = 0; i < e->projection_count; i++) {
        const attend_projection_work *w = &e->projections[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToArray(list, item);
        cJSON_AddStringToObject(item, "name", names[i]);
        cJSON_AddNumberToObject(item, "rows", (double)w->rows);
        cJSON_AddNumberToObject(item, "in", (double)w->in);
        cJSON_AddNumberToObject(item, "out", (double)w->out);
        cJSON_AddNumberToObject(item, "call", w->call);
        cJSON_AddNumberToObject(item, "flops", w->flops);
        cJSON_AddNumberToObject(item, "bytes", w->bytes);
    }
    cJSON_AddStringToObject(json, "projection_library", e->projection_library);
}

static void add_choices(const attend_plan *plan, cJSON *json)
{
    cJSON *list = cJSON_AddArrayToObject(json, "not_chosen");
    attend_kernel_choice choice;
    for (size_t i = 0; attend_plan_choice(plan, i, &choice); i++) {
        if (choice.chosen || choice.chosen_unaligned) continue;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToArray(list, item);
        cJSON_AddStringToObject(item, "name", choice.name);
        cJSON_AddStringToObject(item, "dtype", attend_dtype_name(choice.dtype));
        cJSON_AddStringToObject(item, "reason", choice.reason);
    }
}

static cJSON *as_json(const attend_plan *plan, const attend_explanation *e)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"tile_q", e->tile_q},
                   {"tile_k", e->tile_k},
                   {"threads", e->threads},
                   {"shared_bytes", (double)e->shared_bytes},
                   {"splits", (double)e->splits},
                   {"blocks", (double)e->blocks},
                   {"blocks_at_once", (double)e->blocks_at_once},
                   {"host_bytes", (double)e->host_bytes},
                   {"device_workspace_bytes", (double)e->device_workspace_bytes},
                   {"device_staging_bytes", (double)e->device_staging_bytes},
                   {"pairs", e->pairs},
                   {"pairs_computed", e->pairs_computed},
                   {"flops", e->flops},
                   {"bytes", e->bytes},
                   {"turn_bytes", e->rope_bytes},
                   {"bytes_to_device", e->bytes_to_device},
                   {"bytes_to_host", e->bytes_to_host},
                   {"query_blocks", (double)e->query_blocks},
                   {"key_parts", (double)e->key_parts},
                   {"link_bytes_per_second", e->link_bytes_per_second},
                   {"transfer_seconds", e->transfer_seconds},
                   {"compute_seconds", e->compute_seconds}};
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "kernel", e->kernel);
    if (e->kernel_unaligned) cJSON_AddStringToObject(json, "kernel_unaligned", e->kernel_unaligned);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        cJSON_AddNumberToObject(json, numbers[i].name, numbers[i].value);
    cJSON_AddBoolToObject(json, "grouped", e->grouped);
    add_projections(e, json);
    add_choices(plan, json);
    return json;
}

attend_status explain_report(const attend_plan *plan, const attend_lists *lists, report *r)
{
    attend_explanation e;
    ATTEND_TRY(from_library(attend_plan_explain(plan, lists, &e)));
    cJSON_DeleteItemFromObjectCaseSensitive(r->object, "explain");
    cJSON_AddItemToObject(r->object, "explain", as_json(plan, &e));
    const size_t length = attend_plan_explain_text(plan, lists, NULL, 0);
    free(r->explanation);
    r->explanation = malloc(length + 1);
    if (!r->explanation) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for the explanation");
    attend_plan_explain_text(plan, lists, r->explanation, length + 1);
    return ATTEND_OK;
}
