/* Long work: a terminal's stderr shows what goes on, in one line, and a command that is stopped leaves no
 * file behind. */
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

static int count(const char *text, const char *part)
{
    int found = 0;
    for (const char *at = strstr(text, part); at; at = strstr(at + 1, part)) found++;
    return found;
}

/* What a comparison of some seconds writes to a terminal of that width: all of it, or until so many lines of
 * progress are drawn. */
static char *on_a_terminal(int columns, int lines, const char *option)
{
    enum { MOST = 1 << 16 };
    char *text = calloc(1, MOST);
    size_t used = 0;
    int terminal, status;
    const struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    pid_t child = forkpty(&terminal, NULL, NULL, &size);
    assert_true(child >= 0);
    assert_non_null(text);
    if (child == 0) {
        execl(command(), "attend", "compare", "--random", "heads=4,seqlen_q=1536", LONG_WORK, option, (char *)NULL);
        _exit(127);
    }
    while (used + 1 < MOST && (!lines || count(text, "\r\033[K") <= lines)) {
        ssize_t got = read(terminal, text + used, MOST - 1 - used);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break; /* EIO: the other side is closed */
        used += (size_t)got;
    }
    if (lines) kill(child, SIGTERM);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(lines || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    close(terminal);
    return text;
}

/* The stage, its seconds and a bar that only grows: "fp64 reference, 2 s [#######.............] 37 %, 1.2 MB of 3.1 MB, 600 KB/s, 4 s left".
 * What is moved is known where a run is drawn. Returns how many were drawn. */
static int read_bars(const char *text, const char *stage, bool moves)
{
    int drawn = 0, before = 0;
    char begin[64];
    snprintf(begin, sizeof begin, "\r\033[K%s, ", stage);
    for (const char *at = strstr(text, begin); at; at = strstr(at + 1, begin)) {
        char bar[32], tail[2], line[256], left[2][8];
        float numbers[4];
        int seconds, percent, marks = 0;
        if (sscanf(at + strlen(begin), "%d s [%20[#.]] %d %1[%]", &seconds, bar, &percent, tail) != 4) continue; /* not begun */
        while (bar[marks] == '#') marks++;
        assert_int_equal(strlen(bar), 20);
        assert_int_equal(strspn(bar + marks, "."), 20 - marks);
        assert_in_range(percent, before, 100);
        assert_in_range(5 * marks, percent < 5 ? 0 : percent - 5, percent + 1); /* a mark is 5 %, what is shown is rounded */
        before = percent, drawn++;
        if (percent < 2) continue;
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at + 1, "\r"), strchr(at, '%') + 1);
        if (moves ? sscanf(line, ", %f %*[KMGTB] of %f %*[KMGTB], %f %*[KMGTB/s], %f %7s %7s", &numbers[0], &numbers[1], &numbers[2], &numbers[3],
                           left[0], left[1]) != 6
                  : sscanf(line, ", %f %7s %7s", &numbers[0], left[0], left[1]) != 3)
            fail_msg("no rate or time left in \"%s\"", line);
        assert_int_equal(strncmp(left[1], "left", 4), 0);
    }
    return drawn;
}

static void progress_is_shown_on_a_terminal(void **state)
{
    (void)state;
    char *text = on_a_terminal(200, 0, NULL);
    assert_true(read_bars(text, "attention on fp64 reference, 1 thread", true) > 1);
    assert_true(read_bars(text, "fp64 reference", false) > 1);
    const char *table = strstr(text, "\r\033[Kproblem"); /* the line is cleared before the table begins */
    assert_non_null(table);
    assert_null(strstr(table, " ["));
    assert_non_null(strstr(table, "within bounds"));
    free(text);
}

/* A line that wraps is not cleared by the next one: a narrow terminal would fill with them. */
static void progress_takes_one_line_of_any_terminal(void **state)
{
    static const char begin[] = "\r\033[K";
    static const int widths[] = {40, 8};
    (void)state;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        char *text = on_a_terminal(widths[i], 5, NULL);
        int drawn = 0, cut = 0, bars = 0;
        for (char *at = strstr(text, begin), *next; at && (next = strstr(at + 1, begin));
             at = next, drawn++) {
            int columns = 0;
            for (const char *c = at + strlen(begin); c < next; c++)
                columns += ((unsigned char)*c & 0xc0) != 0x80;
            if (columns >= widths[i])
                fail_msg("%d columns on a terminal of %d: %.*s", columns, widths[i], (int)(next - at), at);
            *next = 0;
            cut += strstr(at, "…") != NULL, bars += strstr(at, "] ") != NULL;
            *next = '\r';
        }
        assert_true(drawn >= 5);
        assert_true(cut > 0);
        assert_true(widths[i] < 40 || bars > 0); /* the stage gives way to the bar */
        free(text);
    }
}

static void quiet_shows_none(void **state)
{
    (void)state;
    char *text = on_a_terminal(200, 0, "--quiet");
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

/* `attend … | head`: whoever reads has seen enough, so that is no failure to talk about. */
static void a_reader_that_has_left_ends_it_quietly(void **state)
{
    int ends[2], status;
    size_t size;
    (void)state;
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    const char *err = test_path("err");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen(err, "w", stderr) || dup2(ends[1], STDOUT_FILENO) < 0) _exit(126);
        execl(command(), "attend", "info", "--json", (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGPIPE);
    char *text = test_read_file(err, &size);
    assert_string_equal(text, "");
    free(text);
    remove(err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(progress_is_shown_on_a_terminal),
        cmocka_unit_test(progress_takes_one_line_of_any_terminal),
        cmocka_unit_test(quiet_shows_none),
        cmocka_unit_test(no_progress_is_shown_in_a_pipe),
        cmocka_unit_test(a_stopped_command_leaves_nothing),
        cmocka_unit_test(a_reader_that_has_left_ends_it_quietly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
