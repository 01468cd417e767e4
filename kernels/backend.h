/*
 * What a backend is: a vtable that prepares recorded ops once (primitives, packed weights) and runs them on arena memory.
 * The plan owns shapes and lifetimes; a backend never sees the graph, only one op at a time and its neighbours' fusion.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "kernels/tensor.h"

struct sdk_op;
struct sdk_backend;

struct sdk_backend_options {
	const char *name; /* "cpu" (NULL), "ref", or one of them behind "faulty:" */
	const char *
		dtype; /* activations: "auto" (NULL), "f32", "bf16"; ref rounds to bf16 but stores floats */
	int threads; /* 0 = as many as affinity mask and cgroup quota allow */
	const char *
		isa; /* cpu: no instructions above "baseline", "avx2", "avx512", "avx512_bf16"; NULL = no limit */
};

struct sdk_backend_ops {
	/* Build what the op needs; *ret_state is given back to run and release. 0 or a negative errno. */
	int (*prepare)(struct sdk_backend *backend, const struct sdk_op *op, void **ret_state);
	/* in[i] and out are the values' memory; must not allocate. 0 or a negative errno. */
	int (*run)(struct sdk_backend *backend, const struct sdk_op *op, void *state,
		   void *const *in, void *out);
	void (*release)(struct sdk_backend *backend, const struct sdk_op *op, void *state);
	void (*free)(struct sdk_backend *backend);
	bool fuses; /* conv2d and linear can take an activation or a residual behind them (plan-private.h) */
};

struct sdk_backend {
	const struct sdk_backend_ops *ops;
	enum sdk_type activation; /* type of every value but ids: SDK_F32 or SDK_BF16 */
	bool rounds; /* to less than float32 on the way: text encoders then run on a second, float32 backend */
	int threads;
	atomic_ulong *pulse; /* counted up with every op; NULL = nobody looks */
	/* The memory of values, one for all plans of the backend, as large as the largest has needed (sdk_pages_new). */
	unsigned char *arena;
	size_t arena_bytes;
	char description[128]; /* e.g. "cpu (oneDNN 2.6.3, avx512_core_bf16), bf16, 2 threads" */
};

/* Open a backend. 0 and an owned backend, -EINVAL for an unknown name or type (err says which exist), -ENOMEM. */
int sdk_backend_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		     char *err, size_t err_size);
struct sdk_backend *sdk_backend_close(struct sdk_backend *backend);
/* Make the arena at least bytes large: 0 or -ENOMEM. What lay in it is lost when it grows. */
int sdk_backend_reserve(struct sdk_backend *backend, size_t bytes);
/* Give the arena back to the system; plans that are left get one again with their next value. */
void sdk_backend_trim(struct sdk_backend *backend);

/* Constructors of the single backends, called by sdk_backend_open(). */
int sdk_ref_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		 char *err, size_t err_size);
#define SDK_FAULTY_PREFIX "faulty:"
/* "faulty:ref@17": the ref backend, whose 17th call to prepare or run an op fails with -EIO; "@17+": and all after it. */
int sdk_faulty_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		    char *err, size_t err_size);
/* Count anew, and fail the nth call (0 = none). Meant for tests; one fault for all faulty backends. */
void sdk_faulty_arm(unsigned long nth, bool sticky);
unsigned long sdk_faulty_calls(void);
int sdk_cpu_open(const struct sdk_backend_options *options, struct sdk_backend **ret_backend,
		 char *err, size_t err_size);
