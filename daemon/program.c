/*
 * The command line of sdd; see program.h.
 */
#include "daemon/program.h"
#include "daemon/config.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "daemon/util/cleanup.h"

#include <string.h>
#include <sysexits.h>

static int serve(const struct sdd_config *config, sdd_spawn_fn spawn)
{
	SDD_CLEANUP(sdd_server_freep) struct sdd_server *server = NULL;
	int r;

	sdd_log_open("sdd", (int)config->log_level);
	r = sdd_server_new(config, spawn, &server);
	if (r >= 0)
		r = sdd_server_run(server);
	if (r < 0) {
		sdd_log(LOG_ERR, NULL, "cannot serve: %s", strerror(-r));
		return EX_UNAVAILABLE;
	}
	return EXIT_SUCCESS;
}

int sdd_program(int argc, char **argv, sdd_spawn_fn spawn)
{
	SDD_CLEANUP(sdd_config_clear) struct sdd_config config;
	struct sdd_config_error error;
	enum sdd_config_action action;

	sdd_config_init(&config);
	if (sdd_config_load(&config, argc, argv, &action, &error) < 0) {
		fprintf(stderr, "sdd: %s\n", error.message);
		return EX_CONFIG;
	}
	switch (action) {
	case SDD_CONFIG_HELP:
		sdd_config_help(stdout);
		return EXIT_SUCCESS;
	case SDD_CONFIG_VERSION:
		puts("sdd " SDD_VERSION);
		return EXIT_SUCCESS;
	case SDD_CONFIG_DUMP:
		sdd_config_dump(&config, stdout);
		return EXIT_SUCCESS;
	case SDD_CONFIG_RUN:
		return serve(&config, spawn);
	}
	return EX_SOFTWARE;
}
