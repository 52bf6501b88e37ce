/* Reads clocks and /proc. */
#include "tool/measure.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static const char *with_unit(double value, double step, const char *const *units, int count,
                             const char *behind)
{
    static _Thread_local char texts[8][32];
    static _Thread_local int next;
    char *text = texts[next++ % 8];
    int unit = 0;
    while (value >= 0.9995 * step && unit + 1 < count) value /= step, unit++;
    snprintf(text, sizeof texts[0], "%.*f %s%s",
             unit == 0 || value >= 99.95 ? 0
             : value < 9.995             ? 2
                                         : 1,
             value, units[unit], behind);
    return text;
}

const char *time_text(double seconds)
{
    static const char *const units[] = {"ns", "µs", "ms", "s"};
    return with_unit(seconds * 1e9, 1000, units, 4, "");
}

static const char *of_bytes(double bytes, const char *behind)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB", "PB"};
    return with_unit(bytes, 1000, units, 6, behind);
}

static const char *of_flop(double flop, const char *behind)
{
    static const char *const units[] = {"FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"};
    return with_unit(flop, 1000, units, 7, behind);
}

const char *bytes_text(double bytes) { return of_bytes(bytes, ""); }
const char *flop_text(double flop) { return of_flop(flop, ""); }
const char *speed_text(double flop_per_second) { return of_flop(flop_per_second, "/s"); }
const char *traffic_text(double bytes_per_second) { return of_bytes(bytes_per_second, "/s"); }

/* The number of a line "Name: 123 kB" in a file of /proc; -1 if it is missing. */
static int64_t read_kilobytes(const char *path, const char *name)
{
    char line[256];
    int64_t kilobytes = -1;
    FILE *file = fopen(path, "r");
    if (!file) return -1;
    while (kilobytes < 0 && fgets(line, sizeof line, file))
        if (!strncmp(line, name, strlen(name)) && sscanf(line + strlen(name), ": %" SCNd64, &kilobytes) != 1)
            kilobytes = -1;
    fclose(file);
    return kilobytes;
}

void memory_peak_reset(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "w");
    if (!file) return;
    fputs("5", file);
    fclose(file);
}

int64_t memory_peak_bytes(void) { return read_kilobytes("/proc/self/status", "VmHWM") * 1024; }
int64_t memory_now_bytes(void) { return read_kilobytes("/proc/self/status", "VmRSS") * 1024; }
