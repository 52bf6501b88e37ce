/* The files that a command line names. */
#ifndef ATTEND_TOOL_OPTIONS_FILES_H
#define ATTEND_TOOL_OPTIONS_FILES_H

#include "tool/options.h"

/* Fails if an output would overwrite an input or another output. given: for each row of the table, whether
   the option is on the command line. */
attend_status files_check(const options *options, const bool *given);

#endif
