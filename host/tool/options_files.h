/* The files that a command line names. */
#ifndef ATTEND_TOOL_OPTIONS_FILES_H
#define ATTEND_TOOL_OPTIONS_FILES_H

#include "tool/options.h"

/* That no output is written over an input, nor over another output. given: which rows of the table are. */
attend_status files_check(const options *options, const bool *given);

#endif
