/*
 * Words to the service manager, and its watchdog. libsystemd's sd_notify() waits when nobody reads the socket; a daemon
 * that serves people must not, so what does not fit is dropped: a status that comes too late is worth nothing.
 */
#pragma once

#include <systemd/sd-event.h>

/* "STATUS=...", as sd_notify(3). Does nothing without $NOTIFY_SOCKET. */
void sdd_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Send WATCHDOG=1 from the event loop, twice in the time the service manager allows ($WATCHDOG_USEC). 0 or a negative
 * errno; *ret_source stays NULL when no watchdog is asked for.
 */
int sdd_notify_watchdog(sd_event *event, sd_event_source **ret_source);
