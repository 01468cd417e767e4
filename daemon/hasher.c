/*
 * The helper process that hashes; see hasher.h. Through the pipe come struct sdd_digest: of each file it read, and at the end of the
 * model, with the state 0.
 */
#include "daemon/hasher.h"
#include "daemon/hash-store.h"
#include "daemon/log.h"
#include "daemon/model-stamp.h"
#include "daemon/server.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/clock.h"
#include "daemon/watch.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

/* So much reading is worth to be written down before the model's end. */
static const uint64_t stored_after_us = 10 * 1000000;

void sdd_hasher_init(struct sdd_hasher *hasher)
{
	*hasher = (struct sdd_hasher){.fd = -EBADF, .digests = sdd_digests_new()};
}

/* The helper's own. */
struct helper {
	int fd;
	bool rests, has_news;
	uint64_t since_us, stored_us;
	const char *store;
	struct sdd_memo *digests; /* its copy of them */
};

static void tell(const struct helper *helper, const struct sdd_digest *digest)
{
	if (write(helper->fd, digest, sizeof(*digest)) != (ssize_t)sizeof(*digest))
		_exit(EXIT_FAILURE);
}

/* Where that is not possible they are known as long as the daemon runs. */
static void store(struct helper *helper)
{
	if (helper->has_news && *helper->store)
		sdd_hash_store_write(helper->store, helper->digests);
	helper->has_news = false;
	helper->stored_us = sdd_now_us();
}

static void found(void *userdata, const struct sdd_digest *digest)
{
	struct helper *helper = userdata;

	tell(helper, digest);
	sdd_memo_add(helper->digests, digest);
	helper->has_news = true;
	if (sdd_now_us() - helper->stored_us > stored_after_us)
		store(helper);
}

static void rest(void *userdata)
{
	struct helper *helper = userdata;
	const uint64_t worked_us = sdd_now_us() - helper->since_us;
	const struct timespec pause = {(time_t)(worked_us / 1000000),
				       (long)(worked_us % 1000000) * 1000};

	if (helper->rests)
		nanosleep(&pause, NULL);
	helper->since_us = sdd_now_us();
}

static _Noreturn void help(const char *path, struct sdd_hasher *hasher, int fd, pid_t parent)
{
	struct helper helper = {
		.fd = fd,
		.since_us = sdd_now_us(),
		.stored_us = sdd_now_us(),
		.store = hasher->store,
		.digests = &hasher->digests,
	};
	const struct sdd_hash_hooks hooks = {found, rest, &helper};
	struct sdd_digest digest = {0};
	int r;
	sigset_t none;

	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_FAILURE);
	/* a client whose connection ends must see it, whatever we still have open */
	if (dup3(fd, STDIN_FILENO, 0) < 0 || close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
		_exit(EXIT_FAILURE);
	helper.fd = STDIN_FILENO;
	helper.rests = setpriority(PRIO_PROCESS, 0, 19) < 0;
	r = sdd_model_hash(path, helper.digests, &hooks, digest.bytes);
	store(&helper);
	if (r < 0)
		_exit(EXIT_FAILURE);
	tell(&helper, &digest);
	_exit(EXIT_SUCCESS);
}

static void take(struct sdd_server *server)
{
	struct sdd_hasher *hasher = &server->hasher;
	struct sdd_digest digest;

	while (read(hasher->fd, &digest, sizeof(digest)) == (ssize_t)sizeof(digest)) {
		if (digest.state != 0) {
			sdd_memo_add(&hasher->digests, &digest);
			hasher->n_read++;
			continue;
		}
		memcpy(hasher->hash, digest.bytes, sizeof(hasher->hash));
		hasher->has_ended = true;
	}
}

static int on_pipe(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	struct sdd_server *server = userdata;

	take(server);
	/* what is left is read when it is reaped */
	if (revents & EPOLLHUP)
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static void forget_helper(struct sdd_hasher *hasher)
{
	hasher->io = sd_event_source_disable_unref(hasher->io);
	hasher->child = sd_event_source_disable_unref(hasher->child);
	hasher->fd = sdd_close(hasher->fd);
	hasher->pid = 0;
}

static int on_helper_exit(sd_event_source *source, const siginfo_t *info, void *userdata)
{
	struct sdd_server *server = userdata;
	struct sdd_hasher *hasher = &server->hasher;
	struct sdd_model *model = sdd_registry_known(&server->registry, hasher->model);
	const struct sdd_log_about about = {.model = hasher->model};

	take(server);
	forget_helper(hasher);
	if (!model) {
		sdd_hasher_kick(server);
		return 0;
	}
	/* files that changed meanwhile have a newer stamp, and their turn comes again */
	model->hash_stamp = hasher->stamp;
	model->hash[0] = '\0';
	if (!hasher->has_ended) {
		sdd_log(LOG_NOTICE, &about, "the model's files cannot be hashed");
	} else if (sdd_model_stamp(model->path) == hasher->stamp) {
		sdd_log(LOG_DEBUG, &about, "model hashed; of its files %zu were read",
			hasher->n_read);
		sdd_digest_text(hasher->hash, model->hash);
		server->registry.changes++;
	}
	sdd_watch_look(server);
	sdd_hasher_kick(server);
	return 0;
}

static int start(struct sdd_server *server, const struct sdd_model *model)
{
	struct sdd_hasher *hasher = &server->hasher;
	const pid_t parent = getpid();
	int pair[2], r;
	pid_t pid;

	if (pipe2(pair, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		help(model->path, hasher, pair[1], parent);
	sdd_close(pair[1]);
	if (pid < 0) {
		sdd_close(pair[0]);
		return -errno;
	}
	hasher->pid = pid;
	hasher->fd = pair[0];
	hasher->has_ended = false;
	hasher->n_read = 0;
	hasher->stamp = model->stamp;
	snprintf(hasher->model, sizeof(hasher->model), "%s", model->name);
	r = fcntl(hasher->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (r >= 0)
		r = sd_event_add_io(server->event, &hasher->io, hasher->fd, EPOLLIN, on_pipe,
				    server);
	if (r >= 0)
		r = sd_event_add_child(server->event, &hasher->child, pid, WEXITED, on_helper_exit,
				       server);
	/* clients come first */
	if (r >= 0)
		r = sd_event_source_set_priority(hasher->io, SD_EVENT_PRIORITY_IDLE);
	if (r < 0)
		sdd_hasher_clear(server);
	return r;
}

void sdd_hasher_clear(struct sdd_server *server)
{
	struct sdd_hasher *hasher = &server->hasher;
	const pid_t pid = hasher->pid;

	hasher->wanted = false;
	forget_helper(hasher);
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	sdd_memo_clear(&hasher->digests);
}

void sdd_hasher_kick(struct sdd_server *server)
{
	const struct sdd_hasher *hasher = &server->hasher;
	struct sdd_model *model, *next = NULL;
	int r;

	/* nobody asks for the rest of a model that has gone */
	if (hasher->pid > 0 && !sdd_registry_known(&server->registry, hasher->model))
		kill(hasher->pid, SIGKILL);
	if (!hasher->wanted || hasher->pid > 0 || server->stopping)
		return;
	/* the ones in memory first: of them people are most likely to ask */
	sdd_list_for_each (model, &server->registry.models, link)
		if (model->seen && model->hash_stamp != model->stamp &&
		    (!next || (model->state == SDP_MODEL_STATE_LOADED &&
			       next->state != SDP_MODEL_STATE_LOADED)))
			next = model;
	if (!next)
		return;
	r = start(server, next);
	if (r < 0)
		sdd_log(LOG_WARNING, NULL, "no process to hash models: %s", strerrordesc_np(-r));
}

static void read_store(struct sdd_hasher *hasher)
{
	int r;

	if (sdd_hash_store_path(hasher->store, sizeof(hasher->store)) < 0) {
		hasher->store[0] = '\0';
		return;
	}
	r = sdd_hash_store_read(hasher->store, &hasher->digests);
	if (r < 0)
		sdd_log(LOG_NOTICE, NULL, "%s is passed over, models are hashed again: %s",
			hasher->store,
			r == -EBADMSG ? "it is damaged"
			: r == -EPERM ? "others may write it"
				      : strerrordesc_np(-r));
}

void sdd_hasher_want(struct sdd_server *server)
{
	if (!server->hasher.wanted)
		read_store(&server->hasher);
	server->hasher.wanted = true;
	sdd_hasher_kick(server);
}
