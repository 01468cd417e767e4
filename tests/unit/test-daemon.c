/*
 * Parts of the daemon that need no socket: configuration, quotas, job states, queue, estimates, fault points' syntax.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/config-value.h"
#include "daemon/config.h"
#include "daemon/estimate.h"
#include "daemon/queue.h"
#include "daemon/util/clock.h"

#include <errno.h>
#include <string.h>

static int parse(struct sdd_config *config, const char *text, struct sdd_config_error *error)
{
	return sdd_config_parse(config, "test.conf", text, strlen(text), error);
}

static void test_config(void **state)
{
	struct sdd_config config;
	struct sdd_config_error error;

	sdd_config_init(&config);
	/* one user alone cannot take what all have */
	assert_true(config.max_connections_per_user < config.max_connections);
	assert_true(config.max_jobs_per_user < config.max_jobs);
	assert_int_equal(parse(&config,
			       "# a comment\n\n threads = 3 \nmodels=/a\nmodels = /b c\n"
			       "result-ttl = 2h\nresult-bytes = 3M\n",
			       &error),
			 0);
	assert_int_equal(config.threads, 3);
	assert_int_equal(config.n_roots, 2);
	assert_string_equal(config.roots[1], "/b c");
	assert_int_equal(config.result_ttl_us, 7200ULL * 1000000);
	assert_int_equal(config.result_bytes, 3 << 20);
	/* a more specific source replaces the list */
	assert_int_equal(parse(&config, "models = /c", &error), 0);
	assert_int_equal(config.n_roots, 1);
	assert_string_equal(config.roots[0], "/c");
	assert_int_equal(parse(&config, "threads = 4\nthreds = 2\n", &error), -EINVAL);
	assert_string_equal(error.message,
			    "test.conf:2: no key 'threds' (did you mean 'threads'?); "
			    "sdd.conf(5) lists all");
	assert_int_equal(parse(&config, "threads", &error), -EINVAL);
	assert_int_equal(parse(&config, "max-jobs = 0", &error), -EINVAL);
	assert_int_equal(parse(&config, "result-ttl = 3 parsecs", &error), -EINVAL);
	assert_int_equal(parse(&config, "socket =", &error), -EINVAL);
	assert_int_equal(sdd_config_parse(&config, "zero", "thr\0eads = 1", 12, &error), -EINVAL);
	sdd_config_clear(&config);
}

/* One line each; every message names the line, the key or the value, and what would be right. */
static void test_config_refusals(void **state)
{
	static const struct {
		const char *line, *message;
	} bad[] = {
		{"threads = 1025", "'1025' is not a number from 0 to 1024 for 'threads'"},
		{"threads = -1", "'-1' is not a number from 0 to 1024 for 'threads'"},
		{"threads = 2.5", "'2.5' is not a number from 0 to 1024 for 'threads'"},
		{"threads = 99999999999999999999999",
		 "'99999999999999999999999' is not a number from 0 to 1024 for 'threads'"},
		{"max-jobs = 0", "'0' is not a number from 1 to 100000 for 'max-jobs'"},
		{"max-connections =", "'' is not a number from 1 to 100000 for 'max-connections'"},
		{"hello-timeout = 0",
		 "'0' is no time for 'hello-timeout'; write 500ms, 5s, 10min, 1h, at most 366d"},
		/* added to the clock it would lie in the past */
		{"result-ttl = 18446744073709551615us",
		 "'18446744073709551615us' is no time for 'result-ttl'; write 500ms, 5s, 10min, "
		 "1h, at most "
		 "366d"},
		{"result-ttl = 367d",
		 "'367d' is no time for 'result-ttl'; write 500ms, 5s, 10min, 1h, at most 366d"},
		{"drain-timeout = -5s",
		 "'-5s' is no time for 'drain-timeout'; write 500ms, 5s, 10min, 1h, at most 366d"},
		{"result-bytes = 18446744073709551615G",
		 "'18446744073709551615G' is no size for 'result-bytes'; write 64K, 256M, 2G"},
		{"result-bytes = lots",
		 "'lots' is no size for 'result-bytes'; write 64K, 256M, 2G"},
		{"log-level = 8", "'8' is no log level; use err, warning, notice, info or debug"},
		{"allow-user = no such user",
		 "'no such user' is no user of this machine; give a name or a uid"},
		{"allow-user = 4294967295",
		 "'4294967295' is no user of this machine; give a name or a uid"},
		{"models =", "'models' needs a DIR"},
		{"default-model =", "'default-model' needs a NAME"},
		{"socket", "expected `key = value`, got 'socket'"},
		{"= 3", "no key '' (did you mean 'socket'?); sdd.conf(5) lists all"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sdd_config_error error = {0};
		struct sdd_config config;
		char text[128], expected[256];

		sdd_config_init(&config);
		snprintf(text, sizeof(text), "# first\n%s\n", bad[i].line);
		snprintf(expected, sizeof(expected), "test.conf:2: %s", bad[i].message);
		assert_int_equal(parse(&config, text, &error), -EINVAL);
		assert_string_equal(error.message, expected);
		sdd_config_clear(&config);
	}
}

static void test_config_lists_are_bounded(void **state)
{
	struct sdd_config_error error = {0};
	struct sdd_config config;
	char text[2048] = "";

	for (int i = 0; i < SDD_CONFIG_ROOTS_MAX; i++)
		strcat(text, "models = /m\n");
	sdd_config_init(&config);
	assert_int_equal(parse(&config, text, &error), 0);
	assert_int_equal(config.n_roots, SDD_CONFIG_ROOTS_MAX);
	strcat(text, "models = /m\n");
	assert_int_equal(parse(&config, text, &error), -EINVAL);
	assert_string_equal(error.message, "test.conf:33: more than 32 model folders");
	*text = '\0';
	for (int i = 0; i <= SDD_CONFIG_UIDS_MAX; i++)
		strcat(text, "allow-user = 0\n");
	assert_int_equal(parse(&config, text, &error), -EINVAL);
	assert_string_equal(error.message, "test.conf:17: more than 16 allowed users");
	sdd_config_clear(&config);
}

static void test_values(void **state)
{
	uint64_t value = 42;

	assert_int_equal(sdd_value_parse_time("5", &value), 0);
	assert_int_equal(value, 5000000);
	assert_int_equal(sdd_value_parse_time("250ms", &value), 0);
	assert_int_equal(value, 250000);
	value = 42;
	assert_int_equal(sdd_value_parse_time("99999999999999999999", &value), -ERANGE);
	assert_int_equal(sdd_value_parse_time("18446744073709551615d", &value), -ERANGE);
	assert_int_equal(sdd_value_parse_bytes("-1", &value), -EINVAL);
	assert_int_equal(sdd_value_parse_count("7x", 0, 9, &value), -EINVAL);
	assert_int_equal(sdd_value_parse_count("10", 0, 9, &value), -ERANGE);
	assert_int_equal(value, 42);
}

static void test_quota(void **state)
{
	struct sdd_meter meter = {.limit = 3};
	struct sdd_charge a = {0}, b = {0};
	struct sdd_users users;
	struct sdd_user *one, *same, *other;

	assert_int_equal(sdd_charge_take(&a, &meter, 2), 0);
	assert_int_equal(sdd_charge_take(&b, &meter, 2), SDD_QUOTA_E_EXCEEDED);
	assert_int_equal(sdd_charge_take(&b, &meter, UINT64_MAX), SDD_QUOTA_E_EXCEEDED);
	sdd_charge_refund(&b); /* holds nothing */
	assert_int_equal(meter.used, 2);
	sdd_charge_refund(&a);
	sdd_charge_refund(&a);
	assert_int_equal(meter.used, 0);

	sdd_users_init(&users, 5, 6);
	assert_int_equal(sdd_users_get(&users, 1000, &one), 0);
	assert_int_equal(sdd_users_get(&users, 1000, &same), 0);
	assert_int_equal(sdd_users_get(&users, 1001, &other), 0);
	assert_ptr_equal(one, same);
	assert_ptr_not_equal(one, other);
	assert_int_equal(one->jobs.limit, 6);
	sdd_user_unref(one);
	sdd_user_unref(other);
	assert_false(sdd_list_is_empty(&users.users));
	sdd_user_unref(same);
	assert_true(sdd_list_is_empty(&users.users));
}

static void test_job_states(void **state)
{
	static const enum sdp_job_state all[] = {SDP_JOB_STATE_QUEUED, SDP_JOB_STATE_RUNNING,
						 SDP_JOB_STATE_DONE, SDP_JOB_STATE_FAILED,
						 SDP_JOB_STATE_CANCELLED};
	struct sdd_job job = {.state = SDP_JOB_STATE_QUEUED};

	assert_int_equal(sdd_job_set_state(&job, SDP_JOB_STATE_DONE), -EINVAL);
	assert_int_equal(sdd_job_set_state(&job, SDP_JOB_STATE_RUNNING), 0);
	/* its worker died before it began */
	assert_int_equal(sdd_job_set_state(&job, SDP_JOB_STATE_QUEUED), 0);
	assert_int_equal(sdd_job_set_state(&job, SDP_JOB_STATE_RUNNING), 0);
	assert_false(sdd_job_has_ended(&job));
	/* once it has ended it cannot end again, nor begin */
	for (size_t end = 2; end < 5; end++) {
		job.state = all[end];
		assert_true(sdd_job_has_ended(&job));
		for (size_t next = 0; next < 5; next++)
			assert_int_equal(sdd_job_set_state(&job, all[next]), -EINVAL);
		assert_int_equal(job.state, all[end]);
	}
}

static struct sdd_job waiting(uint64_t id, uint64_t client, enum sdp_priority priority)
{
	return (struct sdd_job){.id = id, .client = client, .priority = priority};
}

/* The ids in the order they run, as text. */
static void assert_order(struct sdd_queue *queue, const char *expected)
{
	char order[64] = "";
	struct sdd_job *job;

	for (size_t place = 0; place < queue->length; place++)
		sdd_list_for_each (job, &queue->jobs, link)
			if (sdd_queue_position(queue, job) == place)
				snprintf(order + strlen(order), sizeof(order) - strlen(order),
					 "%d ", (int)job->id);
	assert_string_equal(order, expected);
}

static void test_queue(void **state)
{
	const enum sdp_priority normal = SDP_PRIORITY_NORMAL;
	struct sdd_job jobs[] = {
		waiting(1, 10, normal),
		waiting(2, 10, normal),
		waiting(3, 10, normal),
		waiting(4, 20, normal),
		waiting(5, 20, normal),
		waiting(6, 30, SDP_PRIORITY_BATCH),
		waiting(7, 30, SDP_PRIORITY_BATCH),
		waiting(8, 40, SDP_PRIORITY_INTERACTIVE),
	};
	struct sdd_queue queue;
	struct sdd_job *next;

	sdd_queue_init(&queue);
	assert_null(sdd_queue_next(&queue));
	for (int i = 0; i < 8; i++) {
		sdd_list_init(&jobs[i].link);
		sdd_queue_insert(&queue, &jobs[i]);
	}
	/* classes, then turns, then age */
	assert_order(&queue, "8 1 4 2 5 3 6 7 ");
	assert_ptr_equal(sdd_queue_find(&queue, 2), &jobs[1]);
	assert_null(sdd_queue_find(&queue, 9));
	/* it happens as foretold */
	for (const char *at = "84"; *at; at++) {
		next = sdd_queue_next(&queue);
		if (next == &jobs[0])
			next = &jobs[3]; /* this client goes first for once */
		assert_int_equal(next->id, *at - '0');
		sdd_queue_take(&queue, next);
	}
	assert_order(&queue, "1 5 2 3 6 7 ");
	/* what was interrupted goes on before others of its class begin, whoever had a turn */
	sdd_queue_remove(&queue, &jobs[6]);
	jobs[6].kept_step = 3;
	sdd_queue_insert(&queue, &jobs[6]);
	assert_order(&queue, "1 5 2 3 7 6 ");
	assert_int_equal(queue.length, 6);
}

/* Jobs behind a flood of interactive ones rise with time, are not interrupted for a while when they run, and fall back. */
static void test_ageing(void **state)
{
	const uint64_t ageing_us = 600 * 1000000ULL, now_us = sdd_now_us();
	struct sdd_job jobs[] = {
		waiting(1, 10, SDP_PRIORITY_INTERACTIVE), waiting(2, 20, SDP_PRIORITY_BATCH),
		waiting(3, 30, SDP_PRIORITY_NORMAL),	  waiting(4, 40, SDP_PRIORITY_BATCH),
		waiting(5, 50, SDP_PRIORITY_INTERACTIVE),
	};
	struct sdd_queue queue;

	sdd_queue_init(&queue);
	for (int i = 0; i < 4; i++) {
		sdd_list_init(&jobs[i].link);
		jobs[i].queued_us = now_us - 1;
		sdd_queue_insert(&queue, &jobs[i]);
	}
	jobs[3].queued_us = now_us - ageing_us * 3 / 2;
	assert_order(&queue, "1 3 2 4 "); /* it is off */
	queue.ageing_us = ageing_us;
	queue.changed = true;
	assert_order(&queue, "1 3 4 2 ");
	assert_int_equal(jobs[3].counts_as, SDP_PRIORITY_NORMAL);
	assert_int_equal(queue.next_rise_us, now_us + ageing_us / 2);
	jobs[3].queued_us = now_us - ageing_us * 5 / 2;
	queue.next_rise_us = now_us; /* time alone is reason enough to look */
	assert_order(&queue, "1 4 3 2 ");
	assert_int_equal(jobs[3].counts_as, SDP_PRIORITY_INTERACTIVE);
	assert_int_equal(jobs[3].priority, SDP_PRIORITY_BATCH);
	sdd_queue_take(&queue, &jobs[0]);
	assert_ptr_equal(sdd_queue_next(&queue), &jobs[3]);
	/* it has come up to an interactive one, not above it */
	assert_false(sdd_queue_interrupts(&queue, &jobs[0]));
	sdd_queue_take(&queue, &jobs[3]);
	sdd_list_init(&jobs[4].link);
	jobs[4].queued_us = now_us - 1;
	sdd_queue_insert(&queue, &jobs[4]);
	assert_false(sdd_queue_interrupts(&queue, &jobs[3]));
	jobs[3].raised_until_us = now_us; /* a tenth of the time is over */
	assert_true(sdd_queue_interrupts(&queue, &jobs[3]));
}

static void test_estimate(void **state)
{
	const struct sdd_measured measured = {
		.encode_us = 1000, .steps_us = 20000, .decode_us = 3000, .steps = 10};
	struct sdd_estimate estimate;

	sdd_estimate_init(&estimate);
	assert_int_equal(sdd_estimate_job_us(&estimate, 20), -1);
	assert_int_equal(sdd_estimate_rest_us(&estimate, 0, 20, 0), -1);
	/* its own steps are enough */
	assert_int_equal(sdd_estimate_rest_us(&estimate, 5, 20, 10000), 30000);
	sdd_estimate_update(&estimate, &measured);
	assert_int_equal(sdd_estimate_job_us(&estimate, 20), 1000 + 40000 + 3000);
	assert_int_equal(sdd_estimate_rest_us(&estimate, 5, 20, 10000), 30000 + 3000);
	assert_int_equal(sdd_estimate_rest_us(&estimate, 20, 20, 99999), 3000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_config_refusals),
		cmocka_unit_test(test_config_lists_are_bounded),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_quota),
		cmocka_unit_test(test_job_states),
		cmocka_unit_test(test_queue),
		cmocka_unit_test(test_ageing),
		cmocka_unit_test(test_estimate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
