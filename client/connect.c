/*
 * Finding the socket, connecting within a deadline, and hello.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/internal.h"

#define SYSTEM_SOCKET	   "/run/sdd/sdd.sock"
#define DEFAULT_TIMEOUT_MS 10000
#define INLINE_MAX	   ((size_t)1024 * 1024 * 1024) /* of an answer; we asked for it */

SDC_API size_t sdc_default_socket(char *buffer, size_t size)
{
	const char *set = getenv("SDD_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
	char user[sizeof(((struct sockaddr_un *)0)->sun_path)];

	if (!set || !set[0]) {
		set = SYSTEM_SOCKET;
		if (runtime && runtime[0] == '/' &&
		    snprintf(user, sizeof(user), "%s/sdd/sdd.sock", runtime) < (int)sizeof(user) &&
		    (access(user, F_OK) == 0 || access(SYSTEM_SOCKET, F_OK) < 0))
			set = user;
	}
	if (size > 0)
		snprintf(buffer, size, "%s", set);
	return strlen(set);
}

static int open_socket(const char *path, sdc_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return sdc_fail(error, SDC_E_CONNECT,
				"the socket's path is longer than %zu bytes: %s",
				sizeof(address.sun_path) - 1, path);
	memcpy(address.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return sdc_fail(error, SDC_E_SYSTEM, "cannot make a socket: %s", strerror(errno));
	/* a local connect either succeeds at once or fails; EAGAIN = the listener's backlog is full */
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int e = errno;

		close(fd);
		if (e == EAGAIN)
			return sdc_fail(error, SDC_E_BUSY, "sdd at %s accepts no more connections",
					path);
		if (e == EACCES || e == EPERM)
			return sdc_fail(error, SDC_E_PERMISSION, "not allowed to connect to %s",
					path);
		return sdc_fail(error, SDC_E_CONNECT, "no sdd listens at %s: %s", path,
				strerror(e));
	}
	return fd;
}

struct greeting {
	bool done;
	sdc_reply *reply;
	sdc_error error;
};

static void greeted(sdc_client *client, const sdc_reply *reply, const sdc_error *error,
		    void *userdata)
{
	struct greeting *g = userdata;

	g->done = true;
	if (reply)
		g->reply = sdc_reply_ref(reply);
	else
		g->error = *error;
}

static int put_hello(sdc_client *client, sdc_request *request, const char *program,
		     sdc_error *error)
{
	msgpack_object api[2] = {
		{.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = SDP_API_MINIMUM},
		{.type = MSGPACK_OBJECT_POSITIVE_INTEGER, .via.u64 = SDP_API_LEVEL},
	};
	msgpack_object feature = {.type = MSGPACK_OBJECT_STR, .via.str = {2, "fd"}};
	msgpack_object list = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {2, api}};
	struct sdp_error why = {0};
	int r;

	r = sdc_request_set_string(request, "client", program ? program : "libsdclient", error);
	if (r >= 0)
		r = sdc_request_set_string(request, "version", SDD_VERSION, error);
	if (r < 0)
		return r;
	r = sdp_record_put(request->record, SDP_HELLO_API, &list, &why);
	if (r >= 0 && !(client->flags & SDC_INLINE_PIXELS)) {
		list.via.array = (msgpack_object_array){1, &feature};
		r = sdp_record_put(request->record, SDP_HELLO_FEATURES, &list, &why);
	}
	return r < 0 ? sdc_fail_with(error, &why) : 0;
}

static int say_hello(sdc_client *client, const char *program, int64_t deadline_ms, sdc_error *error)
{
	sdc_request *request = sdc_request_new("hello", error);
	struct greeting g = {0};

	if (!request)
		return error->code;
	int r = put_hello(client, request, program, error);
	int64_t call = r < 0 ? r : sdc_call_async(client, request, greeted, &g, error);
	sdc_request_free(request);
	if (call < 0)
		return (int)call;
	r = sdc_client_wait(client, &g.done, deadline_ms, error);
	if (r < 0) {
		sdc_call_forget(client, call);
		sdc_reply_free(g.reply);
		return r;
	}
	if (!g.reply) {
		*error = g.error;
		return error->code;
	}
	client->hello = g.reply;
	return 0;
}

int sdc_client_adopt(int fd, const char *program, unsigned flags, int timeout_ms,
		     sdc_client **ret_client, sdc_error *error)
{
	struct sdp_connection_options options = {.inline_max = INLINE_MAX, .inline_results = true};
	sdc_client *client = calloc(1, sizeof(*client));

	if (!client) {
		close(fd);
		return sdc_fail(error, SDC_E_NO_MEMORY, "out of memory");
	}
	client->flags = flags;
	client->next_id = 1;
	if (sdp_connection_new(fd, &options, &client->connection) < 0) {
		free(client);
		return sdc_fail(error, SDC_E_NO_MEMORY, "out of memory");
	}
	int r = say_hello(client, program,
			  sdc_deadline(timeout_ms < 0 ? DEFAULT_TIMEOUT_MS : timeout_ms), error);
	if (r < 0) {
		sdc_client_free(client);
		return r;
	}
	*ret_client = client;
	return 0;
}

SDC_API int sdc_connect(const char *socket_path, const char *program, unsigned flags,
			int timeout_ms, sdc_client **ret_client, sdc_error *ret_error)
{
	char path[4096];
	sdc_error local;

	if (!ret_error)
		ret_error = &local;
	if (!socket_path) {
		sdc_default_socket(path, sizeof(path));
		socket_path = path;
	}
	int fd = open_socket(socket_path, ret_error);
	if (fd < 0)
		return fd;
	return sdc_client_adopt(fd, program, flags, timeout_ms, ret_client, ret_error);
}
