/*
 * Weights in the form the kernels want, made once and shared: a picture of another size, or a second plan, costs no second
 * copy. Keyed by the tensor's data and the wanted layout; counted, and gone with the last plan that uses them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"

#define ALIGN ((size_t)64)

struct sdk_packed {
	struct sdk_packed *next;
	const void *source; /* of the tensor */
	bool floats;	    /* plain float32; otherwise in layout */
	dnnl_memory_desc_t layout;
	int refs;
	void *data;
};

static void *aligned_new(size_t bytes)
{
	if (__builtin_add_overflow(bytes, ALIGN - 1, &bytes))
		return NULL;
	bytes &= ~(ALIGN - 1);
	return aligned_alloc(ALIGN, bytes ? bytes : ALIGN);
}

static struct sdk_packed *find(const struct sdk_cpu *cpu, const void *source,
			       const dnnl_memory_desc_t *layout)
{
	for (struct sdk_packed *packed = cpu->packed; packed; packed = packed->next)
		if (packed->source == source && packed->floats == !layout &&
		    (!layout || dnnl_memory_desc_equal(&packed->layout, layout)))
			return packed;
	return NULL;
}

static struct sdk_packed *packed_new(const void *source, const dnnl_memory_desc_t *layout,
				     size_t bytes)
{
	struct sdk_packed *packed = calloc(1, sizeof(*packed));

	if (!packed)
		return NULL;
	packed->source = source;
	packed->floats = !layout;
	if (layout)
		packed->layout = *layout;
	packed->refs = 1;
	packed->data = aligned_new(bytes);
	if (!packed->data) {
		free(packed);
		return NULL;
	}
	return packed;
}

/* One that is not in the list. */
static void packed_drop(struct sdk_packed *packed)
{
	free(packed->data);
	free(packed);
}

/*
 * The packed form is what is used from now on: without this a process would hold every weight twice, as packed and as read.
 * Whole pages inside the tensor only; a neighbour's bytes on the first and last page stay.
 */
static void give_back(const struct sdk_tensor *tensor)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const uintptr_t begin = ((uintptr_t)tensor->data + page - 1) & ~(page - 1);
	const uintptr_t end = ((uintptr_t)tensor->data + sdk_tensor_bytes(tensor)) & ~(page - 1);

	if (tensor->mapped && !tensor->fill && begin < end)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
}

int sdk_packed_floats(struct sdk_cpu *cpu, const struct sdk_tensor *tensor, struct sdk_packed **ret)
{
	struct sdk_packed *packed = find(cpu, tensor->data, NULL);
	const size_t n = (size_t)sdk_tensor_count(tensor);
	int r;

	if (packed) {
		packed->refs++;
	} else {
		packed = packed_new(tensor->data, NULL, n * sizeof(float));
		if (!packed)
			return -ENOMEM;
		r = sdk_tensor_floats(tensor, packed->data);
		if (r < 0) {
			packed_drop(packed);
			return r;
		}
		give_back(tensor);
		packed->next = cpu->packed;
		cpu->packed = packed;
	}
	*ret = packed;
	return 0;
}

/* Run a reorder from plain float32 `from` into `to`. */
static int reorder(struct sdk_cpu *cpu, const dnnl_memory_desc_t *from_md, void *from,
		   const dnnl_memory_desc_t *to_md, void *to)
{
	dnnl_memory_t source = NULL, target = NULL;
	dnnl_primitive_desc_t pd = NULL;
	dnnl_primitive_t primitive = NULL;
	dnnl_status_t status;

	status = dnnl_memory_create(&source, from_md, cpu->engine, from);
	if (status == dnnl_success)
		status = dnnl_memory_create(&target, to_md, cpu->engine, to);
	if (status == dnnl_success)
		status = dnnl_reorder_primitive_desc_create(&pd, from_md, cpu->engine, to_md,
							    cpu->engine, NULL);
	if (status == dnnl_success)
		status = dnnl_primitive_create(&primitive, pd);
	if (status == dnnl_success) {
		const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};

		status = dnnl_primitive_execute(primitive, cpu->stream, 2, args);
	}
	if (status == dnnl_success)
		status = dnnl_stream_wait(cpu->stream);
	if (primitive)
		dnnl_primitive_destroy(primitive);
	if (pd)
		dnnl_primitive_desc_destroy(pd);
	if (target)
		dnnl_memory_destroy(target);
	if (source)
		dnnl_memory_destroy(source);
	return sdk_cpu_errno(status);
}

int sdk_packed_weights(struct sdk_cpu *cpu, const struct sdk_tensor *tensor,
		       const dnnl_memory_desc_t *md, struct sdk_packed **ret)
{
	struct sdk_packed *packed = find(cpu, tensor->data, md);
	const size_t n = (size_t)sdk_tensor_count(tensor);
	dnnl_memory_desc_t plain;
	float *floats = NULL;
	int r;

	if (packed) {
		packed->refs++;
		*ret = packed;
		return 0;
	}
	r = sdk_cpu_errno(dnnl_memory_desc_init_by_tag(&plain, md->ndims, md->dims, dnnl_f32,
						       md->ndims == 4 ? dnnl_abcd : dnnl_ab));
	if (r < 0)
		return r;
	packed = packed_new(tensor->data, md, dnnl_memory_desc_get_size(md));
	if (!packed)
		return -ENOMEM;
	if (tensor->type != SDK_F32 || tensor->fill) {
		floats = aligned_new(n * sizeof(float));
		r = floats ? sdk_tensor_floats(tensor, floats) : -ENOMEM;
	}
	if (r >= 0)
		r = reorder(cpu, &plain, floats ? (void *)floats : (void *)(uintptr_t)tensor->data,
			    md, packed->data);
	free(floats);
	if (r < 0) {
		packed_drop(packed);
		return r;
	}
	give_back(tensor);
	packed->next = cpu->packed;
	cpu->packed = packed;
	*ret = packed;
	return 0;
}

void *sdk_packed_data(const struct sdk_packed *packed)
{
	return packed->data;
}

void sdk_packed_unref(struct sdk_cpu *cpu, struct sdk_packed *packed)
{
	struct sdk_packed **link = &cpu->packed;

	if (!packed || --packed->refs > 0)
		return;
	while (*link != packed)
		link = &(*link)->next;
	*link = packed->next;
	packed_drop(packed);
}
