/* attend info: version, build, devices and, with --kernels, the kernel table. */
#include "tool/commands.h"
#include "tool/device.h"
#include "tool/job.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

/* One line for a device: its name, or the library's message why it cannot be used. */
static void report_device(report *r, cJSON *devices, const char *label, const attend_context_options *options)
{
    attend_context *context = NULL;
    cJSON *device = cJSON_CreateObject();
    bool usable = attend_context_create(options, &context) == ATTEND_OK;
    const char *text = usable ? attend_context_device_name(context) : attend_error_message();
    cJSON_AddItemToArray(devices, device);
    cJSON_AddStringToObject(device, "device", label);
    cJSON_AddBoolToObject(device, "usable", usable);
    cJSON_AddStringToObject(device, usable ? "name" : "reason", text);
    if (usable && options->device == ATTEND_CUDA)
        cJSON_AddNumberToObject(device, "memory_bytes_per_second",
                                device_bytes_per_second(options->device_index));
    report_text(r, label, label, text, "%s", text);
    cJSON_DeleteItemFromObjectCaseSensitive(r->object, label); /* JSON has it in the list of devices */
    attend_context_destroy(context);
}

static void report_devices(const options *o, report *r)
{
    cJSON *devices = cJSON_CreateArray();
    attend_context *chosen = NULL;
    int count = attend_cuda_device_count();
    report_device(r, devices, "cpu", &(attend_context_options){.device = ATTEND_CPU, .threads = o->threads});
    report_device(r, devices, "cuda", &(attend_context_options){.device = ATTEND_CUDA});
    for (int i = 1; i < count; i++)
        report_device(r, devices, "cuda",
                      &(attend_context_options){.device = ATTEND_CUDA, .device_index = i});
    cJSON_AddItemToObject(r->object, "devices", devices);
    const attend_context_options options = {.device = o->device, .threads = o->threads};
    if (attend_context_create(&options, &chosen) == ATTEND_OK)
        report_text(r, "chosen", "chosen", attend_context_device_name(chosen), "%s",
                    attend_context_device_name(chosen));
    attend_context_destroy(chosen);
}

static const char *device_name(attend_device device)
{
    return device == ATTEND_CUDA ? "cuda" : device == ATTEND_CPU ? "cpu" : "reference";
}

static void cell_or_dash(report *r, int64_t value)
{
    if (value > 0 && value < INT64_MAX)
        report_cell(r, "%" PRId64, value);
    else
        report_cell(r, value > 0 ? "any" : "–");
}

enum { BUILD_FIGURES = 5, BUILD_TEXT = 64 };

/* ptxas's figures of a row, one for each architecture of the build: "220/224". */
static void report_builds(report *r, size_t index, cJSON *kernel)
{
    static const char *const keys[BUILD_FIGURES] = {"architecture", "registers", "spill_bytes",
                                                    "blocks_per_multiprocessor", "warps_per_multiprocessor"};
    char texts[BUILD_FIGURES][BUILD_TEXT] = {"", "", "", "", ""};
    cJSON *builds = cJSON_AddArrayToObject(kernel, "builds");
    attend_kernel_resources made;
    for (size_t n = 0; attend_kernel_resources_of(index, n, &made); n++) {
        const int64_t figures[BUILD_FIGURES] = {made.architecture, made.registers, made.spill_bytes,
                                                made.blocks, made.warps};
        cJSON *build = cJSON_CreateObject();
        cJSON_AddItemToArray(builds, build);
        for (int i = 0; i < BUILD_FIGURES; i++) {
            size_t length = strlen(texts[i]);
            cJSON_AddNumberToObject(build, keys[i], (double)figures[i]);
            snprintf(texts[i] + length, BUILD_TEXT - length, "%s%" PRId64, n ? "/" : "", figures[i]);
        }
    }
    for (int i = 0; i < BUILD_FIGURES; i++) report_cell(r, "%s", *texts[i] ? texts[i] : "–");
}

static void report_kernels(report *r)
{
    static const char *const heads[] = {"kernel",  "device",    "dtype",   "head_dim", "head_dim_v",
                                        "from sm", "tile_q",    "tile_k",  "threads",  "shared",
                                        "sm",      "registers", "spilled", "blocks",   "warps"};
    cJSON *kernels = cJSON_AddArrayToObject(r->object, "kernels");
    attend_kernel_info k;
    report_table(r, "lllrrrrrrrrrrrr");
    for (int i = 0; i < 15; i++) report_cell(r, "%s", heads[i]);
    for (size_t index = 0; attend_kernel(index, &k); index++) {
        const struct {
            const char *key;
            int64_t value;
        } numbers[] = {{"head_dim_max", k.head_dim_max},
                       {"head_dim_v_max", k.head_dim_v_max},
                       {"architecture_min", k.architecture_min},
                       {"tile_q", k.tile_q},
                       {"tile_k", k.tile_k},
                       {"threads", k.threads},
                       {"shared_bytes", k.shared_bytes}};
        cJSON *kernel = cJSON_CreateObject();
        cJSON_AddItemToArray(kernels, kernel);
        cJSON_AddStringToObject(kernel, "name", k.name);
        cJSON_AddStringToObject(kernel, "device", device_name(k.device));
        cJSON_AddStringToObject(kernel, "dtype", attend_dtype_name(k.dtype));
        cJSON *features = cJSON_AddArrayToObject(kernel, "features");
        for (int bit = 0; attend_feature_name(bit); bit++)
            if (k.features >> bit & 1)
                cJSON_AddItemToArray(features, cJSON_CreateString(attend_feature_name(bit)));
        report_cell(r, "%s", k.name);
        report_cell(r, "%s", device_name(k.device));
        report_cell(r, "%s", attend_dtype_name(k.dtype));
        for (int i = 0; i < 7; i++) {
            if (numbers[i].value < INT64_MAX)
                cJSON_AddNumberToObject(kernel, numbers[i].key, (double)numbers[i].value);
            cell_or_dash(r, numbers[i].value);
        }
        report_builds(r, index, kernel);
    }
}

/* The size of each kernel family's device code; 1 kB is 1000 bytes. */
static void report_device_code(report *r)
{
    const char *family;
    int64_t bytes, all = 0;
    char text[512] = "";
    cJSON *families = cJSON_AddArrayToObject(r->object, "device_code");
    for (size_t i = 0; attend_device_code(i, &family, &bytes); i++) {
        const size_t length = strlen(text);
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddItemToArray(families, entry);
        cJSON_AddStringToObject(entry, "family", family);
        cJSON_AddNumberToObject(entry, "bytes", (double)bytes);
        snprintf(text + length, sizeof text - length, "%s%s %.0f", length ? ", " : "", family,
                 (double)bytes / 1e3);
        all += bytes;
    }
    if (!all) return;
    char line[sizeof text + 32];
    snprintf(line, sizeof line, "%.0f kB: %s", (double)all / 1e3, text);
    report_fact(r, "device code", line);
}

attend_status command_info(const options *o, report *r)
{
    report_text(r, "version", "attend", attend_version(), "%s", attend_version());
    report_text(r, "compiler", "compiler", COMPILER, "%s", COMPILER);
    report_text(r, "build", "build", ATTEND_BUILD, "%s", ATTEND_BUILD);
    report_device_code(r);
    report_devices(o, r);
    if (o->kernels) report_kernels(r);
    return ATTEND_OK;
}
