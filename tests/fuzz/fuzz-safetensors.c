/*
 * A safetensors file of any bytes: it opens or is refused, and every byte of a tensor it hands out can be read.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/engine/formats/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct sde_weights *weights = NULL;
	struct sde_error error;
	volatile unsigned int sum = 0;
	char path[64];

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (sde_weights_open(path, &weights, &error) >= 0)
		for (size_t i = 0; i < sde_weights_count(weights); i++) {
			const struct sde_tensor *tensor = sde_weights_at(weights, i);

			for (size_t b = 0; b < tensor->bytes; b++)
				sum += ((const unsigned char *)tensor->data)[b];
		}
	else if (!error.message[0])
		abort(); /* a refusal without a reason */
	(void)sum;
	sde_weights_free(weights);
	close(fd);
	return 0;
}
