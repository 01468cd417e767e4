/*
 * A real sdd on a private socket in a private folder, for tests that behave like clients, good and bad. Paths come from
 * the environment that meson sets: SDD_TEST_SDD, SDD_TEST_WORKER, SDD_TEST_MODEL (a model folder), SDD_TEST_OPTIONS (more
 * options for every sdd). Tests that paint skip themselves when there is no worker (a build without the engine).
 */
#pragma once

/* cmocka wants these first */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "client/sdclient.h"
#include "protocol/connection.h"

#include <stdbool.h>
#include <sys/types.h>

#define HARNESS_MODEL	 "tiny"
#define HARNESS_SKETCHED "sketched"

struct daemon {
	char folder[64]; /* temporary; holds the socket, the log and the model root */
	char socket[96], log[96];
	pid_t pid;
	int notify_fd; /* -1, or the receiving end of NOTIFY_SOCKET */
};

/* Options are for sdd's command line, ended by NULL; each may be "--key=value" or "ENV=value" (upper case first). */
void daemon_start(struct daemon *daemon, ...) __attribute__((sentinel));
/* The same without waiting for READY=1; the caller reads the notices. */
void daemon_start_raw(struct daemon *daemon, const char *const *options);
/* SIGTERM; returns the wait status. Fails the test after 15 s. */
int daemon_stop(struct daemon *daemon);
int daemon_wait(struct daemon *daemon, int timeout_ms);
/* Serve a second model, HARNESS_SKETCHED: one that can show previews (SDD_TEST_PREVIEW_MODEL). */
void daemon_add_sketched(const struct daemon *daemon);
/* Serve another model of SDD_TEST_MODELS, by its name there. */
void daemon_add_model(const struct daemon *daemon, const char *name);
/* Serve a file or folder of SDD_TEST_ADAPTERS under a name such as "loras/linear.safetensors"; models are there too. */
void daemon_add_adapter(const struct daemon *daemon, const char *name, const char *target);
/* Removes the folder; kills what still runs. */
void daemon_clear(struct daemon *daemon);
/* Prints the log: for a test that is about to fail. */
void daemon_show_log(const struct daemon *daemon);
/* How many lines of the log contain this text. */
int daemon_count_log(const struct daemon *daemon, const char *text);
/* The next message on the notify socket, NUL-terminated; false after timeout_ms. */
bool daemon_next_notice(struct daemon *daemon, int timeout_ms, char *text, size_t size);

bool harness_has_worker(void);
#define SKIP_WITHOUT_WORKER()                                                                      \
	do {                                                                                       \
		if (!harness_has_worker())                                                         \
			skip();                                                                    \
	} while (0)

/* A connected client that has said hello. */
sdc_client *daemon_connect(const struct daemon *daemon);
sdc_client *daemon_connect_flags(const struct daemon *daemon, unsigned flags);
/* A number or text of `status`, by path ("worker.pid"). */
int64_t daemon_status_int(const struct daemon *daemon, const char *path);
void daemon_status_text(const struct daemon *daemon, const char *path, char *text, size_t size);
/* Wait until status has this number at path; fails the test after 10 s. */
void daemon_await_status(const struct daemon *daemon, const char *path, int64_t value);

/* A txt2img request with these steps and seed. */
sdc_request *txt2img(int steps, uint64_t seed);
/* Call a method that takes {job: id}. */
int call_job(sdc_client *client, const char *method, int64_t job, sdc_reply **ret_reply,
	     sdc_error *ret_error);

/* What the client of a job has seen of it. */
struct watch {
	int step, done, code; /* done: answers; code of the last one, 0 = a picture */
};
/* Submit in this class, and free the request. Fails the test when a step goes back. watch must outlive the job. */
sdc_job *submit_watched(sdc_client *client, sdc_request *request, const char *priority,
			struct watch *watch);
/* Wait for at most ms, then let everything in that has arrived. */
#define TURN_CLIENTS_MAX 16
void turn_clients(sdc_client *const *clients, size_t n, int ms);
void turn_client(sdc_client *client, int ms);
/* The reply, which the caller frees; frees the request. Fails the test with the error's text. */
sdc_reply *call_request(sdc_client *client, sdc_request *request);

struct result {
	uint8_t *bytes; /* malloc'd */
	size_t size;
};
/* A copy of a reply's pictures, one behind the other. */
struct result result_of(const sdc_reply *reply);
void assert_result(const struct result *right, const sdc_reply *reply);

/* A raw socket to the daemon; no hello. */
int raw_connect(const struct daemon *daemon);
/* Read until a whole message came; NULL when the peer closed or after timeout_ms (errno ETIMEDOUT). */
struct sdp_message *raw_read(struct sdp_connection *connection, int timeout_ms);
struct sdp_connection *raw_open(const struct daemon *daemon);
/* Send one request written by the caller. */
void raw_send(struct sdp_connection *connection, struct sdp_writer *writer);
void raw_hello(struct sdp_connection *connection);
/* As one that receives no descriptors: pictures come inline. */
void raw_hello_inline(struct sdp_connection *connection);
/* True when the peer closes within timeout_ms. */
bool raw_closes(int fd, int timeout_ms);

/*
 * Figures of memory are the program's own only in a plain build: a sanitizer, which this file is then compiled with as
 * well, keeps what was freed and maps shadows.
 */
#if defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MEMORY_IS_MEASURED false
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_IS_MEASURED false
#endif
#ifndef MEMORY_IS_MEASURED
#define MEMORY_IS_MEASURED true
#endif

/* A line of /proc/PID/status, e.g. "RssShmem:"; -1 when there is none. */
long status_kib(pid_t pid, const char *name);
long resident_kib(pid_t pid);
long peak_kib(pid_t pid);
int count_fds(pid_t pid);
int64_t now_ms(void);
void sleep_ms(int ms);
