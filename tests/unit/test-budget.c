/*
 * The budget of memory: limits of control groups of both versions as the kernel writes them, and what is taken of a
 * machine or of a limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "daemon/budget.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const uint64_t gib = 1ULL << 30;

static void put(const char *root, const char *path, const char *text)
{
	char whole[PATH_MAX];
	FILE *file;

	snprintf(whole, sizeof(whole), "%s/%s", root, path);
	for (char *slash = whole + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		assert_true(mkdir(whole, 0755) == 0 || errno == EEXIST);
		*slash = '/';
	}
	file = fopen(whole, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void clear(const char *root)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	assert_int_equal(system(command), 0);
}

static void test_version_2(void **state)
{
	char root[] = "/tmp/sdd-budget-XXXXXX";

	assert_non_null(mkdtemp(root));
	assert_true(sdd_budget_cgroup_limit(root) == UINT64_MAX);
	put(root, "proc/self/cgroup", "0::/user.slice/sdd.slice/sdd.service\n");
	put(root, "sys/fs/cgroup/user.slice/sdd.slice/sdd.service/memory.max", "max\n");
	put(root, "sys/fs/cgroup/user.slice/sdd.slice/sdd.service/memory.high", "max\n");
	assert_true(sdd_budget_cgroup_limit(root) == UINT64_MAX);
	/* a limit above ours counts, and the tightest one wins wherever it stands */
	put(root, "sys/fs/cgroup/user.slice/memory.max", "8589934592\n");
	assert_true(sdd_budget_cgroup_limit(root) == 8 * gib);
	put(root, "sys/fs/cgroup/user.slice/sdd.slice/memory.max", "4294967296\n");
	assert_true(sdd_budget_cgroup_limit(root) == 4 * gib);
	put(root, "sys/fs/cgroup/user.slice/sdd.slice/memory.high", "3221225472\n");
	assert_true(sdd_budget_cgroup_limit(root) == 3 * gib);
	/* inside a container our group is the top */
	put(root, "proc/self/cgroup", "0::/\n");
	put(root, "sys/fs/cgroup/memory.max", "1073741824\n");
	assert_true(sdd_budget_cgroup_limit(root) == gib);
	put(root, "proc/self/cgroup", "nonsense\n:\n0:\n0::\n");
	assert_true(sdd_budget_cgroup_limit(root) == gib);
	clear(root);
}

static void test_version_1(void **state)
{
	char root[] = "/tmp/sdd-budget-XXXXXX";

	assert_non_null(mkdtemp(root));
	put(root, "proc/self/cgroup", "9:name=systemd:/a/b\n4:memory:/a/b\n1:cpu:/a\n0::/a/b\n");
	put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	put(root, "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
	assert_true(sdd_budget_cgroup_limit(root) == UINT64_MAX);
	put(root, "sys/fs/cgroup/memory/a/memory.limit_in_bytes", "524288000\n");
	assert_true(sdd_budget_cgroup_limit(root) == 524288000);
	/* another controller's group of that name is none of ours */
	put(root, "proc/self/cgroup", "1:cpu:/a/b\n4:memory:/c\n");
	assert_true(sdd_budget_cgroup_limit(root) == UINT64_MAX);
	clear(root);
}

static void test_share(void **state)
{
	/* a quarter of a machine is the desktop's, at least a gibibyte, at most half */
	assert_true(sdd_budget_default(16 * gib, UINT64_MAX, 0) == 12 * gib);
	assert_true(sdd_budget_default(3 * gib, UINT64_MAX, 0) == 2 * gib);
	assert_true(sdd_budget_default(gib, UINT64_MAX, 0) == gib / 2);
	/* of a limit nine tenths are ours, unless the machine leaves less */
	assert_true(sdd_budget_default(16 * gib, 10 * gib, 0) == 9 * gib);
	assert_true(sdd_budget_default(16 * gib, 15 * gib, 0) == 12 * gib);
	assert_true(sdd_budget_default(16 * gib, 64 * gib, 0) == 12 * gib);
	assert_true(sdd_budget_default(16 * gib, UINT64_MAX, 2 * gib) == 14 * gib);
	assert_true(sdd_budget_default(16 * gib, UINT64_MAX, 99 * gib) == 0);
	assert_true(sdd_budget_default(16 * gib, 10 * gib, 8 * gib) == 8 * gib);
	assert_in_range(sdd_budget_read(0), 1, SIZE_MAX);
}

static void test_check(void **state)
{
	struct sdd_model model = {.name = (char *)"big", .weight_bytes = 6 * gib};
	struct sdp_error error = {0};

	assert_int_equal(sdd_budget_check(6 * gib, &model, &error), 0);
	assert_int_equal(sdd_budget_check(4 * gib, &model, &error), -ENOMEM);
	assert_int_equal(error.code, SDP_CODE_NO_MEMORY);
	assert_non_null(strstr(error.message, "'big' has 6144 MiB of weights, and 4096 MiB"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_2),
		cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_share),
		cmocka_unit_test(test_check),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
