/* Every planted bug is reported with its kind and its source line, and its correct twin is silent. The expectations are the PLANTED
   comments in the sources, and the table below for mistakes of the host, which have no line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct {
    const char *name, *kind;
    int most; /* findings; 0: any number */
} host_cases[] = {
    {"leak", "leak", 0},
    {"too_many_threads", "launch limits", 0},
    {"too_much_shared", "launch limits", 0},
    {"copy_too_long", "out of bounds", 0},
    {"copy_of_unwritten", "uninitialised", 0},
    {"host_reads_early", "host read", 0},
    {"host_counts_too", "host write", 0},
    {"gemm_too_deep", "out of bounds", 0},
    {"gemm_of_unwritten", "uninitialised", 2}, /* A and B, not each column */
    {"gemm_misaligned", "misaligned", 0},
    {"gemm_workspace", "race", 0},
    {"gemm_workspace_tail", "race", 0},
};

static const char *const sources[] = {"planted_memory.cu", "planted_races.cu", "planted_barriers.cu", "planted_copies.cu", "planted_hopper.cu"};

typedef struct expectation {
    int most;
    char name[64], kind[64], place[96]; /* place: "file.cu:12", empty for the host's */
} expectation;

static expectation expectations[128];
static int count;

static void add(const char *name, const char *kind, int most, const char *file, int line)
{
    expectation *e = &expectations[count++];
    e->most = most;
    snprintf(e->name, sizeof e->name, "%s", name);
    snprintf(e->kind, sizeof e->kind, "%s", kind);
    if (file) snprintf(e->place, sizeof e->place, "%s:%d", file, line);
}

static void read_markers(const char *file)
{
    char path[1024], text[1024], name[64], kind[64];
    snprintf(path, sizeof path, "%s/%s", SOURCE_FOLDER, file);
    FILE *source = fopen(path, "r");
    assert_non_null(source);
    for (int line = 1; fgets(text, sizeof text, source); line++)
        for (const char *at = text; (at = strstr(at, "PLANTED(")); at++)
            if (sscanf(at, "PLANTED(%63[^:]: %63[^)])", name, kind) == 2) add(name, kind, 0, file, line);
    fclose(source);
}

/* Runs one case on the software device, where this test runs too: how many findings; in `text` what it printed, and its exit status if
   that is not 0. */
static int run(const char *name, const char *variant, const char *seed, char *text, size_t size)
{
    static const char findings[] = "planted.findings"; /* a number a process */
    char command[2048];
    int sum = 0, some;
    remove(findings);
    snprintf(command, sizeof command, "SOFTGPU_STATUS=%s SOFTGPU_SEED=%s '%s' %s %s 2>&1 </dev/null", findings, seed, PLANTED, name,
             variant);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t length = fread(text, 1, size - 1, pipe);
    int status = pclose(pipe);
    text[length] = 0;
    if (status) snprintf(text + length, size - length, "exit status %#x\n", status);
    FILE *file = fopen(findings, "r");
    while (file && fscanf(file, "%d", &some) == 1) sum += some;
    if (file) fclose(file);
    return sum;
}

/* "file.cu:12" not followed by another digit. */
static bool names_place(const char *text, const char *place)
{
    for (const char *at = text; (at = strstr(at, place)); at++) {
        char next = at[strlen(place)];
        if (next < '0' || next > '9') return true;
    }
    return false;
}

static const char *const seeds[] = {"1", "2", "3"};
enum { SEEDS = sizeof seeds / sizeof *seeds };

static void bugs_are_reported(void **state)
{
    (void)state;
    static char text[65536];
    int missed = 0;
    for (int i = 0; i < count; i++)
        for (int s = 0; s < SEEDS; s++) {
            const expectation *e = &expectations[i];
            int findings = run(e->name, "bug", seeds[s], text, sizeof text);
            bool found = findings && !(e->most && findings > e->most) && strstr(text, e->kind) && (!*e->place || names_place(text, e->place));
            if (found) continue;
            print_error("%s, seed %s: %d findings, expected \"%s\" at %s; it said:\n%s\n", e->name, seeds[s], findings, e->kind,
                        e->place, text);
            missed++;
            break;
        }
    if (missed) fail_msg("%d of %d planted bugs missed", missed, count);
}

static void correct_twins_are_silent(void **state)
{
    (void)state;
    static char text[65536];
    int reported = 0;
    for (int i = 0; i < count; i++)
        for (int s = 0; s < SEEDS; s++) {
            int findings = run(expectations[i].name, "twin", seeds[s], text, sizeof text);
            if (!findings && !*text) continue;
            print_error("%s, seed %s: %d findings; it said:\n%s\n", expectations[i].name, seeds[s], findings, text);
            reported++;
            break;
        }
    if (reported) fail_msg("%d of %d correct twins reported", reported, count);
}

int main(void)
{
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) read_markers(sources[i]);
    for (size_t i = 0; i < sizeof host_cases / sizeof *host_cases; i++) add(host_cases[i].name, host_cases[i].kind, host_cases[i].most, NULL, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bugs_are_reported),
        cmocka_unit_test(correct_twins_are_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
