/*
 * The cpu backend's inside: oneDNN for convolutions and linear layers (it chooses its own instruction set), our loops for
 * everything else, one OpenMP pool for both (Debian's oneDNN runs on libgomp, and so do we: never two pools).
 * Work is cut into tasks by shape alone, so results do not depend on the number of threads.
 */
#pragma once

#include <dnnl.h>

#include "kernels/cpu/simd.h"
#include "kernels/plan-private.h"

struct sdk_packed;

struct sdk_cpu {
	struct sdk_backend base; /* first: the public part */
	enum sdk_isa isa;
	const struct sdk_simd *simd;
	const struct sdk_attention_kernels *attention;
	dnnl_engine_t engine;
	dnnl_stream_t stream;
	struct sdk_packed *packed; /* packed weights, shared by all plans */
	void *scratch;		   /* one for all ops: they run one after another */
	size_t scratch_bytes;
};

/* What an op of the cpu backend is to the dispatcher. state may stay NULL for ops that need none. */
struct sdk_cpu_op {
	int (*prepare)(struct sdk_cpu *cpu, const struct sdk_op *op, void **ret_state);
	int (*run)(struct sdk_cpu *cpu, const struct sdk_op *op, void *state, void *const *in,
		   void *out);
	void (*release)(struct sdk_cpu *cpu, void *state);
};

extern const struct sdk_cpu_op sdk_cpu_conv2d, sdk_cpu_linear, sdk_cpu_group_norm, sdk_cpu_row_norm,
	sdk_cpu_ada_layer_norm, sdk_cpu_rope, sdk_cpu_activate, sdk_cpu_binary, sdk_cpu_affine,
	sdk_cpu_geglu, sdk_cpu_attention, sdk_cpu_resize_nearest, sdk_cpu_concat, sdk_cpu_slice,
	sdk_cpu_embedding, sdk_cpu_add_rows;

/* Call task(userdata, i) for i in 0..tasks-1 on the backend's threads; returns when all are done. */
void sdk_cpu_parallel(const struct sdk_cpu *cpu, size_t tasks,
		      void (*task)(void *userdata, size_t i), void *userdata);
/* Index of the calling thread within a running task: 0..threads-1. */
int sdk_cpu_thread(void);
/* Cores that the affinity mask and the cgroup's cpu quota leave to this process, at least 1. */
int sdk_cpu_cores(void);

/* Make the scratch at least bytes large. Only while preparing. 0 or -ENOMEM. */
int sdk_cpu_scratch(struct sdk_cpu *cpu, size_t bytes);

/* A tensor's numbers as float32, shared between ops; *ret is borrowed until sdk_packed_unref. */
int sdk_packed_floats(struct sdk_cpu *cpu, const struct sdk_tensor *tensor,
		      struct sdk_packed **ret);
/* A weight as it rests in a type (sdk_tensor_rests), shared likewise; no copy where it is stored in that type. 0 or -ENOMEM. */
int sdk_packed_resting(struct sdk_cpu *cpu, const struct sdk_tensor *tensor, enum sdk_type type,
		       struct sdk_packed **ret);
/*
 * A weight (out, in[, k, k]) reordered into md, shared between all ops that want the same. 0, -ENOMEM or -EIO.
 */
int sdk_packed_weights(struct sdk_cpu *cpu, const struct sdk_tensor *tensor,
		       const dnnl_memory_desc_t *md, struct sdk_packed **ret);
void *sdk_packed_data(const struct sdk_packed *packed);
void sdk_packed_unref(struct sdk_cpu *cpu, struct sdk_packed *packed);

/* errno of a oneDNN status. */
int sdk_cpu_errno(dnnl_status_t status);
