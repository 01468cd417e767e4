/*
 * One datagram a message, never waited for; see notify.h.
 */
#include "daemon/notify.h"
#include "daemon/util/cleanup.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

void sdd_notify(const char *format, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	SDD_CLEANUP(sdd_closep) int fd = -EBADF;
	const size_t length = path ? strlen(path) : 0;
	char text[512];
	va_list ap;

	if (length < 2 || length >= sizeof(address.sun_path) || !strchr("/@", path[0]))
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		sendto(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
		       (const struct sockaddr *)&address,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}

static int on_watchdog(sd_event_source *source, uint64_t usec, void *userdata)
{
	uint64_t timeout_us;

	sdd_notify("WATCHDOG=1");
	if (sd_watchdog_enabled(0, &timeout_us) <= 0)
		return 0;
	sd_event_source_set_time_relative(source, timeout_us / 2);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int sdd_notify_watchdog(sd_event *event, sd_event_source **ret_source)
{
	uint64_t timeout_us;

	if (sd_watchdog_enabled(0, &timeout_us) <= 0)
		return 0;
	return sd_event_add_time_relative(event, ret_source, CLOCK_MONOTONIC, 0, 0, on_watchdog,
					  NULL);
}
