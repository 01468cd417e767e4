/*
 * See watch.h. Watched anew after each event, since what is waited for changes: POLLOUT when a request did not fit into the socket.
 */
#include "plugins/gimp/watch.h"

#include <poll.h>

guint sdg_watch(int fd, int events, GIOFunc fn, gpointer userdata)
{
	GIOChannel *channel = g_io_channel_unix_new(fd);
	const guint id = g_io_add_watch(
		channel, (events & POLLOUT ? G_IO_OUT : 0) | G_IO_IN | G_IO_HUP | G_IO_ERR, fn,
		userdata);

	g_io_channel_unref(channel);
	return id;
}
