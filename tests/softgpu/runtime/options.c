/* SOFTGPU_… environment variables: which virtual devices there are and how the engine runs. README.md lists them. */
#include "runtime/state.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void refuse(const char *variable, const char *text, const char *expected) {
    fprintf(stderr, "softgpu: %s: cannot read \"%s\"; expected %s\n", variable, text, expected);
    exit(2);
}

/* "512M" → 536870912; -1 if it is no size. */
static int64_t read_bytes(const char *text) {
    char *end;
    double value = strtod(text, &end);
    static const char units[] = "KMGT";
    if (end == text || value < 0) return -1;
    const char *unit = *end ? strchr(units, *end & ~0x20) : NULL;
    if (*end && (!unit || end[1])) return -1;
    for (const char *u = units; unit && u <= unit; u++) value *= 1024;
    return (int64_t)value;
}

static bool set_property(context *c, const char *key, const char *value) {
    sg_properties *p = &c->properties;
    int64_t bytes = read_bytes(value);
    if (strcmp(key, "name") == 0) return snprintf(p->name, sizeof p->name, "%s", value) > 0;
    if (strcmp(key, "compute") == 0) return sscanf(value, "%d.%d", &p->compute_major, &p->compute_minor) == 2;
    if (bytes < 0) return false;
    if (strcmp(key, "sms") == 0) return (p->multiprocessors = (int)bytes) > 0;
    if (strcmp(key, "memory") == 0) return (p->memory_bytes = bytes) > 0;
    if (strcmp(key, "l2") == 0) return (p->l2_bytes = bytes) > 0;
    if (strcmp(key, "busy") == 0) return c->busy = true;
    if (strcmp(key, "shared") == 0) return (p->shared_optin_bytes = bytes) > 0;
    return false;
}

/* "2*h100,sms=16,memory=1G,a100": groups of equal devices, each followed by the properties that it overrides. */
int read_devices(context contexts[MAX_DEVICES]) {
    static const char expected[] =
        "[count*]name[,key=value]…, name one of the engine's devices (a100, h100, …), "
        "key one of name, compute, sms, memory, l2, shared, busy";
    const char *text = getenv("SOFTGPU_DEVICES");
    if (!text) text = "a100";
    const char *cap = getenv("SOFTGPU_MEMORY");
    if (cap && read_bytes(cap) <= 0) refuse("SOFTGPU_MEMORY", cap, "a size such as 512M");
    char *list = strdup(text), *rest = list;
    int count = 0, group = 0;
    for (char *item; list && (item = strsep(&rest, ","));) {
        char *equals = strchr(item, '='), *star = strchr(item, '*');
        if (equals) {
            *equals = '\0';
            for (int i = group; i < count; i++)
                if (!set_property(&contexts[i], item, equals + 1)) refuse("SOFTGPU_DEVICES", text, expected);
            if (count == 0) refuse("SOFTGPU_DEVICES", text, expected);
            continue;
        }
        int copies = star ? atoi(item) : 1;
        const char *name = star ? star + 1 : item;
        if (strcmp(name, "none") == 0) continue;
        if (copies < 1 || count + copies > MAX_DEVICES) refuse("SOFTGPU_DEVICES", text, expected);
        for (group = count; copies-- > 0; count++) {
            contexts[count].index = count;
            if (!sg_properties_named(name, &contexts[count].properties)) refuse("SOFTGPU_DEVICES", text, expected);
        }
    }
    for (int i = 0; cap && i < count; i++)
        if (read_bytes(cap) < contexts[i].properties.memory_bytes) contexts[i].properties.memory_bytes = read_bytes(cap);
    free(list);
    return count;
}

static bool is_set(const char *variable, bool otherwise) {
    const char *value = getenv(variable);
    return value ? strcmp(value, "0") != 0 && *value : otherwise;
}

void read_options(sg_options *options) {
    const char *seed = getenv("SOFTGPU_SEED"), *threads = getenv("SOFTGPU_THREADS");
    *options = (sg_options){
        .checks = is_set("SOFTGPU_CHECKS", true),
        .seed = seed ? strtoull(seed, NULL, 0) : 1,
        .threads = threads ? atoi(threads) : 0,
        .report = getenv("SOFTGPU_REPORT"),
        .report_file = getenv("SOFTGPU_REPORT_FILE"),
        .coverage_file = getenv("SOFTGPU_COVERAGE"),
        .mma_rounds = is_set("SOFTGPU_MMA_ROUNDS", false),
    };
    if (options->report && strcmp(options->report, "text") != 0 && strcmp(options->report, "json") != 0)
        refuse("SOFTGPU_REPORT", options->report, "text or json");
    options->count = options->report || options->coverage_file || getenv("SOFTGPU_TIMELINE"); /* whose times are counted */
}
