/* The parser of headers, for safetensors.c only. */
#ifndef ATTEND_FILE_SAFETENSORS_HEADER_H
#define ATTEND_FILE_SAFETENSORS_HEADER_H

#include "file/safetensors.h"

/* Parses `length` bytes of text, which are followed by a NUL, and checks them against the size of
   file->input. Sets header, entries and count; after a failure attend_safetensors_close() frees them. */
attend_status attend_safetensors_parse(const char *text, int64_t length, attend_safetensors *file);

#endif
