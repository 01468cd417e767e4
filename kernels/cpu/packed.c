/*
 * Weights in the form the kernels want, made once and shared: a picture of another size, a second plan, or a second model of the same files
 * costs no second copy. Keyed by the tensor's data and the wanted form; counted, and gone with the last plan that uses them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/layout.h"
#include "kernels/pages.h"

#define ALIGN	  ((size_t)64)
#define PAGES_MIN ((size_t)64 << 10) /* from here on memory of its own */
#define AROUND	  ((size_t)64 << 10) /* fault_around_bytes of the kernel */

struct sdk_packed {
	struct sdk_packed *next;
	const void *source; /* of the tensor */
	bool plain;	    /* as it is stored, in type; otherwise in layout */
	enum sdk_type type;
	dnnl_memory_desc_t layout;
	int refs;
	void *data;
	size_t bytes; /* 0: data is the tensor's own */
};

static void *data_new(size_t bytes)
{
	if (__builtin_add_overflow(bytes, ALIGN - 1, &bytes))
		return NULL;
	bytes &= ~(ALIGN - 1);
	return bytes >= PAGES_MIN ? sdk_pages_new(bytes)
				  : aligned_alloc(ALIGN, bytes ? bytes : ALIGN);
}

static void data_free(void *data, size_t bytes)
{
	bytes = (bytes + ALIGN - 1) & ~(ALIGN - 1);
	if (bytes >= PAGES_MIN)
		sdk_pages_free(data, bytes);
	else
		free(data);
}

static struct sdk_packed *find_plain(const struct sdk_cpu *cpu, const void *source,
				     enum sdk_type type)
{
	for (struct sdk_packed *packed = cpu->packed; packed; packed = packed->next)
		if (packed->source == source && packed->plain && packed->type == type)
			return packed;
	return NULL;
}

static struct sdk_packed *find(const struct sdk_cpu *cpu, const void *source,
			       const dnnl_memory_desc_t *layout)
{
	for (struct sdk_packed *packed = cpu->packed; packed; packed = packed->next)
		if (packed->source == source && !packed->plain &&
		    dnnl_memory_desc_equal(&packed->layout, layout))
			return packed;
	return NULL;
}

/* With memory of its own unless bytes is 0. */
static struct sdk_packed *packed_new(const void *source, size_t bytes)
{
	struct sdk_packed *packed = calloc(1, sizeof(*packed));

	if (!packed)
		return NULL;
	packed->source = source;
	packed->refs = 1;
	packed->bytes = bytes;
	if (bytes > 0)
		packed->data = data_new(bytes);
	if (bytes > 0 && !packed->data) {
		free(packed);
		return NULL;
	}
	return packed;
}

/* One that is not in the list. */
static void packed_drop(struct sdk_packed *packed)
{
	if (packed->bytes > 0)
		data_free(packed->data, packed->bytes);
	free(packed);
}

static void remember(struct sdk_cpu *cpu, struct sdk_packed *packed)
{
	packed->next = cpu->packed;
	cpu->packed = packed;
}

/*
 * The packed form is what is used from now on: without this a process would hold every weight twice, as packed and as read. A little beyond
 * the tensor on both sides, because the kernel maps pages around the one that is touched; what a neighbour still needs comes again.
 */
static void give_back(const struct sdk_tensor *tensor)
{
	const uintptr_t map = (uintptr_t)tensor->map, map_end = map + tensor->map_bytes;
	const uintptr_t data = (uintptr_t)tensor->data, end = data + sdk_tensor_bytes(tensor);
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	const uintptr_t from = data - map > AROUND ? (data - AROUND) & ~(page - 1) : map;
	const uintptr_t to = map_end - end > AROUND ? end + AROUND : map_end;

	if (tensor->map && !tensor->fill)
		madvise((void *)from, to - from, MADV_DONTNEED);
}

int sdk_packed_floats(struct sdk_cpu *cpu, const struct sdk_tensor *tensor, struct sdk_packed **ret)
{
	struct sdk_packed *packed = find_plain(cpu, tensor->data, SDK_F32);
	const size_t n = (size_t)sdk_tensor_count(tensor);
	int r;

	if (packed) {
		packed->refs++;
	} else {
		packed = packed_new(tensor->data, n * sizeof(float));
		if (!packed)
			return -ENOMEM;
		packed->plain = true;
		packed->type = SDK_F32;
		r = sdk_tensor_floats(tensor, packed->data);
		if (r < 0) {
			packed_drop(packed);
			return r;
		}
		give_back(tensor);
		remember(cpu, packed);
	}
	*ret = packed;
	return 0;
}

int sdk_packed_resting(struct sdk_cpu *cpu, const struct sdk_tensor *tensor, enum sdk_type type,
		       struct sdk_packed **ret)
{
	struct sdk_packed *packed = find_plain(cpu, tensor->data, type);
	const bool own = type != tensor->type;

	if (packed) {
		packed->refs++;
		*ret = packed;
		return 0;
	}
	packed = packed_new(tensor->data,
			    own ? sdk_type_bytes(type, (size_t)sdk_tensor_count(tensor)) : 0);
	if (!packed)
		return -ENOMEM;
	packed->plain = true;
	packed->type = type;
	if (own) {
		sdk_tensor_rest(tensor, type, packed->data);
		give_back(tensor);
	} else {
		packed->data = (void *)(uintptr_t)tensor->data;
	}
	remember(cpu, packed);
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

/* By way of a plain float32 copy. */
static int pack_floats(struct sdk_cpu *cpu, const struct sdk_tensor *tensor,
		       const dnnl_memory_desc_t *md, void *out)
{
	const size_t bytes = (size_t)sdk_tensor_count(tensor) * sizeof(float);
	const bool copies = tensor->type != SDK_F32 || tensor->fill;
	void *floats = (void *)(uintptr_t)tensor->data;
	dnnl_memory_desc_t plain;
	int r;

	r = sdk_cpu_errno(dnnl_memory_desc_init_by_tag(&plain, md->ndims, md->dims, dnnl_f32,
						       md->ndims == 4 ? dnnl_abcd : dnnl_ab));
	if (r < 0)
		return r;
	if (copies) {
		floats = data_new(bytes);
		r = floats ? sdk_tensor_floats(tensor, floats) : -ENOMEM;
	}
	if (r >= 0)
		r = reorder(cpu, &plain, floats, md, out);
	if (copies && floats)
		data_free(floats, bytes);
	return r;
}

/* Rows of stored numbers go straight to their places. */
static int pack(struct sdk_cpu *cpu, const struct sdk_tensor *tensor, const dnnl_memory_desc_t *md,
		void *out)
{
	const size_t row = (size_t)sdk_tensor_count(tensor) / (size_t)tensor->shape[0];
	struct sdk_layout *layout;
	int r;

	if (tensor->fill || row % sdk_type_block(tensor->type).elements != 0)
		return pack_floats(cpu, tensor, md, out);
	r = sdk_layout_new(md, &layout);
	if (r == -ENOTSUP)
		return pack_floats(cpu, tensor, md, out);
	if (r < 0)
		return r;
	sdk_layout_fill(cpu, layout, tensor->type, tensor->data, tensor->scale, out);
	sdk_layout_free(layout);
	return 0;
}

int sdk_packed_weights(struct sdk_cpu *cpu, const struct sdk_tensor *tensor,
		       const dnnl_memory_desc_t *md, struct sdk_packed **ret)
{
	struct sdk_packed *packed = find(cpu, tensor->data, md);
	int r;

	if (packed) {
		packed->refs++;
		*ret = packed;
		return 0;
	}
	packed = packed_new(tensor->data, dnnl_memory_desc_get_size(md));
	if (!packed)
		return -ENOMEM;
	packed->layout = *md;
	r = pack(cpu, tensor, md, packed->data);
	if (r < 0) {
		packed_drop(packed);
		return r;
	}
	give_back(tensor);
	remember(cpu, packed);
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
