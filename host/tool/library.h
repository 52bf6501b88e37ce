/* Calls into the library from the command. */
#ifndef ATTEND_TOOL_LIBRARY_H
#define ATTEND_TOOL_LIBRARY_H

#include <attend/status.h>

/* Returns a status of the library and copies its message to the command's. */
attend_status from_library(attend_status status);

#endif
