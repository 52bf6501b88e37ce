/* The number of threads that the process may use: the processors of its affinity mask, or fewer where a
   cgroup limits its time. */
#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>

/* The first line of a file, or false. */
static bool first_line(const char *path, char *line, int bytes)
{
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool read = fgets(line, bytes, file) != NULL;
    fclose(file);
    return read;
}

/* The number of processors that `quota` of every `period` microseconds keeps busy. */
static int limited(long long quota, long long period, int processors)
{
    if (quota <= 0 || period <= 0) return processors; /* -1 means no limit in version 1 */
    long long whole = quota / period + (quota % period != 0);
    return whole < processors ? (int)whole : processors;
}

/* The limit of one folder of the hierarchy: cpu.max in version 2, "max" for none; two files in version 1. */
static int limit_in(const char *folder, int processors)
{
    char path[1024], line[64];
    long long quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (first_line(path, line, sizeof line) && sscanf(line, "%lld %lld", &quota, &period) == 2)
        processors = limited(quota, period, processors);
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!first_line(path, line, sizeof line) || sscanf(line, "%lld", &quota) != 1) return processors;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!first_line(path, line, sizeof line) || sscanf(line, "%lld", &period) != 1) return processors;
    return limited(quota, period, processors);
}

/* The least limit of a cgroup and its parents; within a container, up to the container's own root. */
static int limit_along(const char *mount, char *name, int processors)
{
    char folder[960];
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", mount, name);
        processors = limit_in(folder, processors);
        char *slash = strrchr(name, '/');
        if (!slash || !*name) return processors;
        *slash = 0;
    }
}

int attend_cpu_limited_threads(const char *membership, const char *mount, int processors)
{
    char line[512], controllers[640];
    FILE *file = fopen(membership, "re");
    if (!file) return processors;
    while (fgets(line, sizeof line, file)) { /* "0::/name" in version 2, "4:cpu,cpuacct:/name" in version 1 */
        char *list = strchr(line, ':'), *name = list ? strchr(list + 1, ':') : NULL;
        if (!name) continue;
        *name++ = 0, list++;
        name[strcspn(name, "\n")] = 0;
        if (!strcmp(name, "/")) *name = 0;
        snprintf(controllers, sizeof controllers, ",%s,", list);
        if (*list && !strstr(controllers, ",cpu,")) continue;
        snprintf(controllers, sizeof controllers, "%s%s%s", mount, *list ? "/" : "", *list ? "cpu" : "");
        processors = limit_along(controllers, name, processors);
    }
    fclose(file);
    return processors;
}

int attend_cpu_usable_threads(void)
{
    return attend_cpu_limited_threads("/proc/self/cgroup", "/sys/fs/cgroup", attend_processors());
}
