/*
 * Where configuration comes from: sdd.conf along the search path, the command line, and defaults that depend on the
 * environment. See config.h for the order.
 */
#include "daemon/config.h"
#include "daemon/config-private.h"
#include "daemon/util/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

enum {
	FILE_BYTES_MAX = 256 * 1024,
	ORIGIN_MAX = PATH_MAX + 16,
};

static char *trim(char *text)
{
	char *end;

	while (isspace((unsigned char)*text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return text;
}

static int parse_line(struct sdd_config *config, const char *origin, char *line,
		      struct sdd_config_error *ret_error)
{
	char *equals;

	line = trim(line);
	if (!*line || *line == '#')
		return 0;
	equals = strchr(line, '=');
	if (!equals)
		return sdd_config_fail(ret_error, -EINVAL,
				       "%s: expected `key = value`, got '%.60s'", origin, line);
	*equals = '\0';
	return sdd_config_set(config, origin, trim(line), trim(equals + 1), ret_error);
}

static int parse_lines(struct sdd_config *config, const char *name, char *text,
		       struct sdd_config_error *ret_error)
{
	char origin[ORIGIN_MAX];
	unsigned int number = 0;
	int r;

	for (char *next = text; next && *next;) {
		char *line = next, *newline = strchr(line, '\n');

		next = newline ? newline + 1 : NULL;
		if (newline)
			*newline = '\0';
		snprintf(origin, sizeof(origin), "%s:%u", name, ++number);
		r = parse_line(config, origin, line, ret_error);
		if (r < 0)
			return r;
	}
	return 0;
}

int sdd_config_parse(struct sdd_config *config, const char *name, const char *text, size_t length,
		     struct sdd_config_error *ret_error)
{
	SDD_CLEANUP(sdd_freep) char *copy = NULL;

	if (memchr(text, '\0', length))
		return sdd_config_fail(ret_error, -EINVAL, "%s: holds a zero byte; text expected",
				       name);
	copy = strndup(text, length);
	if (!copy)
		return sdd_config_fail(ret_error, -ENOMEM, "%s: out of memory", name);
	config->replace_roots = true;
	return parse_lines(config, name, copy, ret_error);
}

/* A missing file is fine unless it was asked for by name. */
static int load_file(struct sdd_config *config, const char *path, bool required,
		     struct sdd_config_error *ret_error)
{
	SDD_CLEANUP(sdd_freep) char *text = NULL;
	SDD_CLEANUP(sdd_fclosep) FILE *file = NULL;
	size_t length;

	file = fopen(path, "re");
	if (!file && errno == ENOENT && !required)
		return 0;
	if (!file)
		return sdd_config_fail(ret_error, -errno, "cannot read %s: %s", path,
				       strerror(errno));
	text = malloc(FILE_BYTES_MAX);
	if (!text)
		return sdd_config_fail(ret_error, -ENOMEM, "%s: out of memory", path);
	length = fread(text, 1, FILE_BYTES_MAX, file);
	if (ferror(file))
		return sdd_config_fail(ret_error, -EIO, "cannot read %s: %s", path,
				       strerror(errno));
	if (length == FILE_BYTES_MAX)
		return sdd_config_fail(ret_error, -EINVAL, "%s: larger than %d KiB", path,
				       FILE_BYTES_MAX / 1024);
	return sdd_config_parse(config, path, text, length, ret_error);
}

static int load_usual_files(struct sdd_config *config, struct sdd_config_error *ret_error)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char path[PATH_MAX];
	int r;

	r = load_file(config, SDD_SYSCONFDIR "/sdd/sdd.conf", false, ret_error);
	if (r < 0)
		return r;
	if (base && *base == '/')
		snprintf(path, sizeof(path), "%s/sdd/sdd.conf", base);
	else if (home && *home == '/')
		snprintf(path, sizeof(path), "%s/.config/sdd/sdd.conf", home);
	else
		return 0;
	return load_file(config, path, false, ret_error);
}

/* One option: --key value or --key=value. Sets *ret_used to the number of arguments it took. */
static int parse_option(struct sdd_config *config, int argc, char **argv, int *ret_used,
			struct sdd_config_error *ret_error)
{
	const char *value = argc > 1 ? argv[1] : NULL;
	char key[64], origin[80];
	const char *equals;
	size_t length;

	if (strncmp(argv[0], "--", 2) != 0 || !argv[0][2])
		return sdd_config_fail(ret_error, -EINVAL, "unexpected argument '%s'; see --help",
				       argv[0]);
	equals = strchr(argv[0], '=');
	length = equals ? (size_t)(equals - argv[0]) - 2 : strlen(argv[0]) - 2;
	snprintf(key, sizeof(key), "%.*s", (int)(length < sizeof(key) ? length : sizeof(key) - 1),
		 argv[0] + 2);
	snprintf(origin, sizeof(origin), "--%s", key);
	if (equals)
		value = equals + 1;
	*ret_used = equals ? 1 : 2;
	/* a mistyped option is reported as such, not as one that lacks its value */
	return sdd_config_set(config, origin, key, value ? value : "", ret_error);
}

static int parse_options(struct sdd_config *config, int argc, char **argv,
			 struct sdd_config_error *ret_error)
{
	int r, used = 1;

	for (int i = 1; i < argc; i += used) {
		used = 1;
		if (strcmp(argv[i], "--config") == 0) {
			used = 2;
			continue;
		}
		if (strncmp(argv[i], "--config=", 9) == 0 || strcmp(argv[i], "--dump-config") == 0)
			continue;
		r = parse_option(config, argc - i, argv + i, &used, ret_error);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where clients look too: sdc_default_socket() of libsdclient. */
static int default_socket(char **place, struct sdd_config_error *ret_error)
{
	const char *set = getenv("SDD_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");

	if (set && *set)
		*place = strdup(set);
	else if (runtime && *runtime == '/')
		return asprintf(place, "%s/sdd/sdd.sock", runtime) < 0 ? -ENOMEM : 0;
	else if (geteuid() == 0)
		*place = strdup("/run/sdd/sdd.sock");
	else
		return sdd_config_fail(ret_error, -EINVAL,
				       "XDG_RUNTIME_DIR is not set, so there is no default socket; "
				       "give --socket PATH, or set SDD_SOCKET for sdd and its "
				       "clients");
	return *place ? 0 : -ENOMEM;
}

/* name, relative to the folder of our own program, as a malloc'ed path in *ret; NULL when nothing is there. */
static int beside_us(const char *name, int mode, char **ret)
{
	SDD_CLEANUP(sdd_freep) char *path = NULL;
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	*ret = NULL;
	if (length <= 0)
		return 0;
	self[length] = '\0';
	*strrchr(self, '/') = '\0';
	if (asprintf(&path, "%s/%s", self, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	if (access(path, mode) == 0)
		*ret = sdd_steal_pointer(path);
	return 0;
}

/* The worker beside our own program if there is one (a build folder), else the installed one. */
static int default_worker(char **place)
{
	int r = beside_us("sdd-worker", X_OK, place);

	if (r == 0 && !*place)
		*place = strdup(SDD_LIBEXECDIR "/sdd-worker");
	return r < 0 || !*place ? -ENOMEM : 0;
}

/* From a build folder in the source tree, the tree's own models: BUILD/daemon/sdd has them at ../../models. */
static int add_tree_root(struct sdd_config *config, struct sdd_config_error *ret_error)
{
	SDD_CLEANUP(sdd_freep) char *worker = NULL, *models = NULL, *absolute = NULL;
	int r;

	r = beside_us("sdd-worker", X_OK, &worker);
	if (r == 0 && worker)
		r = beside_us("../../models", R_OK | X_OK, &models);
	if (r < 0 || !models)
		return r;
	absolute = realpath(models, NULL);
	return absolute ? sdd_config_set(config, "default", "models", absolute, ret_error)
			: -ENOMEM;
}

static int default_roots(struct sdd_config *config, struct sdd_config_error *ret_error)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	char path[PATH_MAX] = "";
	int r = 0;

	if (data && *data == '/')
		snprintf(path, sizeof(path), "%s/sdd/models", data);
	else if (home && *home == '/')
		snprintf(path, sizeof(path), "%s/.local/share/sdd/models", home);
	if (*path)
		r = sdd_config_set(config, "default", "models", path, ret_error);
	if (r == 0)
		r = add_tree_root(config, ret_error);
	if (r == 0)
		r = sdd_config_set(config, "default", "models", SDD_DATADIR "/sdd/models",
				   ret_error);
	return r;
}

static int finish(struct sdd_config *config, struct sdd_config_error *ret_error)
{
	int r = 0;

	if (!config->socket)
		r = default_socket(&config->socket, ret_error);
	if (r == 0 && !config->worker)
		r = default_worker(&config->worker);
	if (r == 0 && config->n_roots == 0)
		r = default_roots(config, ret_error);
	if (r == 0 && !config->backend)
		r = sdd_config_set(config, "default", "backend", "auto", ret_error);
	if (r == 0 && !config->dtype)
		r = sdd_config_set(config, "default", "dtype", "auto", ret_error);
	if (r == -ENOMEM)
		return sdd_config_fail(ret_error, r, "out of memory");
	return r;
}

int sdd_config_load(struct sdd_config *config, int argc, char **argv,
		    enum sdd_config_action *ret_action, struct sdd_config_error *ret_error)
{
	enum sdd_config_action action = SDD_CONFIG_RUN;
	const char *file = NULL;
	int r;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			*ret_action = SDD_CONFIG_HELP;
			return 0;
		}
		if (strcmp(argv[i], "--version") == 0) {
			*ret_action = SDD_CONFIG_VERSION;
			return 0;
		}
		if (strcmp(argv[i], "--dump-config") == 0)
			action = SDD_CONFIG_DUMP;
		if (strncmp(argv[i], "--config=", 9) == 0)
			file = argv[i] + 9;
		if (strcmp(argv[i], "--config") == 0) {
			if (i + 1 == argc)
				return sdd_config_fail(ret_error, -EINVAL, "--config needs a FILE");
			file = argv[++i];
		}
	}
	r = file ? load_file(config, file, true, ret_error) : load_usual_files(config, ret_error);
	if (r < 0)
		return r;
	config->replace_roots = true;
	r = parse_options(config, argc, argv, ret_error);
	if (r == 0)
		r = finish(config, ret_error);
	if (r == 0)
		*ret_action = action;
	return r;
}
