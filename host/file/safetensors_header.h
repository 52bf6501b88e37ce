/* What safetensors.c asks of the header's text; no one else includes this. */
#ifndef ATTEND_FILE_SAFETENSORS_HEADER_H
#define ATTEND_FILE_SAFETENSORS_HEADER_H

#include "file/safetensors.h"

/* Parses and checks `length` bytes of text, with a NUL behind them, against the size of file->input; fills
   header, entries and count. What it has filled when it fails is freed by attend_safetensors_close(). */
attend_status attend_safetensors_parse(const char *text, int64_t length, attend_safetensors *file);

#endif
