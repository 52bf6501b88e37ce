/* Children that write to a pipe; the software device leaves the number of its findings in a file. */
#include "attend/forks.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

const char *forks_program;
char forks_text[1 << 16];

void forks_set_faults(const char *specification)
{
    void (*set)(const char *);
    *(void **)&set = dlsym(RTLD_DEFAULT, "softgpu_set_faults");
    assert_non_null(set);
    set(specification);
}

int64_t forks_calls(const char *kind)
{
    int64_t (*calls)(const char *);
    *(void **)&calls = dlsym(RTLD_DEFAULT, "softgpu_calls");
    assert_non_null(calls);
    return calls(kind);
}

static int child(const char *setting, const char *fault, int (*run)(const char *mode), const char *mode)
{
    for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL); /* cmocka would go on with the next test */
    if (!setting) {
        forks_set_faults(fault ? fault : "");
        return run(mode);
    }
    putenv((char *)setting);
    if (fault) setenv("SOFTGPU_FAULT", fault, 1);
    execl(forks_program, forks_program, mode, (char *)NULL);
    return 127;
}

int forks_run(const char *setting, const char *fault, int (*run)(const char *mode), const char *mode, int *findings)
{
    char file[] = "/tmp/attend-forks-XXXXXX", line[64];
    int status, ends[2], counts = mkstemp(file);
    size_t length = 0;
    assert_true(counts >= 0 && !pipe(ends));
    fflush(NULL);
    const pid_t process = fork();
    if (process == 0) {
        dup2(ends[1], 1), dup2(ends[1], 2), close(ends[0]), close(ends[1]);
        setenv("SOFTGPU_STATUS", file, 1);
        exit(child(setting, fault, run, mode));
    }
    close(ends[1]);
    for (ssize_t got; (got = read(ends[0], forks_text + length, sizeof forks_text - 1 - length)) > 0;) length += (size_t)got;
    forks_text[length] = 0;
    close(ends[0]);
    assert_true(process > 0 && waitpid(process, &status, 0) == process);
    FILE *lines = fdopen(counts, "r");
    *findings = 0;
    while (lines && fgets(line, sizeof line, lines)) *findings += atoi(line);
    if (lines) fclose(lines);
    unlink(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
