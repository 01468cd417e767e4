/*
 * Looking into the header of a weight file; see model-file.h. The header's text is searched, not parsed: a safetensors header is JSON,
 * a GGUF header binary, and in both the names stand as they are.
 */
#include "daemon/model-file.h"
#include "daemon/util/cleanup.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
	HEADER_BYTES_MAX = 4 << 20, /* published models have less than 1 MB */
	KNOWN_MAX = 4096,
};

/* What the header of a file in this state says. */
struct header_facts {
	uint64_t state;
	enum sdp_model_kind kind;
	int in_channels;
	bool paints, holds_autoencoder, holds_text;
};

struct sdd_memo sdd_model_files_known(void)
{
	return sdd_memo_new(sizeof(struct header_facts), KNOWN_MAX);
}

/* A tensor that only this denoiser has, and the one that tells what it reads: its second dimension is `packed` times the latent channels. */
static const struct {
	const char *mark, *first_layer;
	int packed;
} denoisers[] = {
	{"input_blocks.0.0.weight", "input_blocks.0.0.weight", 1},
	{"joint_blocks.0.x_block.attn.qkv.weight", "x_embedder.proj.weight", 1},
	{"double_blocks.0.img_attn.qkv.weight", "img_in.weight", 4},
};

#define N_DENOISERS (sizeof(denoisers) / sizeof(denoisers[0]))

/* Adapters are built of a denoiser's blocks. */
static const char *const adapters[] = {"control_model.", "controlnet_blocks.", "input_hint_block.",
				       ".lora_"};

static bool has(const char *header, size_t size, const char *needle)
{
	return memmem(header, size, needle, strlen(needle));
}

/* The part of the file that names tensors, NUL-terminated; NULL when it is no weight file. */
static char *read_header(int fd, enum sdp_model_kind *ret_kind, size_t *ret_size)
{
	unsigned char head[9];
	uint64_t size = 0;
	char *header;
	ssize_t n;

	if (pread(fd, head, sizeof(head), 0) != sizeof(head))
		return NULL;
	for (int i = 7; i >= 0; i--)
		size = size << 8 | head[i];
	*ret_kind = SDP_MODEL_KIND_SAFETENSORS;
	if (memcmp(head, "GGUF", 4) == 0) {
		*ret_kind = SDP_MODEL_KIND_GGUF;
		size = HEADER_BYTES_MAX;
	} else if (head[8] != '{' || size > HEADER_BYTES_MAX) {
		return NULL;
	}
	header = malloc(size + 1);
	if (!header)
		return NULL;
	n = pread(fd, header, size, 8);
	if (n < 0) {
		free(header);
		return NULL;
	}
	header[n] = '\0';
	*ret_size = (size_t)n;
	return header;
}

/* The second number of a layer's shape; 0 when it cannot be told. */
static int read_channels(const char *header, size_t size, const char *layer)
{
	const size_t length = strlen(layer);
	const char *at = memmem(header, size, layer, length), *end = header + size, *shape;
	int channels = 0;
	uint32_t rank;
	uint64_t dims[4];

	if (!at)
		return 0;
	at += length;
	shape = *at == '"' ? strstr(at, "\"shape\"") : NULL;
	if (shape && sscanf(shape, "\"shape\" : [ %*d , %d", &channels) == 1)
		return channels > 0 && channels < 4096 ? channels : 0;
	if ((size_t)(end - at) < sizeof(rank) + sizeof(dims))
		return 0;
	memcpy(&rank, at,
	       sizeof(rank)); /* GGUF: rank and dimensions behind the name, the last one first */
	memcpy(dims, at + sizeof(rank), sizeof(dims));
	return (rank == 2 || rank == 4) && dims[rank - 2] > 0 && dims[rank - 2] < 4096
		       ? (int)dims[rank - 2]
		       : 0;
}

size_t sdd_model_file_name_length(const char *name)
{
	static const char *const endings[] = {".safetensors", ".gguf", ".ckpt"};
	const size_t length = strlen(name);

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		const size_t ending = strlen(endings[i]);

		if (length > ending && strcmp(name + length - ending, endings[i]) == 0)
			return length - ending;
	}
	return length;
}

bool sdd_model_file_settings(const char *path, char *ret_path, size_t size)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');

	return (size_t)snprintf(ret_path, size, "%.*s.sdd.json",
				(int)((dot && dot > name ? dot : path + strlen(path)) - path),
				path) < size;
}

static bool holds_autoencoder(const char *header, size_t size)
{
	return has(header, size, "first_stage_model.") || has(header, size, "vae.decoder.");
}

static bool holds_text(const char *header, size_t size)
{
	return has(header, size, "cond_stage_model.") ||
	       has(header, size, "conditioner.embedders.") || has(header, size, "text_encoders.");
}

static struct header_facts facts_of(const char *header, size_t size, enum sdp_model_kind kind)
{
	struct header_facts facts = {.kind = kind};
	size_t which = 0;

	for (size_t i = 0; i < sizeof(adapters) / sizeof(adapters[0]); i++)
		if (has(header, size, adapters[i]))
			return facts;
	while (which < N_DENOISERS && !has(header, size, denoisers[which].mark))
		which++;
	if (which == N_DENOISERS)
		return facts;
	facts.paints = true;
	facts.in_channels =
		read_channels(header, size, denoisers[which].first_layer) / denoisers[which].packed;
	facts.holds_autoencoder = holds_autoencoder(header, size);
	facts.holds_text = holds_text(header, size);
	return facts;
}

/* From the header, or as it is remembered. Nothing is remembered of what is no weight file: nine bytes tell. */
static bool find_facts(const char *path, struct sdd_memo *known, struct stat *ret_st,
		       struct header_facts *ret_facts)
{
	SDD_CLEANUP(sdd_closep)
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	SDD_CLEANUP(sdd_freep) char *header = NULL;
	const struct header_facts *remembered;
	enum sdp_model_kind kind;
	size_t size;

	if (fd < 0 || fstat(fd, ret_st) < 0 || !S_ISREG(ret_st->st_mode))
		return false;
	remembered = sdd_memo_find(known, sdd_hash_stat(1, ret_st));
	if (remembered) {
		*ret_facts = *remembered;
		return true;
	}
	header = read_header(fd, &kind, &size);
	if (!header)
		return false;
	*ret_facts = facts_of(header, size, kind);
	ret_facts->state = sdd_hash_stat(1, ret_st);
	if (sdd_memo_settles_in_us(ret_st) == 0)
		sdd_memo_add(known, ret_facts);
	return true;
}

bool sdd_model_file_read(const char *path, struct sdd_memo *known,
			 struct sdd_model_facts *ret_facts, uint64_t *ret_bytes)
{
	struct header_facts header;
	char settings[PATH_MAX];
	struct stat st;

	if (!find_facts(path, known, &st, &header) || !header.paints ||
	    !sdd_model_file_settings(path, settings, sizeof(settings)))
		return false;
	sdd_model_facts_read_settings(AT_FDCWD, settings, ret_facts);
	ret_facts->in_channels = header.in_channels;
	ret_facts->kind = header.kind;
	ret_facts->lacks_parts =
		!ret_facts->lists_parts && (!header.holds_autoencoder || !header.holds_text);
	*ret_bytes = (uint64_t)st.st_size;
	return true;
}
