/*
 * Many clients of all classes at once: whether every job is answered exactly once, turns are fair within a class (Jain's
 * index: Jain, Chiu and Hawe 1984), and interactive jobs hardly wait. Waiting is counted in the steps that jobs of lower
 * classes make meanwhile, not in seconds, so that the machine's speed does not matter.
 *
 *     fleet SECONDS|--steps=N [CLIENTS]     (N: end behind so many steps of all jobs together)
 *
 * Jobs in company (sdd.conf's batch-pixels, which the harness turns off: SDD_TEST_OPTIONS) step together, which is one step.
 * One client in four paints interactively, three in eight are of each other class. A client has one job at a time; all but
 * batch clients pause between two, for as long as others make so many steps. Paths come from the environment, as in
 * tests/integration/harness.h.
 */
#include "tests/integration/harness.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS_MAX = 256, INTERACTIVE = 0, NORMAL, BATCH, N_CLASSES };

static const char *const class_names[] = {"interactive", "normal", "batch"};
static const int class_steps[] = {4, 8, 12};
/* Steps of others, times the clients, between two jobs of a client: about half of all steps is left to the batch. */
static const int class_pause[] = {5, 10, 0};

static int n_clients = 32;
static int64_t run_ms, run_steps;

/* What was seen of a job, by its id, in the order of the daemon's events. */
struct trace {
	int class;	  /* -1 until its client knows the id */
	int client, step; /* its client; steps made */
	bool seen, started, resumed;
};

struct event {
	int64_t job;
	enum { QUEUED, STARTED, RESUMED, STEPPED } kind;
	int steps;
	int late_steps; /* made before the job was interrupted, and told when it went on */
};

static struct event *events;
static size_t n_events, events_size;
static struct trace *traces;
static int64_t n_traces;
static int64_t total_steps;

struct painter {
	sdc_client *client;
	sdc_job *job;
	int class;
	int64_t ready_at; /* of total_steps */
	int64_t job_id;
	int submitted, answered, good;
	char error[200]; /* the last one */
};

static struct painter painters[CLIENTS_MAX];

static void *grown(void *memory, size_t n, size_t size)
{
	memory = realloc(memory, n * size);
	assert_non_null(memory);
	return memory;
}

static struct trace *trace_of(int64_t job)
{
	assert_true(job > 0);
	while (job >= n_traces) {
		const int64_t bigger = n_traces * 2 + 1024;

		traces = grown(traces, (size_t)bigger, sizeof(*traces));
		for (int64_t i = n_traces; i < bigger; i++)
			traces[i] = (struct trace){.class = -1};
		n_traces = bigger;
	}
	return &traces[job];
}

static void note(struct event event)
{
	if (n_events == events_size) {
		events_size = events_size * 2 + 4096;
		events = grown(events, events_size, sizeof(*events));
	}
	events[n_events++] = event;
}

/* The first that is told of a job that goes on holds the step behind which it was interrupted. */
static void note_step(int64_t job, struct trace *trace, int step, bool steps_now)
{
	const int made = step - trace->step;
	const int late = trace->resumed ? made - steps_now : 0;

	trace->resumed = trace->resumed && !steps_now;
	if (made <= 0)
		return;
	note((struct event){.job = job, .kind = STEPPED, .steps = made - late, .late_steps = late});
	total_steps += made;
	trace->step = step;
}

/* One connection hears of all jobs: so their events have one order. */
static void on_event(sdc_client *client, const char *name, const sdc_reply *reply, void *userdata)
{
	int64_t job = 0, step = 0;
	const char *stage = "";
	struct trace *trace;

	if (strncmp(name, "job.", 4) != 0 || sdc_reply_int(reply, "job", &job) < 0)
		return;
	trace = trace_of(job);
	if (strcmp(name, "job.queued") == 0 && !trace->seen) {
		trace->seen = true;
		note((struct event){.job = job, .kind = QUEUED});
	} else if (strcmp(name, "job.started") == 0) {
		note((struct event){.job = job, .kind = trace->started ? RESUMED : STARTED});
		trace->resumed = trace->started;
		trace->started = true;
	} else if (strcmp(name, "job.progress") == 0 && sdc_reply_int(reply, "step", &step) == 0 &&
		   sdc_reply_string(reply, "stage", &stage) == 0) {
		note_step(job, trace, (int)step, strcmp(stage, "steps") == 0);
	}
}

static void on_done(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata)
{
	struct painter *painter = userdata;

	painter->answered++;
	painter->good += error == NULL;
	if (error)
		snprintf(painter->error, sizeof(painter->error), "%.199s", error->message);
}

static void submit(struct painter *painter)
{
	const sdc_job_handlers handlers = {.done = on_done, .userdata = painter};
	sdc_request *request = txt2img(class_steps[painter->class], (uint64_t)painter->submitted);
	sdc_error error = {0};

	assert_int_equal(
		sdc_request_set_string(request, "priority", class_names[painter->class], &error),
		0);
	if (sdc_job_submit(painter->client, request, &handlers, &painter->job, &error) < 0)
		fail_msg("%s", error.message);
	sdc_request_free(request);
	painter->submitted++;
	painter->job_id = 0;
}

/* Let everything that has arrived in, the watcher first. */
static void turn(sdc_client *watcher)
{
	struct pollfd fds[CLIENTS_MAX + 1];

	for (int i = 0; i <= n_clients; i++) {
		sdc_client *client = i < n_clients ? painters[i].client : watcher;

		fds[i] =
			(struct pollfd){sdc_client_fd(client), (short)sdc_client_events(client), 0};
	}
	poll(fds, (nfds_t)n_clients + 1, 100);
	assert_true(sdc_client_dispatch(watcher, NULL) >= 0);
	for (int i = 0; i < n_clients; i++) {
		struct painter *painter = &painters[i];

		if (fds[i].revents)
			assert_true(sdc_client_dispatch(painter->client, NULL) >= 0);
		if (painter->job && painter->job_id == 0 && sdc_job_id(painter->job) > 0) {
			painter->job_id = sdc_job_id(painter->job);
			trace_of(painter->job_id)->class = painter->class;
			trace_of(painter->job_id)->client = i;
		}
		if (painter->job && painter->answered == painter->submitted) {
			sdc_job_free(painter->job);
			painter->job = NULL;
			painter->ready_at =
				total_steps + (int64_t)class_pause[painter->class] * n_clients;
		}
	}
}

static bool is_over(int64_t began)
{
	return run_steps > 0 ? total_steps >= run_steps : now_ms() - began >= run_ms;
}

/* Until the end of the time; then until the last job is answered. */
static void paint_all(sdc_client *watcher)
{
	const int64_t began = now_ms();
	bool busy = true, over = false;

	for (int i = 0; i < n_clients; i++)
		/* not all painters touch the canvas in the same moment */
		painters[i].ready_at = (int64_t)class_pause[painters[i].class] * i;
	while (busy) {
		over = over || is_over(began);
		busy = false;
		for (int i = 0; i < n_clients; i++) {
			if (!over && !painters[i].job && total_steps >= painters[i].ready_at)
				submit(&painters[i]);
			busy |= painters[i].job != NULL;
		}
		turn(watcher);
		busy |= !over;
	}
	/* a second answer to any of them would come now */
	for (int i = 0; i < 20; i++)
		turn(watcher);
	printf("%d clients, %.1f s, %lld steps\n", n_clients, (double)(now_ms() - began) / 1000,
	       (long long)total_steps);
}

/* The event before which the job that ran at `last` was interrupted: the start of whoever came next. */
static size_t interruption(size_t last)
{
	for (size_t i = last + 1; i < n_events; i++)
		if (events[i].kind == STARTED || events[i].kind == RESUMED)
			return i;
	return last;
}

/* Late steps were made before the other job started, which waited for them: where, and of which job. */
static struct late {
	size_t before;
	int64_t job;
	int steps;
} * lates;
static size_t n_lates;

static void place_late_steps(void)
{
	size_t *last = calloc((size_t)n_traces, sizeof(*last));

	lates = calloc(n_events + 1, sizeof(*lates));
	assert_true(last && lates);
	for (size_t i = 0; i < n_events; i++) {
		const struct event *event = &events[i];

		if (event->late_steps > 0)
			lates[n_lates++] = (struct late){interruption(last[event->job]), event->job,
							 event->late_steps};
		if (event->kind != RESUMED)
			last[event->job] = i;
	}
	free(last);
}

static int by_value(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Steps of jobs of these classes in a part of the events. Jobs that run as one batch step together: one of them counts. */
static int steps_between(size_t from, size_t to, int least_class, int most_class)
{
	struct {
		int64_t job;
		int steps;
	} made[CLIENTS_MAX];
	int n = 0, sum = 0, most = 0, began = 0;

	for (size_t k = from + 1; k < to + n_lates; k++) {
		const bool late = k >= to;
		const struct event *event = &events[late ? from : k];
		const struct late *other = &lates[late ? k - to : 0];
		const int64_t job = late ? other->job : event->job;
		const int class = traces[job].class;
		int steps = late ? other->steps : event->kind == STEPPED ? event->steps : 0, at = 0;

		if (class < least_class || class > most_class ||
		    (late && (other->before <= from || other->before > to)))
			continue;
		began += !late && (event->kind == STARTED || event->kind == RESUMED);
		while (at < n && made[at].job != job)
			at++;
		if (at == n) {
			assert_true(n < CLIENTS_MAX);
			made[n].job = job;
			made[n++].steps = 0;
		}
		made[at].steps += steps;
		sum += steps;
		most = made[at].steps > most ? made[at].steps : most;
	}
	/* who began in between ran after the others, not with them */
	return began > 0 ? sum : most;
}

/* For each interactive job, the steps of these classes between its acceptance and its start; p50, p95 and most. */
static void waits_of_interactive(int least_class, int most_class, int ret_waits[3])
{
	size_t n = 0, *queued = calloc((size_t)n_traces, sizeof(*queued));
	int *waits = calloc((size_t)n_traces, sizeof(*waits));

	assert_true(queued && waits);
	for (size_t i = 0; i < n_events; i++) {
		const int64_t job = events[i].job;

		if (events[i].kind == QUEUED)
			queued[job] = i;
		else if (events[i].kind == STARTED && traces[job].class == INTERACTIVE)
			waits[n++] = steps_between(queued[job], i, least_class, most_class);
	}
	assert_true(n > 0);
	qsort(waits, n, sizeof(*waits), by_value);
	ret_waits[0] = waits[n / 2];
	ret_waits[1] = waits[n * 95 / 100];
	ret_waits[2] = waits[n - 1];
	free(queued);
	free(waits);
}

static double jain(int class)
{
	double sum = 0, squares = 0, made[CLIENTS_MAX] = {0};
	int n = 0;

	for (int64_t job = 1; job < n_traces; job++)
		if (traces[job].class == class)
			made[traces[job].client] += traces[job].step;
	for (int i = 0; i < n_clients; i++)
		if (painters[i].class == class) {
			sum += made[i];
			squares += made[i] * made[i];
			n++;
		}
	return squares > 0 ? sum * sum / (n * squares) : 0;
}

static void judge(const struct daemon *daemon)
{
	int jobs[N_CLASSES] = {0}, below[3], own[3], all = 0;

	for (int i = 0; i < n_clients; i++) {
		if (painters[i].good != painters[i].submitted)
			fail_msg("client %d (%s): %d jobs, %d answers, %d pictures; %s", i,
				 class_names[painters[i].class], painters[i].submitted,
				 painters[i].answered, painters[i].good, painters[i].error);
		/* exactly one answer each */
		assert_int_equal(painters[i].answered, painters[i].submitted);
		jobs[painters[i].class] += painters[i].submitted;
		all += painters[i].submitted;
	}
	for (int class = 0; class < N_CLASSES; class ++)
		printf("%-11s %5d jobs, Jain's index of its clients' steps %.4f\n",
		       class_names[class], jobs[class], jain(class));
	place_late_steps();
	waits_of_interactive(NORMAL, BATCH, below);
	waits_of_interactive(INTERACTIVE, INTERACTIVE, own);
	printf("interactive jobs wait for steps of lower classes: p50 %d, p95 %d, most %d\n",
	       below[0], below[1], below[2]);
	printf("                 and for each other's steps:      p50 %d, p95 %d, most %d\n",
	       own[0], own[1], own[2]);
	printf("front process: %ld KiB resident, %ld at most\n", resident_kib(daemon->pid),
	       peak_kib(daemon->pid));
	fflush(stdout);
	assert_int_equal(daemon_status_int(daemon, "jobs.done"), all);
	assert_int_equal(daemon_status_int(daemon, "jobs.queued"), 0);
	assert_int_equal(daemon_status_int(daemon, "jobs.running"), 0);
	assert_int_equal(daemon_status_int(daemon, "worker.restarts"), 0);
	assert_int_equal(daemon_count_log(daemon, "model loaded in"), 1);
	printf("one load for %d clients\n", n_clients);
	for (int class = 0; class < N_CLASSES; class ++)
		assert_true(jain(class) >= 0.95);
	/* how fast messages are beside steps is a matter of time: of the run that measures */
	if (run_ms > 0)
		assert_true(below[1] <= 2);
}

static sdc_client *watch(const struct daemon *daemon)
{
	sdc_client *watcher = daemon_connect(daemon);
	sdc_error error = {0};
	sdc_request *request = sdc_request_new("events.subscribe", &error);

	assert_non_null(request);
	assert_int_equal(sdc_request_set_bool(request, "jobs", 1, &error), 0);
	sdc_client_on_event(watcher, on_event, NULL);
	assert_int_equal(sdc_call(watcher, request, 10000, NULL, &error), 0);
	sdc_request_free(request);
	return watcher;
}

static void test_fleet(void **state)
{
	struct daemon daemon;
	sdc_client *watcher;

	SKIP_WITHOUT_WORKER();
	daemon_start(&daemon, "--log-level=info", "--max-jobs=256", "--max-jobs-per-user=256",
		     NULL);
	watcher = watch(&daemon);
	for (int i = 0; i < n_clients; i++)
		painters[i] = (struct painter){
			.client = daemon_connect(&daemon),
			.class = i % 8 < 2   ? INTERACTIVE
				 : i % 8 < 5 ? NORMAL
					     : BATCH,
		};
	paint_all(watcher);
	judge(&daemon);
	for (int i = 0; i < n_clients; i++)
		sdc_client_free(painters[i].client);
	sdc_client_free(watcher);
	free(traces);
	free(events);
	free(lates);
	assert_int_equal(daemon_stop(&daemon), 0);
	daemon_clear(&daemon);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_fleet)};
	if (argc > 1 && strncmp(argv[1], "--steps=", 8) == 0)
		run_steps = atoll(argv[1] + 8);
	else if (argc > 1)
		run_ms = atoll(argv[1]) * 1000;
	if (argc > 2)
		n_clients = atoi(argv[2]);
	if (run_ms + run_steps < 1 || n_clients < 8 || n_clients > CLIENTS_MAX) {
		fprintf(stderr, "usage: fleet SECONDS|--steps=N [CLIENTS (8..%d)]\n", CLIENTS_MAX);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
