/* Long work: a terminal's stderr shows what goes on, and a command that is stopped leaves no file behind. */
#include "support/files.h"
#include "file/npy.h"

#include <errno.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* The fp64 reference on one thread: seconds of work anywhere. */
#define LONG_WORK "--device", "reference", "--threads", "1"
enum { SEQLEN = 2048, HEADS = 8, DIM = 64 };

static const char *command(void) { return getenv("ATTEND_COMMAND") ? getenv("ATTEND_COMMAND") : ATTEND_COMMAND; }

static void progress_is_shown_on_a_terminal(void **state)
{
    (void)state;
    char text[1 << 16] = "";
    size_t used = 0;
    int terminal, status;
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    assert_true(child >= 0);
    if (child == 0) {
        execl(command(), "attend", "compare", "--random", "heads=8,seqlen_q=1536", LONG_WORK, (char *)NULL);
        _exit(127);
    }
    for (ssize_t got; used + 1 < sizeof text;) {
        got = read(terminal, text + used, sizeof text - 1 - used);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break; /* EIO: the other side is closed */
        used += (size_t)got;
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    text[used] = 0;
    const char *stage = strstr(text, "\r\033[Kfp64 reference, ");
    assert_non_null(stage);
    const char *table = strstr(stage, "\r\033[Kproblem"); /* the line is cleared before the table begins */
    assert_non_null(table);
    assert_non_null(strstr(table, "within bounds"));
    close(terminal);
}

static void write_zeros(const char *name)
{
    attend_output output;
    float *zeros = calloc((size_t)SEQLEN * HEADS * DIM, sizeof *zeros);
    assert_non_null(zeros);
    assert_int_equal(attend_output_open(test_path(name), &output), ATTEND_OK);
    assert_int_equal(attend_npy_write(&output, ATTEND_F32, 3, (int64_t[]){SEQLEN, HEADS, DIM}, zeros), ATTEND_OK);
    assert_int_equal(attend_output_finish(&output), ATTEND_OK);
    assert_int_equal(attend_output_commit(&output), ATTEND_OK);
    attend_output_close(&output);
    free(zeros);
}

/* Waits, at most half a minute, until the command's temporary file is there. */
static bool another_file_appears(int before)
{
    for (int i = 0; i < 3000; i++) {
        if (test_count_files() > before) return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return false;
}

static void a_stopped_command_leaves_nothing(void **state)
{
    (void)state;
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    write_zeros("x.npy");
    int before = test_count_files();
    for (int i = 0; i < 3; i++) {
        int status;
        const char *x = test_path("x.npy"), *o = test_path("o.npy");
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            execl(command(), "attend", "attention", "--q", x, "--k", x, "--v", x, "--output", o, "--quiet", LONG_WORK,
                  (char *)NULL);
            _exit(127);
        }
        assert_true(another_file_appears(before));
        assert_int_equal(kill(child, signals[i]), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signals[i]);
        assert_int_equal(test_count_files(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(progress_is_shown_on_a_terminal),
        cmocka_unit_test(a_stopped_command_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
