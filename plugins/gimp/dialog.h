/*
 * The dialog of both GIMPs, written in the part of GTK that 2 and 3 share. It does not block the editor: the picture can
 * be worked on while a job runs, and it stays open for the next try.
 * With G_MESSAGES_DEBUG=sdd it tells on stdout what it shows: for tests, and for reports of what went wrong.
 */
#pragma once

#include "plugins/common/host.h"

/*
 * Until it is closed. host needs the four functions that touch the document; progress, preview and done are the dialog's.
 * settings are shown and, with each job, changed to what was chosen and remembered. gimp_ui_init() must have been called.
 */
void sdg_dialog_run(const struct sdh_host *host, struct sdh_settings *settings);
