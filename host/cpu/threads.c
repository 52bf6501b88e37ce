/* How many threads the process may use: the processors of its affinity mask, or fewer where a cgroup (version 2) limits its time. */
#include "cpu.h"

#include <omp.h>
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

int attend_cpu_quota(const char *line, int processors)
{
    long long quota, period;
    if (sscanf(line, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0) return processors; /* "max 100000" */
    long long whole = (quota + period - 1) / period;
    return whole < processors ? (int)whole : processors;
}

int attend_cpu_usable_threads(void)
{
    char group[512], path[640], line[64];
    int processors = omp_get_num_procs();
    if (!first_line("/proc/self/cgroup", group, sizeof group)) return processors;
    char *name = group;
    while (*name && *name != '/') name++;
    name[strcspn(name, "\n")] = 0;
    /* A limit may stand at any level above; within a container its own root is all that can be seen. */
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", name);
        if (first_line(path, line, sizeof line)) processors = attend_cpu_quota(line, processors);
        char *slash = strrchr(name, '/');
        if (!slash || !*name) return processors;
        *slash = 0;
    }
}
