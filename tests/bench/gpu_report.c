/* What scripts/gpu-check measured, folded into gpu.json, gpu.md and gpu.png. Its argument is the folder that the run
   writes into; it runs after each step, on what is there by then:
       machine.tsv, tests.tsv, skipped.tsv   key and value; name, status, seconds, note; what and why
       prefill.json, rows.json, decode.json, layer.json   what `attend bench --json` printed, one object behind another
       torch.json   PyTorch's times, one object a problem
       model.json   beside the run script: the software device's model, computed when the archive was made */
#include "tool/measure.h"
#include "tool/sweep.h"
#include "file/fail.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *folder;
static double sm, memory_rate; /* of the GPU; bytes a second; 0: unknown */

static char *read_file(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(strchr(name, '/') ? name : path, "rb");
    char *text = NULL;
    size_t size = 0, room = 0;
    while (file && !feof(file)) {
        if (room - size < 4096) text = realloc(text, room = 2 * room + 8192);
        if (!text) abort();
        size += fread(text + size, 1, room - size - 1, file);
    }
    if (file) fclose(file);
    if (text) text[size] = 0;
    return text;
}

/* Objects one behind another, as far as they are whole. */
static cJSON *read_objects(const char *name)
{
    cJSON *list = cJSON_CreateArray(), *object;
    char *text = read_file(name);
    const char *at = text, *end;
    while (at && (object = cJSON_ParseWithOpts(at, &end, false)))
        cJSON_AddItemToArray(list, object), at = end;
    free(text);
    return list;
}

/* Lines of fields between tabs, as objects. */
static cJSON *read_table(const char *name, const char *const *fields)
{
    cJSON *list = cJSON_CreateArray();
    char *text = read_file(name), *rest = text, *line;
    while (rest && (line = strsep(&rest, "\n"))) {
        cJSON *object = *line ? cJSON_CreateObject() : NULL;
        for (int i = 0; object && fields[i]; i++)
            cJSON_AddStringToObject(object, fields[i], line ? strsep(&line, "\t") : "");
        if (object) cJSON_AddItemToArray(list, object);
    }
    free(text);
    return list;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, key));
    return text ? text : "";
}

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItem(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static bool alike(const cJSON *a, const cJSON *b, const char *const *keys)
{
    for (; *keys; keys++) {
        const cJSON *left = cJSON_GetObjectItem(a, *keys), *right = cJSON_GetObjectItem(b, *keys);
        if ((left || right) && !cJSON_Compare(left, right, true)) return false;
    }
    return true;
}

/* ---- the model ---- */

/* Of a problem whose (batch, KV head) pairs are equal: a head's work grows with the length by two terms, squared and
   linear (decoding: linear and constant), which two lengths determine. */
static double extrapolate(const cJSON *model, const char *key, double seqlen, bool decodes)
{
    const cJSON *lengths = cJSON_GetObjectItem(model, "lengths"), *seconds = cJSON_GetObjectItem(model, key);
    const double x = cJSON_GetArrayItem(lengths, 0)->valuedouble,
                 y = cJSON_GetArrayItem(lengths, 1)->valuedouble;
    const double f = cJSON_GetArrayItem(seconds, 0)->valuedouble,
                 g = cJSON_GetArrayItem(seconds, 1)->valuedouble;
    if (decodes) return f + (g - f) * (seqlen - x) / (y - x);
    const double squared = (g / y - f / x) / (y - x), linear = f / x - squared * x;
    return (squared * seqlen + linear) * seqlen;
}

static void add_model(const cJSON *models, cJSON *row)
{
    static const char *const keys[] = {"dtype", "head_dim", "causal", "decode", NULL};
    const cJSON *model;
    const bool decodes = cJSON_IsTrue(cJSON_GetObjectItem(row, "decode"));
    cJSON_ArrayForEach(model, models)
    {
        if (number(model, "sm") != sm || !alike(model, row, keys)) continue;
        const double seqlen = number(row, "seqlen"),
                     heads = number(row, "batch") * number(row, "kv_heads") *
                             (decodes ? 1 : number(row, "heads") / number(row, "kv_heads"));
        const double busy = heads * extrapolate(model, "multiprocessor_seconds", seqlen, decodes) /
                            number(model, "multiprocessors");
        const double l2 = heads * extrapolate(model, "l2_seconds", seqlen, decodes),
                     bytes = 1e9 * number(row, "gbps") * number(row, "seconds"),
                     memory = memory_rate > 0 ? bytes / memory_rate : 0;
        const double modelled = fmax(memory, fmax(busy, l2));
        cJSON_AddNumberToObject(row, "model_seconds", modelled);
        cJSON_AddNumberToObject(row, "over_model", number(row, "seconds") / modelled);
    }
}

/* ---- PyTorch ---- */

static const char *const peers[] = {"cudnn", "flash", "efficient"};

/* Its fastest backend against attend in the same process, run by run in turn. */
static void add_torch(const cJSON *torch, cJSON *row)
{
    static const char *const keys[] = {"dtype", "head_dim", "seqlen",   "queries",     "causal",
                                       "batch", "heads",    "kv_heads", "hidden_size", NULL};
    const cJSON *peer;
    cJSON_ArrayForEach(peer, torch)
    {
        if (!alike(peer, row, keys)) continue;
        double best = 0;
        for (int i = 0; i < 3; i++) {
            char key[32];
            snprintf(key, sizeof key, "%s_seconds", peers[i]);
            const double seconds = number(peer, key);
            if (seconds > 0) cJSON_AddNumberToObject(row, key, seconds);
            if (seconds > 0 && (best == 0 || seconds < best)) best = seconds;
        }
        cJSON_AddNumberToObject(row, "beside_torch_seconds", number(peer, "attend_seconds"));
        if (best > 0) cJSON_AddNumberToObject(row, "torch_speedup", best / number(peer, "attend_seconds"));
    }
}

/* ---- all together ---- */

/* The points of one file of `attend bench` reports. */
static cJSON *read_points(const char *name, const cJSON *models, const cJSON *torch)
{
    cJSON *list = cJSON_CreateArray(), *reports = read_objects(name), *report, *point;
    cJSON_ArrayForEach(report, reports)
    {
        cJSON *sweep = cJSON_GetObjectItem(report, "sweep"), *one = cJSON_CreateArray();
        if (!sweep) cJSON_AddItemToArray(one, cJSON_Duplicate(report, true));
        const cJSON *points = sweep ? sweep : one;
        cJSON_ArrayForEach(point, points)
        {
            cJSON *row = cJSON_Duplicate(point, true);
            if (!sweep) {
                cJSON_AddNumberToObject(row, "seqlen", number(point, "seqlen_k"));
                cJSON_AddNumberToObject(row, "queries", number(point, "seqlen_q"));
                cJSON_ReplaceItemInObject(row, "causal",
                                          cJSON_CreateBool(strcmp(text_of(point, "causal"), "none") != 0));
            } else {
                cJSON_AddStringToObject(row, "dtype", text_of(report, "dtype"));
            }
            cJSON_AddBoolToObject(row, "decode", number(row, "queries") == 1);
            if (!cJSON_GetObjectItem(row, "hidden_size")) add_model(models, row);
            add_torch(torch, row);
            cJSON_AddItemToArray(list, row);
        }
        cJSON_Delete(one);
    }
    cJSON_Delete(reports);
    return list;
}

static const char *cell(const cJSON *row, const char *key)
{
    return number(row, key) > 0 ? time_text(number(row, key)) : "–";
}

static void print_ratio(FILE *to, const cJSON *row, const char *key)
{
    if (number(row, key) > 0)
        fprintf(to, " %.2f |", number(row, key));
    else
        fprintf(to, " – |");
}

static void print_points(FILE *to, const char *title, const cJSON *points)
{
    const cJSON *row;
    if (cJSON_GetArraySize(points) == 0) return;
    fprintf(to,
            "\n## %s\n\n| dtype | head_dim | keys | mask | batch | heads | kernel | time | TFLOP/s | GB/s | "
            "model | over model | naive | naive / attend |",
            title);
    fprintf(to, " cuDNN | flash | efficient | best / attend "
                "|\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    cJSON_ArrayForEach(row, points)
    {
        const char *kernel = text_of(row, "kernel");
        const char *mask = cJSON_IsTrue(cJSON_GetObjectItem(row, "decode"))   ? "decode"
                           : cJSON_IsTrue(cJSON_GetObjectItem(row, "causal")) ? "causal"
                                                                              : "full";
        fprintf(to, "| %s | %.0f | %.0f | %s | %.0f | %.0f/%.0f | %.*s | %s | %.1f | %.0f | %s |",
                text_of(row, "dtype"), number(row, "head_dim"), number(row, "seqlen"), mask,
                number(row, "batch"), number(row, "heads"), number(row, "kv_heads"),
                (int)strcspn(kernel, ","), kernel, cell(row, "seconds"), number(row, "tflops"),
                number(row, "gbps"), cell(row, "model_seconds"));
        print_ratio(to, row, "over_model");
        fprintf(to, " %s |", cell(row, "naive_seconds"));
        print_ratio(to, row, "speedup");
        for (int i = 0; i < 3; i++) {
            char key[32];
            snprintf(key, sizeof key, "%s_seconds", peers[i]);
            fprintf(to, " %s |", cell(row, key));
        }
        print_ratio(to, row, "torch_speedup");
        fprintf(to, "\n");
    }
}

static void print_tests(FILE *to, const cJSON *tests)
{
    int passed = 0, all = cJSON_GetArraySize(tests);
    const cJSON *test;
    cJSON_ArrayForEach(test, tests) passed += !strcmp(text_of(test, "status"), "passed");
    fprintf(to, "\n## Tests\n\n%d of %d passed.\n", passed, all);
    if (passed < all) fprintf(to, "\n| test | | seconds | |\n|---|---|---|---|\n");
    cJSON_ArrayForEach(test, tests) if (strcmp(text_of(test, "status"), "passed") != 0)
        fprintf(to, "| %s | %s | %s | %s |\n", text_of(test, "name"), text_of(test, "status"),
                text_of(test, "seconds"), text_of(test, "note"));
}

static void print_markdown(FILE *to, const cJSON *all)
{
    const cJSON *item;
    fprintf(to, "# attend on a GPU\n\n| | |\n|---|---|\n");
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(all, "machine"))
        fprintf(to, "| %s | %s |\n", text_of(item, "key"), text_of(item, "value"));
    print_tests(to, cJSON_GetObjectItem(all, "tests"));
    fprintf(to,
            "\nTimes are medians, by CUDA events. *model*: the software device's lower bound (of %s, with "
            "this GPU's memory);\n*over model*: measured by it. *naive*: cuBLAS, softmax, cuBLAS. *cuDNN*, "
            "*flash*, "
            "*efficient*: PyTorch's backends;\n*best / attend*: the fastest of them by attend beside it, run "
            "by run "
            "in turn.\n",
            *text_of(all, "model") ? text_of(all, "model") : "no such GPU");
    print_points(to, "Prefill", cJSON_GetObjectItem(all, "prefill"));
    print_points(to, "Decoding: one query", cJSON_GetObjectItem(all, "decode"));
    print_points(to, "The layer", cJSON_GetObjectItem(all, "layer"));
    print_points(to, "Rows of the kernel table that are not the first choice",
                 cJSON_GetObjectItem(all, "rows"));
    if (cJSON_GetArraySize(cJSON_GetObjectItem(all, "skipped")) > 0)
        fprintf(to, "\n## Skipped\n\n| | |\n|---|---|\n");
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(all, "skipped"))
        fprintf(to, "| %s | %s |\n", text_of(item, "what"), text_of(item, "why"));
}

static void draw(const cJSON *all, const char *title, attend_output *output)
{
    static sweep_series series[] = {
        {.name = "attend", .colour = SWEEP_ATTEND_COLOUR}, {.name = "model", .colour = 0xa9c4e4},
        {.name = "naive", .colour = SWEEP_NAIVE_COLOUR},   {.name = "cuDNN", .colour = 0x4f9d4f},
        {.name = "torch flash", .colour = 0x9467bd},       {.name = "torch efficient", .colour = 0x8c8c8c}};
    static const char *const keys[] = {"seconds",       "model_seconds", "naive_seconds",
                                       "cudnn_seconds", "flash_seconds", "efficient_seconds"};
    const cJSON *points = cJSON_GetObjectItem(all, "prefill"), *row;
    const char *dtype = text_of(cJSON_GetArrayItem(points, 0), "dtype");
    char text[256];
    cJSON_ArrayForEach(row, points)
    {
        const double flop = number(row, "tflops") * number(row, "seconds");
        for (int i = 0; i < SWEEP_DIMS * SWEEP_LENGTHS && !strcmp(text_of(row, "dtype"), dtype); i++) {
            const int dim = i / SWEEP_LENGTHS, length = i % SWEEP_LENGTHS;
            if (number(row, "head_dim") != (double)sweep_dims[dim] ||
                number(row, "seqlen") != (double)sweep_lengths[length])
                continue;
            for (int j = 0; j < 6; j++)
                if (number(row, keys[j]) > 0)
                    series[j].tflops[dim][cJSON_IsTrue(cJSON_GetObjectItem(row, "causal"))][length] =
                        flop / number(row, keys[j]);
        }
    }
    snprintf(text, sizeof text, "%s, %s", title, dtype);
    if (sweep_draw(series, 6, text, output) != ATTEND_OK)
        fprintf(stderr, "gpu_report: %s\n", attend_file_message());
}

/* Each file appears whole, under its name. */
static void write_all(const cJSON *all, const char *title)
{
    static const char *const names[] = {"gpu.json", "gpu.md", "gpu.png"};
    for (int i = 0; i < 3; i++) {
        char path[4096], *text = NULL;
        size_t bytes = 0;
        attend_output output;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        attend_status status = attend_output_open(path, &output);
        FILE *to = i == 1 ? open_memstream(&text, &bytes) : NULL;
        if (to) print_markdown(to, all), fclose(to);
        if (i == 0) text = cJSON_Print(all);
        if (status == ATTEND_OK && i == 2) draw(all, title, &output);
        if (status == ATTEND_OK && text) status = attend_output_write(&output, text, (int64_t)strlen(text));
        if (status == ATTEND_OK && i < 2) status = attend_output_finish(&output);
        if (status == ATTEND_OK) status = attend_output_commit(&output);
        if (status != ATTEND_OK) fprintf(stderr, "gpu_report: %s\n", attend_file_message());
        attend_output_close(&output);
        free(text);
    }
}

int main(int argc, char **argv)
{
    static const char *const machine[] = {"key", "value", NULL},
                             *const tests[] = {"name", "status", "seconds", "note", NULL},
                             *const skipped[] = {"what", "why", NULL};
    if (argc != 3) return fprintf(stderr, "usage: gpu_report FOLDER MODEL.json\n"), 2;
    folder = argv[1];
    cJSON *all = cJSON_CreateObject(), *models = read_objects(argv[2]), *torch = read_objects("torch.json"),
          *item;
    const cJSON *rows = cJSON_GetObjectItem(cJSON_GetArrayItem(models, 0), "rows");
    const char *name = "no GPU";
    cJSON_AddItemToObject(all, "machine", read_table("machine.tsv", machine));
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(all, "machine"))
    {
        if (!strcmp(text_of(item, "key"), "GPU")) name = text_of(item, "value");
        if (!strcmp(text_of(item, "key"), "sm")) sm = strtod(text_of(item, "value"), NULL);
        if (!strcmp(text_of(item, "key"), "memory B/s")) memory_rate = strtod(text_of(item, "value"), NULL);
    }
    cJSON_ArrayForEach(item, rows) if (number(item, "sm") == sm && !cJSON_GetObjectItem(all, "model"))
        cJSON_AddStringToObject(all, "model", text_of(item, "device"));
    cJSON_AddItemToObject(all, "tests", read_table("tests.tsv", tests));
    static const char *const files[] = {"prefill", "decode", "layer", "rows"};
    for (int i = 0; i < 4; i++) {
        char file[32];
        snprintf(file, sizeof file, "%s.json", files[i]);
        cJSON_AddItemToObject(all, files[i], read_points(file, rows, torch));
    }
    cJSON_AddItemToObject(all, "skipped", read_table("skipped.tsv", skipped));
    write_all(all, name);
    cJSON_Delete(all), cJSON_Delete(models), cJSON_Delete(torch);
    return 0;
}
