/* What all rules of a layer use: notes of what was decided, and the entries of its tensors. */
#include "checkpoint/work.h"

#include <stdarg.h>
#include <stdio.h>

attend_status attend_note(attend_work *w, const char *of, const char *text, ...)
{
    char *sentence;
    va_list arguments;
    if (w->layer.decision_count == ATTEND_MAX_DECISIONS) return ATTEND_OK;
    va_start(arguments, text);
    int length = vasprintf(&sentence, text, arguments);
    va_end(arguments);
    if (length < 0) return attend_file_fail(ATTEND_OUT_OF_MEMORY, "no memory for a sentence");
    for (char *c = sentence; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?'; /* of hostile names */
    w->decisions[w->layer.decision_count++] = (attend_checkpoint_decision){of, sentence};
    w->layer.decisions = w->decisions;
    return ATTEND_OK;
}

attend_status attend_entry(attend_work *w, attend_slot slot, const attend_safetensors_entry **entry)
{
    const attend_safetensors *file;
    return attend_shards_find(&w->checkpoint->shards, w->tensors[slot], &file, entry);
}
