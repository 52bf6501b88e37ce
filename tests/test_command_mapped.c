/* With --memory-limit inputs come part by part and results go to their file as they are computed: the same bytes, in memory that does not
 * grow with them. On the device under test. */
#include "support/arrays.h"
#include "support/command.h"
#include "support/files.h"
#include "support/sanitized.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static const char *device(void)
{
    const char *name = getenv("ATTEND_TEST_DEVICE");
    return name ? name : "cpu";
}

static void expect_equal(const char *what, const char *a, const char *b)
{
    size_t sizes[2];
    char *one = test_read_file(test_path(a), &sizes[0]), *other = test_read_file(test_path(b), &sizes[1]);
    if (sizes[0] != sizes[1] || memcmp(one, other, sizes[0])) fail_msg("%s: %s and %s differ", what, a, b);
    free(one), free(other);
}

/* A tensor whose data begins at any byte, in a file of one or two. */
static void write_safetensors(const char *name, const float *data, size_t bytes, int header)
{
    char text[512];
    FILE *file = fopen(test_path(name), "wb");
    assert_non_null(file);
    int length = snprintf(text, sizeof text, "{\"q\":{\"dtype\":\"F32\",\"shape\":[2,5,4,8],\"data_offsets\":[0,%zu]}}", bytes);
    while (length < header) text[length++] = ' ';
    const uint64_t promised = (uint64_t)length;
    assert_true(fwrite(&promised, 8, 1, file) == 1 && fwrite(text, (size_t)length, 1, file) == 1 && fwrite(data, bytes, 1, file) == 1);
    assert_int_equal(fclose(file), 0);
}

static void results_have_the_same_bytes(void **state)
{
    static const char *const commands[] = {
        "attention " QKV " --causal=top-left --seqlens-k lengths.npy",
        "attention --q q16.npy --k k16.npy --v v16.npy",
        "attention --q q.npy --k k16.npy --v v16.npy --dtype f32", /* two are converted */
        "attention --q even.safetensors --k k.npy --v v.npy",
        "attention --q odd.safetensors:q --k k.npy --v v.npy", /* no float lies at a multiple of four there */
        "run " LAYER,
    };
    (void)state;
    attend_array q = test_read_npy("q.npy");
    const size_t bytes = (size_t)attend_array_elements(&q) * 4;
    write_safetensors("even.safetensors", q.data, bytes, 120), write_safetensors("odd.safetensors", q.data, bytes, 121);
    attend_array_free(&q);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        for (int format = 0; format < 2; format++) {
            if (getenv("ATTEND_TEST_SHORT") && (i != 0 || format)) continue; /* files know nothing of devices */
            const char *end = format ? "safetensors" : "npy";
            char names[4][32];
            for (int j = 0; j < 4; j++) snprintf(names[j], sizeof names[j], "%s%d.%s", j % 2 ? "lse" : "out", j / 2, end);
            test_expect(0, "", "%s --device %s --output %s --lse %s", commands[i], device(), names[0], names[1]);
            test_expect(0, "", "%s --device %s --output %s --lse %s --memory-limit 64M", commands[i], device(), names[2], names[3]);
            expect_equal(commands[i], names[0], names[2]);
            expect_equal(commands[i], names[1], names[3]);
            const int files = test_count_files();
            test_expect(0, "", "%s --device %s --output /dev/null --memory-limit 64M", commands[i], device()); /* cannot be mapped */
            assert_int_equal(test_count_files(), files);
        }
}

/* [1, rows, heads, 128] f32 zeros that take no room on the disk. */
static void write_sparse(const char *name, int64_t rows, int heads)
{
    char header[129];
    snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, %lld, %d, 128), }", (long long)rows, heads);
    FILE *file = fopen(test_path(name), "wb");
    assert_non_null(file);
    assert_true(fwrite("\x93NUMPY\x01\x00\x76\x00", 10, 1, file) == 1);
    assert_true(fprintf(file, "%-117s\n", header) == 118);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(truncate(test_path(name), 128 + rows * heads * 128 * 4), 0);
}

/* The command in a child with that much memory of its own, 0: any; its peak, pages of files included, in KB. */
static int run_within(rlim_t bytes, const char *limit, long *peak)
{
    struct rusage usage;
    int status;
    const char *command = getenv("ATTEND_COMMAND"), *path = command ? command : ATTEND_COMMAND;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (chdir(test_folder()) || !freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout)) _exit(126);
        if (setrlimit(RLIMIT_DATA, &(struct rlimit){bytes, bytes})) _exit(126);
        execl(path, "attend", "attention", "--q", "one.npy", "--k", "keys.npy", "--v", "keys.npy", "--output", "long.npy", "--threads", "1",
              "--device", device(), limit ? "--memory-limit" : NULL, limit, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    *peak = usage.ru_maxrss;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* 64 MiB of keys, which are the values, too: they are read twice. */
static void memory_is_the_limit_s_not_the_files(void **state)
{
    enum { KEYS = 1 << 17 };
    const rlim_t room = 48 << 20;
    long whole, parts;
    (void)state;
    if (TEST_SANITIZED || strcmp(device(), "cpu")) skip();
    write_sparse("one.npy", 1, 4), write_sparse("keys.npy", KEYS, 1);
    assert_int_equal(run_within(RLIM_INFINITY, NULL, &whole), 0);
    assert_true(whole > 2 * 64 << 10);
    assert_int_equal(run_within(room, NULL, &whole), 1);
    const int code = run_within(room, "16M", &parts);
    if (code) fail_msg("exit %d with %lld bytes of memory", code, (long long)room);
    if (parts > 40 << 10) fail_msg("%ld KB were resident", parts);
}

/* Waits, at most half a minute, until a process has mapped a file. */
static bool maps(pid_t process, const char *name)
{
    char path[64], line[8192];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)process);
    for (int i = 0; i < 3000; i++) {
        bool found = false;
        FILE *file = fopen(path, "r");
        while (file && !found && fgets(line, sizeof line, file)) found = strstr(line, name);
        if (file) fclose(file);
        if (found) return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

/* Minutes of work for the reference, which reads every value again for each query. */
static void a_file_that_becomes_shorter_is_said(void **state)
{
    int status;
    size_t size;
    const char *command = getenv("ATTEND_COMMAND"), *path = command ? command : ATTEND_COMMAND;
    (void)state;
    if (TEST_SANITIZED || strcmp(device(), "cpu")) skip();
    write_sparse("many.npy", 4096, 1), write_sparse("values.npy", 4096, 1);
    const int files = test_count_files();
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (chdir(test_folder()) || !freopen("err", "w", stderr)) _exit(126);
        execl(path, "attend", "attention", "--q", "many.npy", "--k", "many.npy", "--v", "values.npy", "--output", "never.npy", "--device",
              "reference", "--threads", "1", "--memory-limit", "1G", (char *)NULL);
        _exit(127);
    }
    assert_true(maps(child, "values.npy"));
    assert_int_equal(truncate(test_path("values.npy"), 128), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    char *text = test_read_file(test_path("err"), &size);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 2 || !strstr(text, "truncated while it was read"))
        fail_msg("exit %d, stderr \"%s\"", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), text);
    free(text);
    remove(test_path("err"));
    assert_int_equal(test_count_files(), files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_have_the_same_bytes),
        cmocka_unit_test(memory_is_the_limit_s_not_the_files),
        cmocka_unit_test(a_file_that_becomes_shorter_is_said),
    };
    return cmocka_run_group_tests(tests, test_write_inputs, NULL);
}
