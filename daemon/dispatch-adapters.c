/*
 * Handler of adapters.list: what lies in loras/, controlnets/ and embeddings/ of the model folders. Names only: the worker opens
 * what a job names.
 */
#include "daemon/dispatch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAMES_MAX = 1000, NAME_BYTES = 128 };

struct names {
	char (*items)[NAME_BYTES]; /* NAMES_MAX */
	size_t n;
};

/* "x.safetensors" -> "x"; a folder as it is; what is neither is none. */
static void add_name(struct names *names, const struct dirent *entry)
{
	static const char ending[] = ".safetensors";
	const size_t length = strlen(entry->d_name), end = sizeof(ending) - 1;
	const bool file = length > end && strcmp(entry->d_name + length - end, ending) == 0;
	const size_t kept = file ? length - end : length;

	if (entry->d_name[0] == '.' || kept >= NAME_BYTES || names->n == NAMES_MAX)
		return;
	if (!file && (entry->d_type != DT_DIR && entry->d_type != DT_LNK))
		return;
	/* an IP-Adapter's own, no adapter */
	if (strcmp(entry->d_name, "image_encoder") == 0)
		return;
	snprintf(names->items[names->n++], NAME_BYTES, "%.*s", (int)kept, entry->d_name);
}

static int scan(struct names *names, const char *root, const char *folder)
{
	const struct dirent *entry;
	char *path;
	DIR *dir;

	if (asprintf(&path, "%s/%s", root, folder) < 0)
		return -ENOMEM;
	dir = opendir(path);
	free(path);
	while (dir && (entry = readdir(dir)))
		add_name(names, entry);
	if (dir)
		closedir(dir);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(a, b);
}

int sdd_handle_adapters_list(struct sdd_request *request, struct sdp_error *ret_error)
{
	static const char *const folders[] = {"loras", "controlnets", "embeddings"};
	const struct sdd_registry *registry = &request->session->server->registry;
	struct names names = {calloc(NAMES_MAX, sizeof(*names.items)), 0};
	struct sdp_writer writer = SDP_WRITER_INIT;
	int r = names.items ? 0 : -ENOMEM;

	sdp_writer_response(&writer, request->msgid);
	for (size_t f = 0; r == 0 && f < sizeof(folders) / sizeof(folders[0]); f++) {
		names.n = 0;
		for (size_t i = 0; r == 0 && i < registry->n_roots; i++)
			r = scan(&names, registry->roots[i], folders[f]);
		qsort(names.items, names.n, sizeof(*names.items), by_name);
		sdp_writer_list_begin(&writer, folders[f]);
		for (size_t i = 0; i < names.n; i++)
			if (i == 0 || strcmp(names.items[i], names.items[i - 1]) != 0)
				sdp_writer_string(&writer, NULL, names.items[i]);
		sdp_writer_end(&writer);
	}
	free(names.items);
	if (r == 0)
		sdd_session_reply(request->session, request->msgid, &writer);
	sdp_writer_clear(&writer);
	return r < 0 ? sdp_error_set(ret_error, SDP_CODE_NO_MEMORY, "out of memory") : 0;
}
