/*
 * What a job's explanation looks like: a sheet with the picture and, for each word of the prompt, where the picture looked at it.
 */
#pragma once

#include "client/sdctl/sdctl.h"

/*
 * Write the sheet of a job_result with words and maps to path ("-" = standard output) and list the words, or print the reply as JSON with
 * --json. Returns an exit code, having complained.
 */
int explain_save(const struct context *context, const sdc_reply *reply, const char *path);
