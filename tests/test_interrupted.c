/* Long work: a terminal's stderr shows what goes on, and a command that is stopped leaves no file behind. */
#include "support/command.h"
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

/* What a comparison of some seconds writes to a terminal, all of it. */
static char *on_a_terminal(const char *option)
{
    enum { MOST = 1 << 16 };
    char *text = calloc(1, MOST);
    size_t used = 0;
    int terminal, status;
    pid_t child = forkpty(&terminal, NULL, NULL, NULL);
    assert_true(child >= 0);
    assert_non_null(text);
    if (child == 0) {
        execl(command(), "attend", "compare", "--random", "heads=4,seqlen_q=1536", LONG_WORK, option, (char *)NULL);
        _exit(127);
    }
    while (used + 1 < MOST) {
        ssize_t got = read(terminal, text + used, MOST - 1 - used);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break; /* EIO: the other side is closed */
        used += (size_t)got;
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 0);
    close(terminal);
    return text;
}

/* The stage, its seconds and a bar that only grows: "fp64 reference, 2 s [#######.............] 37 %". Returns how many were drawn. */
static int read_bars(const char *text, const char *stage)
{
    int drawn = 0, before = 0;
    char begin[64];
    snprintf(begin, sizeof begin, "\r\033[K%s, ", stage);
    for (const char *at = strstr(text, begin); at; at = strstr(at + 1, begin)) {
        char bar[32], tail[2];
        int seconds, percent, marks = 0;
        if (sscanf(at + strlen(begin), "%d s [%20[#.]] %d %1[%]", &seconds, bar, &percent, tail) != 4) continue; /* not begun */
        while (bar[marks] == '#') marks++;
        assert_int_equal(strlen(bar), 20);
        assert_int_equal(strspn(bar + marks, "."), 20 - marks);
        assert_in_range(percent, before, 100);
        assert_in_range(5 * marks, percent < 5 ? 0 : percent - 5, percent + 1); /* a mark is 5 %, what is shown is rounded */
        before = percent, drawn++;
    }
    return drawn;
}

static void progress_is_shown_on_a_terminal(void **state)
{
    (void)state;
    char *text = on_a_terminal(NULL);
    assert_true(read_bars(text, "attention on fp64 reference, 1 thread") > 1);
    assert_true(read_bars(text, "fp64 reference") > 1);
    const char *table = strstr(text, "\r\033[Kproblem"); /* the line is cleared before the table begins */
    assert_non_null(table);
    assert_null(strstr(table, " ["));
    assert_non_null(strstr(table, "within bounds"));
    free(text);
}

static void quiet_shows_none(void **state)
{
    (void)state;
    char *text = on_a_terminal("--quiet");
    assert_null(strchr(text, '\033'));
    free(text);
}

static void no_progress_is_shown_in_a_pipe(void **state)
{
    (void)state;
    test_expect(0, "", "compare --random heads=4,seqlen_q=1536 --device reference --threads 1");
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
        cmocka_unit_test(quiet_shows_none),
        cmocka_unit_test(no_progress_is_shown_in_a_pipe),
        cmocka_unit_test(a_stopped_command_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
