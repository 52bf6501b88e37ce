/* Options of positions: readers of rows of the table, and checks that options fit together. */
#ifndef ATTEND_TOOL_OPTIONS_POSITIONS_H
#define ATTEND_TOOL_OPTIONS_POSITIONS_H

#include "tool/options_table.h"

attend_status positions_read_rotary(const option_row *row, const char *text, options *options);
attend_status positions_read_rotary_base(const option_row *row, const char *text, options *options);
attend_status positions_read_rotary_scaling(const option_row *row, const char *text, options *options);
attend_status positions_read_first_position(const option_row *row, const char *text, options *options);
attend_status positions_read_qk_norm(const option_row *row, const char *text, options *options);
attend_status positions_read_absolute(const option_row *row, const char *text, options *options);
attend_status positions_read_absolute_base(const option_row *row, const char *text, options *options);

/* Checks the options of a layer. */
attend_status positions_check(const options *options);
/* Checks the options of attend rotary. */
attend_status positions_check_rotary(const options *options);

#endif
