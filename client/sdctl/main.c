/*
 * sdctl: the options before the verb, and the choice of the verb. The verbs live in generate.c and query.c.
 */
#include "client/sdctl/sdctl.h"

#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void complain(const char *format, ...)
{
	va_list ap;

	fputs("sdctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int fail(const sdc_error *error)
{
	complain("%s", error->message[0] ? error->message : sdc_code_name(error->code));
	switch (error->code) {
	case SDC_E_CONNECT:
		return EXIT_NO_DAEMON;
	case SDC_E_BUSY:
		return EXIT_BUSY;
	case SDC_E_CANCELLED:
		return EXIT_CANCELLED;
	case SDC_E_WORKER_LOST:
	case SDC_E_DISCONNECTED:
	case SDC_E_SHUTTING_DOWN:
		return EXIT_LOST;
	case SDC_E_BAD_REQUEST:
	case SDC_E_UNKNOWN_FIELD:
	case SDC_E_MISSING_FIELD:
	case SDC_E_BAD_VALUE:
	case SDC_E_BAD_PIXELS:
		return EXIT_USAGE;
	default:
		return EXIT_FAILED;
	}
}

int usage(const struct verb *verb)
{
	fprintf(stderr, "usage: sdctl %s %s\nsdctl(1) explains them all.\n", verb->name,
		verb->arguments);
	return EXIT_USAGE;
}

static void print_verbs(const struct verb *verbs)
{
	for (; verbs->name; verbs++)
		printf("  %-11s %s\n", verbs->name, verbs->help);
}

static int print_help(void)
{
	printf("usage: sdctl [--socket PATH] [--json] [--quiet] [--verbose] [--spawn] [--inline] "
	       "VERB "
	       "...\n\nPictures:\n");
	print_verbs(generate_verbs);
	printf("\nDaemon:\n");
	print_verbs(query_verbs);
	print_verbs(operate_verbs);
	printf("\n`sdctl VERB --help` lists a verb's options; sdctl(1) explains them and the exit "
	       "codes.\n");
	return EXIT_OK;
}

const struct verb *find_verb(const struct verb *verbs, const char *name)
{
	for (; verbs->name; verbs++) {
		if (strcmp(verbs->name, name) == 0)
			return verbs;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, 'j'},
		{"quiet", no_argument, NULL, 'q'},
		{"verbose", no_argument, NULL, 'v'},
		{"spawn", no_argument, NULL, 'S'},
		{"inline", no_argument, NULL, 'I'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	struct context context = {0};
	const struct verb *verb;
	int option;

	signal(SIGPIPE, SIG_IGN);
	while ((option = getopt_long(argc, argv, "+hqv", options, NULL)) >= 0) {
		switch (option) {
		case 's':
			context.socket = optarg;
			break;
		case 'j':
			context.json = true;
			break;
		case 'q':
			context.quiet = true;
			break;
		case 'v':
			context.verbose = true;
			break;
		case 'S':
			context.spawn = true;
			break;
		case 'I':
			context.inline_pixels = true;
			break;
		case 'h':
			return print_help();
		case 'V':
			printf("sdctl %s\n", SDD_VERSION);
			return EXIT_OK;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind == argc) {
		print_help();
		return EXIT_USAGE;
	}
	verb = find_verb(generate_verbs, argv[optind]);
	if (!verb)
		verb = find_verb(query_verbs, argv[optind]);
	if (!verb)
		verb = find_verb(operate_verbs, argv[optind]);
	if (!verb) {
		complain("no verb \"%s\"; `sdctl --help` lists them", argv[optind]);
		return EXIT_USAGE;
	}
	argc -= optind;
	argv += optind;
	optind = 0;
	return verb->run(&context, argc, argv);
}
