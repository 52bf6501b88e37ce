/* attend: the command. Reads the command line, runs one command, prints its report, and turns its status into
 * an exit code. */
#include "tool/commands.h"
#include "tool/progress.h"
#include "file/fail.h"
#include "file/output.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* EXIT_USAGE for what the caller must change: bad input, or a problem that this build or device does not
   support. EXIT_FAILED for the rest. */
static int exit_code(attend_status status)
{
    switch (status) {
    case ATTEND_OK: return EXIT_DONE;
    case ATTEND_INVALID_ARGUMENT:
    case ATTEND_UNSUPPORTED:
    case ATTEND_BAD_FILE: return EXIT_USAGE;
    case ATTEND_IO_ERROR: return attend_file_failed_on_input() ? EXIT_USAGE : EXIT_FAILED;
    default: return EXIT_FAILED;
    }
}

/* Removes unfinished output files before the process ends. */
static void on_signal(int signal)
{
    attend_output_remove_all();
    raise(signal); /* SA_RESETHAND: the default action ends the process */
}

/* A file that is mapped into memory (--memory-limit) has become shorter, or its disk has failed. */
static void on_bus_error(int signal)
{
    static const char text[] = "\nattend: an input was truncated while it was read, or cannot be read\n";
    (void)signal;
    attend_output_remove_all();
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) _exit(EXIT_FAILED);
    _exit(EXIT_USAGE);
}

static void catch_signals(void)
{
    const int signals[] = {SIGINT,  SIGTERM, SIGHUP, SIGQUIT,
                           SIGXCPU, SIGPIPE}; /* SIGPIPE: nobody reads stdout any more, so no message */
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND | SA_NODEFER};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
    action.sa_handler = on_bus_error;
    sigaction(SIGBUS, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit becomes EFBIG from write() */
}

/* If stdin, stdout or stderr is closed, the next file opened would get its descriptor, and printed text would
   go into that file. So closed descriptors are occupied, in a way that reading or writing still fails. */
static void hold_descriptors(void)
{
    for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
        if (fcntl(i, F_GETFD) < 0 && open("/dev/null", i == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0) return;
}

static attend_status run(const options *options, report *report, bool *passed)
{
    *passed = true;
    switch (options->command) {
    case COMMAND_RUN:
    case COMMAND_ATTENTION: return command_compute(options, report);
    case COMMAND_COMPARE: return command_compare(options, report, passed);
    case COMMAND_BENCH: return command_bench(options, report);
    case COMMAND_INSPECT: return command_inspect(options, report);
    case COMMAND_ROTARY: return command_rotary(options, report, passed);
    case COMMAND_GRADIENTS: return command_gradients(options, report);
    case COMMAND_INFO: return command_info(options, report);
    }
    return ATTEND_OK;
}

/* Prints the message on stderr and, with --json, as an object on stdout. */
static int report_failure(const options *options, attend_status status)
{
    const char *name = options->name ? options->name : "";
    fprintf(stderr, "attend%s%s: %s\n", *name ? " " : "", name, attend_file_message());
    if (options->json) {
        report report = {0};
        report_begin(&report, options);
        report_text(&report, "status", NULL, attend_status_name(status), " ");
        report_text(&report, "error", NULL, attend_file_message(), " ");
        report_print(&report);
        report_end(&report);
    }
    return exit_code(status);
}

static int run_command(const options *options)
{
    report report;
    bool passed;
    report_begin(&report, options);
    progress_start(!options->quiet);
    attend_status status = run(options, &report, &passed);
    progress_stop();
    if (status == ATTEND_OK) status = report_print(&report);
    report_end(&report);
    if (status != ATTEND_OK) return report_failure(options, status);
    return passed ? EXIT_DONE : EXIT_OUTSIDE;
}

static int print_and_check(void) { return fflush(stdout) || ferror(stdout) ? EXIT_FAILED : EXIT_DONE; }

int main(int argc, char **argv)
{
    options options;
    hold_descriptors();
    catch_signals();
    if (argc < 2) {
        fputs("attend: no command; attend --help lists them\n", stderr);
        return EXIT_USAGE;
    }
    const bool help = !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help");
    if (help && argc == 2) {
        options_print_usage();
        return print_and_check();
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("attend %s\n", attend_version());
        return print_and_check();
    }
    attend_status status = help ? options_read(2, (char *[]){argv[2], "--help"}, &options)
                                : options_read(argc - 1, argv + 1, &options);
    if (status != ATTEND_OK) return report_failure(&options, status);
    if (options.help) {
        options_print_help(&options);
        return print_and_check();
    }
    return run_command(&options);
}
