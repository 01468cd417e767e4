/*
 * A backend around another that fails on demand: what allocation failures, driver errors and lost devices look like from
 * above, at any op a test chooses. It counts the calls that may fail (prepare and run) of all faulty backends together.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"

struct faulty {
	struct sdk_backend backend;
	struct sdk_backend *inner;
};

static atomic_ulong calls, failing;
static atomic_bool sticky;

void sdk_faulty_arm(unsigned long nth, bool stays)
{
	atomic_store(&calls, 0);
	atomic_store(&failing, nth);
	atomic_store(&sticky, stays);
}

unsigned long sdk_faulty_calls(void)
{
	return atomic_load(&calls);
}

static bool fails(void)
{
	const unsigned long call = atomic_fetch_add(&calls, 1) + 1;
	const unsigned long nth = atomic_load(&failing);

	return nth > 0 && (call == nth || (call > nth && atomic_load(&sticky)));
}

static struct sdk_backend *inner_of(struct sdk_backend *backend)
{
	return ((struct faulty *)backend)->inner;
}

static int faulty_prepare(struct sdk_backend *backend, const struct sdk_op *op, void **ret_state)
{
	struct sdk_backend *inner = inner_of(backend);

	return fails() ? -EIO : inner->ops->prepare(inner, op, ret_state);
}

static int faulty_run(struct sdk_backend *backend, const struct sdk_op *op, void *state,
		      void *const *in, void *out)
{
	struct sdk_backend *inner = inner_of(backend);

	return fails() ? -EIO : inner->ops->run(inner, op, state, in, out);
}

static void faulty_release(struct sdk_backend *backend, const struct sdk_op *op, void *state)
{
	struct sdk_backend *inner = inner_of(backend);

	inner->ops->release(inner, op, state);
}

static void faulty_free(struct sdk_backend *backend)
{
	sdk_backend_close(inner_of(backend));
	free(backend);
}

/* NAME, NAME@N or NAME@N+ -> the name alone, and the fault. */
static int parse(const char *text, char *name, size_t size)
{
	const char *at = strchr(text, '@');
	const size_t length = at ? (size_t)(at - text) : strlen(text);
	unsigned long nth;
	char *end;

	if (length >= size)
		return -EINVAL;
	memcpy(name, text, length);
	name[length] = '\0';
	if (!at)
		return 0;
	nth = strtoul(at + 1, &end, 10);
	if (end == at + 1 || nth == 0 || (*end && strcmp(end, "+") != 0))
		return -EINVAL;
	sdk_faulty_arm(nth, *end == '+');
	return 0;
}

int sdk_faulty_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		    char *err, size_t err_size)
{
	static const struct sdk_backend_ops tables[] = {
		{faulty_prepare, faulty_run, faulty_release, faulty_free, false},
		{faulty_prepare, faulty_run, faulty_release, faulty_free, true},
	};
	struct sdk_backend_options inner = *options;
	struct faulty *faulty;
	char name[16];
	int r;

	if (parse(options->name + strlen(SDK_FAULTY_PREFIX), name, sizeof(name)) < 0) {
		snprintf(err, err_size, "%s: must be " SDK_FAULTY_PREFIX "NAME[@N[+]]",
			 options->name);
		return -EINVAL;
	}
	faulty = calloc(1, sizeof(*faulty));
	if (!faulty) {
		snprintf(err, err_size, "out of memory");
		return -ENOMEM;
	}
	inner.name = name;
	r = sdk_backend_open(&inner, &faulty->inner, err, err_size);
	if (r < 0) {
		free(faulty);
		return r;
	}
	faulty->backend = *faulty->inner;
	faulty->backend.ops = &tables[faulty->inner->ops->fuses];
	*ret_backend = &faulty->backend;
	return 0;
}
