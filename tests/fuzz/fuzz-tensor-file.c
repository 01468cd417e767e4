/*
 * A file of tensors of any kind (GGUF, torch in both formats, safetensors): it opens or is refused with a reason; every byte of a tensor it
 * hands out can be read, its numbers widened, and a checkpoint's parts recognised.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/engine/formats/checkpoint.h"
#include "daemon/engine/formats/tensor-file.h"

#define WIDEN_MAX 65536 /* numbers of one tensor */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void touch(const struct sde_tensor *tensor)
{
	volatile unsigned int sum = 0;
	float *values;

	for (size_t b = 0; b < tensor->bytes; b++)
		sum += ((const unsigned char *)tensor->data)[b];
	(void)sum;
	if (tensor->count > WIDEN_MAX)
		return;
	values = malloc(tensor->count * sizeof(*values) + 1);
	if (!values)
		abort();
	sde_tensor_to_f32(tensor, values, NULL);
	free(values);
}

static void recognise(const char *path)
{
	struct sde_checkpoint *checkpoint = NULL;
	const char *name;

	if (sde_checkpoint_open_set(&path, 1, true, &checkpoint, NULL) < 0)
		return;
	for (size_t i = 0; (name = sde_checkpoint_component(checkpoint, i)); i++) {
		struct sde_weights *weights = NULL;
		json_t *config = NULL;

		sde_checkpoint_config(checkpoint, name, &config, NULL);
		sde_checkpoint_weights(checkpoint, name, &weights, NULL);
		json_decref(config);
		sde_weights_free(weights);
	}
	sde_checkpoint_free(checkpoint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct sde_tensor_file *file = NULL;
	struct sde_error error = {0};
	char path[64];

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (sde_tensor_file_open_pickled(path, &file, &error) < 0 && !error.message[0])
		abort(); /* a refusal without a reason */
	for (size_t i = 0; file && i < sde_tensor_file_count(file); i++)
		touch(sde_tensor_file_at(file, i));
	if (file)
		recognise(path);
	sde_tensor_file_unref(file);
	close(fd);
	return 0;
}
