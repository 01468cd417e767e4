/*
 * A whole session of the daemon over a socketpair, its bytes sent in pieces of odd sizes, with a worker end that says
 * whatever the rest of the input holds. First byte: size of the pieces; second: how much of the input is the worker's.
 */
#include "daemon/server.h"
#include "daemon/log.h"
#include "daemon/session.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	const uint8_t *data;
	size_t size;
} worker_says;

static int spawn_stub(const struct sdd_config *config, int *ret_fd, pid_t *ret_pid)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	if (send(pair[1], worker_says.data, worker_says.size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		worker_says.size = 0;
	close(pair[1]);
	*ret_fd = pair[0];
	*ret_pid = 0;
	return 0;
}

static void turn(struct sdd_server *server)
{
	for (int i = 0; i < 50 && sd_event_run(server->event, 0) > 0; i++)
		;
}

static struct sdd_server *make_server(struct sdd_config *config)
{
	char folder[] = "/tmp/sdd-fuzz-XXXXXX";
	struct sdd_config_error error;
	struct sdd_server *server = NULL;
	char path[64];

	sdd_log_open("fuzz", LOG_EMERG);
	sdd_config_init(config);
	if (!mkdtemp(folder))
		return NULL;
	snprintf(path, sizeof(path), "%s/s", folder);
	if (sdd_config_set(config, "fuzz", "socket", path, &error) < 0 ||
	    sdd_config_set(config, "fuzz", "models", folder, &error) < 0 ||
	    sdd_config_set(config, "fuzz", "worker", "/nonexistent", &error) < 0 ||
	    sdd_config_set(config, "fuzz", "backend", "auto", &error) < 0 ||
	    sdd_config_set(config, "fuzz", "dtype", "auto", &error) < 0)
		return NULL;
	snprintf(path, sizeof(path), "%s/model_index.json", folder);
	fclose(fopen(path, "we"));
	return sdd_server_new(config, spawn_stub, &server) < 0 ? NULL : server;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sdd_config config;
	struct sdd_server *server;
	char gone[96], index_path[128];
	size_t piece, split;
	int pair[2];

	if (size < 2)
		return 0;
	piece = data[0] ? data[0] : 1;
	split = 2 + (size - 2) * data[1] / 255;
	worker_says.data = data + split;
	worker_says.size = size - split;
	server = make_server(&config);
	if (server && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
		sdd_session_accept(server, pair[0]);
		for (size_t at = 2; at < split; at += piece) {
			size_t n = split - at < piece ? split - at : piece;

			if (send(pair[1], data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
				break;
			turn(server);
		}
		close(pair[1]);
		turn(server);
	}
	sdd_server_free(server);
	snprintf(gone, sizeof(gone), "%s", config.roots[0] ? config.roots[0] : "");
	snprintf(index_path, sizeof(index_path), "%s/model_index.json", gone);
	unlink(index_path);
	snprintf(index_path, sizeof(index_path), "%s/s.lock", gone);
	unlink(index_path);
	rmdir(gone);
	sdd_config_clear(&config);
	return 0;
}
