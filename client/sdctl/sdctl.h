/*
 * What the verbs of sdctl share: the options every verb takes, the exit codes, and how to reach the daemon.
 */
#pragma once

#include <stdbool.h>

#include "client/sdclient.h"

/* Documented in sdctl(1); scripts rely on them. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,      /* the job or the request failed */
	EXIT_USAGE = 2,	      /* a wrong command line, or a value the daemon refused */
	EXIT_NO_DAEMON = 3,   /* nothing listens at the socket */
	EXIT_BUSY = 4,	      /* a queue limit; try again later */
	EXIT_LOST = 5,	      /* the daemon or its engine went away during the job */
	EXIT_CANCELLED = 130, /* interrupted, or cancelled from elsewhere */
};

struct context {
	const char *socket; /* NULL = the library's default */
	bool json;	    /* machine-readable output */
	bool quiet;	    /* no progress line, no "wrote" lines */
	bool verbose;	    /* say where a job's time went */
	bool spawn;	    /* start sdd when none runs */
	bool inline_pixels; /* for forwarded sockets */
};

/* One command: argv[0] is its name. Returns an exit code. */
struct verb {
	const char *name;
	int (*run)(const struct context *context, int argc, char **argv);
	const char *arguments; /* for the usage line */
	const char *help;
};

extern const struct verb generate_verbs[]; /* ended by an empty entry, as all tables of verbs */
extern const struct verb query_verbs[];
extern const struct verb operate_verbs[];

/* Verbs of query_verbs and operate_verbs in files of their own. */
int run_count(const struct context *context, int argc, char **argv);
int run_convert(const struct context *context, int argc, char **argv);
int run_ps(const struct context *context, int argc, char **argv);
int run_top(const struct context *context, int argc, char **argv);
int run_why(const struct context *context, int argc, char **argv);
int run_preview(const struct context *context, int argc, char **argv);
int run_doctor(const struct context *context, int argc, char **argv);

/* The verb of this name in a table, or NULL. */
const struct verb *find_verb(const struct verb *verbs, const char *name);

/* Print "sdctl: ..." to standard error. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Print an error of the library and return the exit code that fits it. */
int fail(const sdc_error *error);
/* Print a usage line of the verb and return EXIT_USAGE. */
int usage(const struct verb *verb);

/*
 * Connect, starting sdd first when context->spawn asks for it. EXIT_OK with *ret_client owned by the caller, or an exit
 * code after saying which command starts the daemon.
 */
int reach_daemon(const struct context *context, sdc_client **ret_client);
