/*
 * The control thread: socket, heartbeats, cancels, and the two queues between it and the engine thread.
 */
#include "daemon/worker/worker.h"
#include "daemon/log.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/fault.h"

#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { TASKS_MAX = 256 };

uint64_t sdd_worker_post(struct sdd_worker *worker, struct sdp_writer *writer, uint64_t coalesce)
{
	struct sdd_worker_letter *letter = malloc(sizeof(*letter));
	const uint64_t one = 1;
	uint64_t number;

	if (!letter) {
		/* an answer that cannot be given would leave the front process waiting: end, and be started again */
		sdd_log(LOG_ERR, NULL, "out of memory");
		abort();
	}
	letter->writer = *writer;
	letter->coalesce = coalesce;
	*writer = SDP_WRITER_INIT;
	pthread_mutex_lock(&worker->lock);
	sdd_list_append(&worker->outbox, &letter->link);
	number = ++worker->n_posted;
	pthread_mutex_unlock(&worker->lock);
	if (write(worker->wake_fd, &one, sizeof(one)) < 0)
		return number; /* the counter is full: the control thread is awake */
	return number;
}

void sdd_worker_await_sent(struct sdd_worker *worker, uint64_t letter)
{
	struct timespec deadline;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec++;
	pthread_mutex_lock(&worker->lock);
	while (worker->n_sent < letter && !worker->quit)
		if (pthread_cond_timedwait(&worker->sent, &worker->lock, &deadline) != 0)
			break;
	pthread_mutex_unlock(&worker->lock);
}

/* All that was taken out of the outbox is in the kernel's hands. */
static void note_sent(struct sdd_worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	if (worker->n_sent != worker->n_taken) {
		worker->n_sent = worker->n_taken;
		pthread_cond_broadcast(&worker->sent);
	}
	pthread_mutex_unlock(&worker->lock);
}

static int send_letters(struct sdd_worker *worker)
{
	struct sdd_worker_letter *letter;
	struct sdd_list letters;
	uint64_t count;
	int r = 0;

	if (read(worker->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	sdd_list_init(&letters);
	pthread_mutex_lock(&worker->lock);
	while ((letter = sdd_list_first(&worker->outbox, struct sdd_worker_letter, link))) {
		sdd_list_remove(&letter->link);
		sdd_list_append(&letters, &letter->link);
		worker->n_taken++;
	}
	pthread_mutex_unlock(&worker->lock);
	while ((letter = sdd_list_first(&letters, struct sdd_worker_letter, link))) {
		sdd_list_remove(&letter->link);
		if (r == 0)
			r = sdp_connection_queue(worker->connection, &letter->writer,
						 letter->coalesce);
		sdp_writer_clear(&letter->writer);
		free(letter);
	}
	return r;
}

static int answer(struct sdd_worker *worker, struct sdp_writer *writer)
{
	int r = sdp_connection_queue(worker->connection, writer, 0);

	sdp_writer_clear(writer);
	return r;
}

static int refuse(struct sdd_worker *worker, uint32_t msgid, const struct sdp_error *error)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_failure(&writer, msgid, error);
	return answer(worker, &writer);
}

static void raise_flag(struct sdd_list *tasks, uint64_t job, enum sdp_method_id method)
{
	struct sdd_worker_task *task;

	sdd_list_for_each (task, tasks, link) {
		if (task->job != job)
			continue;
		if (method == SDP_METHOD_WORKER_CANCEL)
			atomic_store(&task->cancel, 1);
		else if (method == SDP_METHOD_WORKER_YIELD)
			atomic_store(&task->yield, 1);
		else
			atomic_store(&task->preview, 1);
	}
}

/* Cancel, yield, preview: a flag of the job's task, running or not. */
static int take_flag(struct sdd_worker *worker, const struct sdp_message *message,
		     const struct sdp_record *record)
{
	const uint64_t job = (uint64_t)sdp_record_int64(record, SDP_JOB_REFERENCE_JOB);
	struct sdp_writer writer = SDP_WRITER_INIT;

	pthread_mutex_lock(&worker->lock);
	raise_flag(&worker->running, job, message->method->id);
	raise_flag(&worker->tasks, job, message->method->id);
	pthread_mutex_unlock(&worker->lock);
	sdp_writer_response(&writer, message->msgid);
	return answer(worker, &writer);
}

static int take_ping(struct sdd_worker *worker, const struct sdp_message *message,
		     const struct sdp_record *record)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdp_writer_response(&writer, message->msgid);
	sdp_writer_string(&writer, "token", sdp_record_string(record, SDP_PING_TOKEN));
	sdp_writer_uint(&writer, "pulse", atomic_load(&worker->pulse));
	return answer(worker, &writer);
}

static int take_count(struct sdd_worker *worker, const struct sdp_message *message,
		      const struct sdp_record *record)
{
	struct sdp_writer writer = SDP_WRITER_INIT;

	sdd_worker_count(worker, message->msgid, record, &writer);
	return answer(worker, &writer);
}

static int take_plan(struct sdd_worker *worker, const struct sdp_message *message,
		     const struct sdp_record *record)
{
	struct sdp_writer writer = SDP_WRITER_INIT;
	struct sdp_error error = {0};

	if (sdd_worker_plan(message, record, &writer, &error) < 0)
		return refuse(worker, message->msgid, &error);
	return answer(worker, &writer);
}

/* Takes the message. */
static int take_task(struct sdd_worker *worker, struct sdp_message *message,
		     struct sdp_record *record)
{
	struct sdd_worker_task *task = calloc(1, sizeof(*task));

	if (!task) {
		sdp_message_free(message);
		return -ENOMEM;
	}
	task->message = message;
	task->record = record;
	if (message->method->id == SDP_METHOD_WORKER_RUN)
		task->job = (uint64_t)sdp_record_int64(record, SDP_WORKER_RUN_JOB);
	pthread_mutex_lock(&worker->lock);
	sdd_list_append(&worker->tasks, &task->link);
	pthread_cond_signal(&worker->changed);
	pthread_mutex_unlock(&worker->lock);
	return 0;
}

/* Takes the message. */
static int take_message(struct sdd_worker *worker, struct sdp_message *message)
{
	SDD_CLEANUP(sdp_message_freep) struct sdp_message *owned = message;
	struct sdp_record *record;
	struct sdp_error error;

	if (message->kind != SDP_REQUEST || !message->method || !message->method->internal)
		return -EPROTO;
	if (sdp_record_decode(message, message->method->params, SDP_STRICT, &record, &error) < 0)
		return refuse(worker, message->msgid, &error);
	switch (message->method->id) {
	case SDP_METHOD_WORKER_PING:
		return take_ping(worker, message, record);
	case SDP_METHOD_WORKER_COUNT:
		return take_count(worker, message, record);
	case SDP_METHOD_WORKER_YIELD:
	case SDP_METHOD_WORKER_REQUEST_PREVIEW:
	case SDP_METHOD_WORKER_CANCEL:
		return take_flag(worker, message, record);
	case SDP_METHOD_WORKER_PLAN:
		return take_plan(worker, message, record);
	default:
		return take_task(worker, sdd_steal_pointer(owned), record);
	}
}

/* 1 = goes on, 0 = the front process has closed the socket, negative = broken. */
static int receive(struct sdd_worker *worker)
{
	struct sdp_message *message;
	struct sdp_error error = {0};
	int r, popped;

	r = sdp_connection_read(worker->connection, &error);
	if (r == -ECONNRESET)
		return 0;
	if (r < 0)
		return r;
	while ((popped = sdp_connection_pop(worker->connection, &message, &error)) > 0) {
		r = take_message(worker, message);
		if (r < 0)
			return r;
	}
	return popped < 0 ? popped : 1;
}

static bool engine_has_ended(struct sdd_worker *worker)
{
	bool ended;

	pthread_mutex_lock(&worker->lock);
	ended = worker->engine_ended;
	pthread_mutex_unlock(&worker->lock);
	return ended;
}

static int control_loop(struct sdd_worker *worker)
{
	int r;

	for (;;) {
		struct pollfd fds[] = {
			{sdp_connection_fd(worker->connection),
			 sdp_connection_events(worker->connection), 0},
			{worker->wake_fd, POLLIN, 0},
		};

		const bool retries = sdp_connection_waits_for_others(worker->connection);

		if (poll(fds, 2, retries ? SDP_OTHERS_RETRY_MS : -1) < 0 && errno != EINTR)
			return -errno;
		if (fds[1].revents) {
			r = send_letters(worker);
			if (r < 0)
				return r;
			if (engine_has_ended(worker))
				return -EIO;
		}
		if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
			r = receive(worker);
			if (r <= 0)
				return r;
		}
		r = sdp_connection_write(worker->connection);
		if (r == -EPIPE || r == -ECONNRESET)
			return 0;
		if (r < 0)
			return r;
		if (r == 0)
			note_sent(worker);
	}
}

static void drop_queues(struct sdd_worker *worker)
{
	struct sdd_worker_task *task;
	struct sdd_worker_letter *letter;

	while ((task = sdd_list_first(&worker->tasks, struct sdd_worker_task, link))) {
		sdd_list_remove(&task->link);
		sdp_message_free(task->message);
		free(task);
	}
	while ((letter = sdd_list_first(&worker->outbox, struct sdd_worker_letter, link))) {
		sdd_list_remove(&letter->link);
		sdp_writer_clear(&letter->writer);
		free(letter);
	}
}

int sdd_worker_serve(int fd, const struct sdd_worker_options *options)
{
	const struct sdp_connection_options connection_options = {.inline_max = SDP_INLINE_MAX};
	struct sdd_worker worker = {.options = options, .wake_fd = -EBADF};
	struct sdd_worker_task *task;
	pthread_condattr_t monotonic;
	pthread_t thread;
	int r;

	sdd_list_init(&worker.tasks);
	sdd_list_init(&worker.running);
	sdd_list_init(&worker.outbox);
	sdd_list_init(&worker.models);
	sdd_list_init(&worker.counters);
	r = sdp_connection_new(fd, &connection_options, &worker.connection);
	if (r < 0)
		return r;
	worker.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&worker.lock, NULL);
	pthread_cond_init(&worker.changed, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&worker.sent, &monotonic);
	pthread_condattr_destroy(&monotonic);
	r = worker.wake_fd < 0 ? -errno
			       : -pthread_create(&thread, NULL, sdd_worker_engine_thread, &worker);
	if (r == 0) {
		r = control_loop(&worker);
		pthread_mutex_lock(&worker.lock);
		worker.quit = true;
		sdd_list_for_each (task, &worker.running, link)
			atomic_store(&task->cancel, 1);
		pthread_cond_signal(&worker.changed);
		pthread_cond_broadcast(&worker.sent);
		pthread_mutex_unlock(&worker.lock);
		pthread_join(thread, NULL);
	}
	drop_queues(&worker);
	sdd_worker_drop_counters(&worker);
	pthread_cond_destroy(&worker.sent);
	pthread_cond_destroy(&worker.changed);
	pthread_mutex_destroy(&worker.lock);
	sdd_close(worker.wake_fd);
	sdp_connection_free(worker.connection);
	return r;
}
