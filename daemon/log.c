/*
 * Journal with fields when stderr is the journal, text on stderr otherwise; see log.h.
 */
#include "daemon/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

enum {
	MESSAGE_MAX = 1024,
	FIELD_MAX = 300,
	FIELDS_MAX = 8,
};

static struct {
	const char *identifier;
	int level;
	bool journal, terminal;
} sink = {.identifier = "sdd", .level = LOG_INFO};

/* systemd tells in JOURNAL_STREAM which file stderr was when it started us (systemd.exec(5)). */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
		return false;
	return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void sdd_log_open(const char *identifier, int level)
{
	sink.identifier = identifier;
	sink.level = level;
	sink.journal = stderr_is_journal();
	sink.terminal = isatty(STDERR_FILENO);
}

void sdd_log_set_level(int level)
{
	sink.level = level;
}

struct fields {
	char text[FIELDS_MAX][FIELD_MAX];
	struct iovec vector[FIELDS_MAX + 1];
	int n;
};

static void __attribute__((format(printf, 2, 3)))
add_field(struct fields *fields, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(fields->text[fields->n], FIELD_MAX, format, ap);
	va_end(ap);
	fields->vector[fields->n] =
		(struct iovec){fields->text[fields->n], strlen(fields->text[fields->n])};
	fields->n++;
}

static void to_journal(int level, const struct sdd_log_about *about, char *message)
{
	struct fields fields = {0};

	add_field(&fields, "PRIORITY=%d", level);
	add_field(&fields, "SYSLOG_IDENTIFIER=%s", sink.identifier);
	if (about && about->job)
		add_field(&fields, "SDD_JOB=%" PRIu64, about->job);
	if (about && about->session)
		add_field(&fields, "SDD_CLIENT=%" PRIu64, about->session);
	if (about && about->peer_pid)
		add_field(&fields, "SDD_CLIENT_PID=%d", about->peer_pid);
	if (about && about->worker_pid)
		add_field(&fields, "SDD_WORKER_PID=%d", about->worker_pid);
	if (about && about->model)
		add_field(&fields, "SDD_MODEL=%s", about->model);
	if (about && about->message_id)
		add_field(&fields, "MESSAGE_ID=%s", about->message_id);
	fields.vector[fields.n] = (struct iovec){message, strlen(message)};
	sd_journal_sendv(fields.vector, fields.n + 1);
}

static void to_stderr(int level, const struct sdd_log_about *about, const char *message)
{
	char line[MESSAGE_MAX + 256], about_text[256] = "";
	size_t used = 0;
	int n;

#define ABOUT(_condition, ...)                                                                     \
	if (about && (_condition)) {                                                               \
		n = snprintf(about_text + used, sizeof(about_text) - used, __VA_ARGS__);           \
		if (n > 0 && (size_t)n < sizeof(about_text) - used)                                \
			used += (size_t)n;                                                         \
	}
	ABOUT(about->job, " job=%" PRIu64, about->job)
	ABOUT(about->session, " client=%" PRIu64, about->session)
	ABOUT(about->peer_pid, " client_pid=%d", about->peer_pid)
	ABOUT(about->worker_pid, " worker_pid=%d", about->worker_pid)
	ABOUT(about->model, " model=%s", about->model)
#undef ABOUT
	/* the <N> prefix of sd-daemon(3) gives the line its level when a supervisor reads it */
	if (sink.terminal)
		n = snprintf(line, sizeof(line), "%s: %s%s\n", sink.identifier, message,
			     about_text);
	else
		n = snprintf(line, sizeof(line), "<%d>%s: %s%s\n", level, sink.identifier, message,
			     about_text);
	/* one write, so that lines of sdd and its worker do not mix; a full pipe loses the line, never blocks the daemon's
	 * answer to anybody */
	if (n > 0 &&
	    write(STDERR_FILENO, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1) < 0)
		errno = 0;
}

void sdd_log(int level, const struct sdd_log_about *about, const char *format, ...)
{
	char message[MESSAGE_MAX] = "MESSAGE=";
	const size_t prefix = strlen(message);
	int saved = errno;
	va_list ap;

	if (level > sink.level)
		return;
	va_start(ap, format);
	vsnprintf(message + prefix, sizeof(message) - prefix, format, ap);
	va_end(ap);
	/* what a client wrote may be in here: one event stays one line */
	for (char *c = message + prefix; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
	if (sink.journal)
		to_journal(level, about, message);
	else
		to_stderr(level, about, message + prefix);
	errno = saved;
}
