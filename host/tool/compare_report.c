/* The comparison as a table, or as JSON's "tensors" and "passed". */
#include "tool/compare_report.h"

#include <inttypes.h>
#include <stdio.h>

void compare_begin(report *r)
{
    static const char *const heads[] = {"of",        "tensor",        "rule 1", "rule 2",   "max error",
                                        "rms error", "worst element", "actual", "expected", "bound"};
    report_table(r, "llrrrrlrrr");
    for (int i = 0; i < 10; i++) report_cell(r, "%s", heads[i]);
}

static void table_ratio(report *r, double ratio)
{
    if (ratio < 0)
        report_cell(r, "–");
    else
        report_cell(r, ratio < 1000 ? "%.3f" : "%.2e", ratio);
}

static void table_error(report *r, double error)
{
    if (error < 0)
        report_cell(r, "–");
    else
        report_cell(r, "%.2e", error);
}

/* "(0, 3, 17, 5)", one index for each axis of the tensor. */
static void table_place(report *r, const attend_element *e)
{
    char text[128];
    int used = snprintf(text, sizeof text, "(%" PRId64, e->batch);
    if (e->head >= 0) used += snprintf(text + used, sizeof text - (size_t)used, ", %" PRId64, e->head);
    used += snprintf(text + used, sizeof text - (size_t)used, ", %" PRId64, e->row);
    if (e->column >= 0) used += snprintf(text + used, sizeof text - (size_t)used, ", %" PRId64, e->column);
    snprintf(text + used, sizeof text - (size_t)used, ")");
    report_cell(r, "%s", text);
    report_cell(r, "%.9g", e->actual);
    report_cell(r, "%.9g", e->expected);
    if (e->bound < 0)
        report_cell(r, "–");
    else
        report_cell(r, "%.2e", e->bound);
}

static void json_place(cJSON *tensor, const attend_element *e, double ratio)
{
    cJSON *worst = cJSON_AddObjectToObject(tensor, "worst");
    cJSON_AddNumberToObject(worst, "batch", (double)e->batch);
    if (e->head >= 0) cJSON_AddNumberToObject(worst, "head", (double)e->head);
    cJSON_AddNumberToObject(worst, "row", (double)e->row);
    if (e->column >= 0) cJSON_AddNumberToObject(worst, "column", (double)e->column);
    report_json_number(worst, "actual", e->actual);
    report_json_number(worst, "expected", e->expected);
    if (e->bound >= 0) report_json_number(worst, "bound", e->bound);
    if (ratio >= 0) report_json_number(worst, "ratio", ratio);
}

void compare_line(report *r, const compared *l)
{
    cJSON *tensors = cJSON_GetObjectItemCaseSensitive(r->object, "tensors"), *tensor = cJSON_CreateObject();
    if (!tensors) tensors = cJSON_AddArrayToObject(r->object, "tensors");
    cJSON_AddItemToArray(tensors, tensor);
    cJSON_AddStringToObject(tensor, "of", l->side);
    cJSON_AddStringToObject(tensor, "tensor", l->tensor);
    if (l->bound_ratio >= 0) report_json_number(tensor, "bound_ratio", l->bound_ratio);
    if (l->quality_ratio >= 0) report_json_number(tensor, "quality_ratio", l->quality_ratio);
    if (l->max_error >= 0) report_json_number(tensor, "max_error", l->max_error);
    if (l->rms_error >= 0) report_json_number(tensor, "rms_error", l->rms_error);
    if (l->worst) json_place(tensor, l->worst, l->bound_ratio);

    report_cell(r, "%s", l->side);
    report_cell(r, "%s", l->tensor);
    table_ratio(r, l->bound_ratio);
    table_ratio(r, l->quality_ratio);
    table_error(r, l->max_error);
    table_error(r, l->rms_error);
    if (l->worst)
        table_place(r, l->worst);
    else
        for (int i = 0; i < 4; i++) report_cell(r, i ? "–" : "");
}

void compare_end(report *r, bool passed)
{
    cJSON_AddBoolToObject(r->object, "passed", passed);
    report_text(r, "verdict", "verdict", passed ? "within bounds" : "outside bounds", "%s",
                passed ? "within bounds: every ratio to the fp64 reference is at most 1"
                       : "OUTSIDE BOUNDS: a ratio to the fp64 reference is above 1");
}
