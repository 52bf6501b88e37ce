/* Calls into the library from the command. */
#ifndef ATTEND_TOOL_LIBRARY_H
#define ATTEND_TOOL_LIBRARY_H

#include <attend/status.h>

/* Passes on a status of the library, with its sentence. */
attend_status from_library(attend_status status);

#endif
