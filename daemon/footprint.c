/*
 * Reading headers, and the sums; see footprint.h.
 */
#include "daemon/footprint.h"
#include "daemon/config-value.h"
#include "daemon/model-file.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/part-folders.h"
#include "daemon/util/size.h"
#include "daemon/weight-header.h"

#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	CONFIG_BYTES_MAX = 256 << 10,
	FILES_MAX = 64, /* of one component */
	CHANNELS_MAX = 1 << 16,
	SIDE_MAX = 1 << 14,
	/* of SD and SDXL, where a single file does not say */
	UNET_CHANNELS = 320,
	VAE_CHANNELS = 128,
	NATIVE_SIZE = 512,
	NATIVE_SIZE_XL = 1024,
	/* as in the engine: whole pictures up to a megapixel, else tiles */
	WHOLE_MAX = 1024 * 1024,
	TILE = 512,
	/* numbers alive at once for each place and channel of the first level: 16 in U-Nets that attend there, less in others */
	STEP_NUMBERS = 16,
	/* a pixel of float pictures: in, out, and two on the way; the result */
	PICTURE_BYTES = 4 * 4 * 4,
	/* quarters of numbers that ControlNets hand to the denoiser, for each place and channel of the first level */
	GUIDE_QUARTERS = 25,
};

static bool is_text(const char *name)
{
	return strncmp(name, "cond_stage_model.", 17) == 0 ||
	       strncmp(name, "conditioner.", 12) == 0 || strncmp(name, "text_encoders.", 14) == 0;
}

/* The part that a tensor of a folder's component, or of a single file (component NULL), belongs to; NULL = none that is packed. */
static struct sdd_part *part_of(struct sdd_footprint *footprint, const char *component,
				const char *name)
{
	if (strstr(name, "embedding") &&
	    (component ? strncmp(component, "text", 4) == 0 : is_text(name)))
		return NULL; /* rows are read where they lie */
	if (component ? strcmp(component, "vae") == 0
		      : strncmp(name, "first_stage_model.", 18) == 0)
		return strstr(name, "encoder.") ? &footprint->vae_encoder : &footprint->vae_decoder;
	if (component && strncmp(component, "text", 4) == 0)
		return strncmp(name, "encoder.block.", 14) == 0 ? &footprint->t5 : &footprint->text;
	if (!component && is_text(name))
		return strncmp(name, "text_encoders.t5", 16) == 0 ? &footprint->t5
								  : &footprint->text;
	if (!component && strncmp(name, "model.diffusion_model.", 22) != 0)
		return NULL;
	return &footprint->denoiser;
}

/* The component that a file of one part holds, by a tensor that only it has; NULL: none that is known. */
static const char *component_of(const json_t *header)
{
	static const char *const marks[][2] = {
		{"double_blocks.0.img_attn.qkv.weight", "transformer"},
		{"joint_blocks.0.x_block.attn.qkv.weight", "transformer"},
		{"input_blocks.0.0.weight", "unet"},
		{"encoder.block.0.layer.0.SelfAttention.q.weight", "text_encoder_3"},
		{"text_model.embeddings.token_embedding.weight", "text_encoder"},
		{"decoder.conv_in.weight", "vae"},
	};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (json_object_get(header, marks[i][0]))
			return marks[i][1];
	return NULL;
}

static void count_tensor(struct sdd_footprint *footprint, const char *component, const char *name,
			 const json_t *entry)
{
	struct sdd_part *part = part_of(footprint, component, name);
	struct sdd_weight_tensor tensor;

	if (!part || !sdd_weight_tensor_read(entry, &tensor) || tensor.rank < 2)
		return;
	part->numbers = sdd_u64_add_saturated(part->numbers, tensor.numbers);
	part->stored_bytes = sdd_u64_add_saturated(part->stored_bytes, tensor.bytes);
	if (part != &footprint->denoiser)
		return;
	if (tensor.numbers > footprint->largest)
		footprint->largest = tensor.numbers;
	footprint->quantised |= strncmp(tensor.dtype, "F8", 2) == 0;
}

/* A transformer of a single file, by its first layer, and how wide it is. */
static void read_width(struct sdd_footprint *footprint, const json_t *header)
{
	static const char *const layers[] = {"img_in.weight", "model.diffusion_model.img_in.weight",
					     "x_embedder.proj.weight",
					     "model.diffusion_model.x_embedder.proj.weight"};

	for (size_t i = 0; i < sizeof(layers) / sizeof(layers[0]); i++) {
		const json_t *shape = json_object_get(json_object_get(header, layers[i]), "shape");
		const json_int_t width = json_integer_value(json_array_get(shape, 0));

		if (width < 1 || width > CHANNELS_MAX)
			continue;
		footprint->transformer = true;
		footprint->channels = (int)width;
	}
}

/* GGUF: what it holds is not told apart; it stays as it is. */
static void count_gguf(struct sdd_footprint *footprint, const struct stat *st, bool beside)
{
	if (beside) { /* they are made of T5, not of smaller encoders */
		footprint->t5.numbers = footprint->t5.stored_bytes = (uint64_t)st->st_size;
		return;
	}
	footprint->quantised = true;
	footprint->denoiser.numbers = footprint->denoiser.stored_bytes = (uint64_t)st->st_size;
}

/* component: of a folder's; NULL: the file tells. beside: it is known to be no denoiser. */
static bool read_weights(struct sdd_footprint *footprint, const char *component, const char *path,
			 bool beside)
{
	SDD_CLEANUP(json_decrefp) json_t *header = NULL;
	const char *name;
	struct stat st;
	json_t *entry;
	bool gguf;

	header = sdd_weight_header_read(path, &st, &gguf);
	if (gguf)
		count_gguf(footprint, &st, beside);
	component = component ? component : component_of(header);
	read_width(footprint, header);
	json_object_foreach (header, name, entry)
		count_tensor(footprint, component, name, entry);
	return header || gguf;
}

static json_t *read_json(const char *path)
{
	SDD_CLEANUP(sdd_fclosep) FILE *file = fopen(path, "re");
	SDD_CLEANUP(sdd_freep) char *text = malloc(CONFIG_BYTES_MAX);
	json_t *object;
	size_t n;

	if (!file || !text)
		return NULL;
	n = fread(text, 1, CONFIG_BYTES_MAX, file);
	object = json_loadb(text, n, 0, NULL);
	if (object && !json_is_object(object)) {
		json_decref(object);
		return NULL;
	}
	return object;
}

static int number(const json_t *value, int max, int otherwise)
{
	const json_int_t n = json_integer_value(value);

	return n >= 1 && n <= max ? (int)n : otherwise;
}

static void read_settings(struct sdd_footprint *footprint, const char *path)
{
	SDD_CLEANUP(json_decrefp) json_t *settings = read_json(path);
	const char *name = json_string_value(json_object_get(settings, "weights"));
	uint64_t form;

	if (name && sdd_value_parse_form(name, &form) == 0) {
		footprint->form = (enum sdp_weights_form)form;
		footprint->says_form = true;
	}
	footprint->native_size =
		number(json_object_get(settings, "native_size"), SIDE_MAX, footprint->native_size);
}

/* Weight files of a component; of its variants only where there is no plain one, as the engine chooses. */
static void read_component(struct sdd_footprint *footprint, const char *folder,
			   const char *component)
{
	char path[PATH_MAX];
	struct dirent **entries = NULL;
	bool plain = false;
	int n;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, component) >= sizeof(path))
		return;
	n = scandir(path, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++)
		plain |= strstr(entries[i]->d_name, ".safetensors") &&
			 !sdd_weight_is_variant(entries[i]->d_name);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name, *end = strrchr(name, '.');

		if (i < FILES_MAX && end && strcmp(end, ".safetensors") == 0 &&
		    !(plain && sdd_weight_is_variant(name)) &&
		    (size_t)snprintf(path, sizeof(path), "%s/%s/%s", folder, component, name) <
			    sizeof(path))
			footprint->known |= read_weights(footprint, component, path, false);
		free(entries[i]);
	}
	free(entries);
}

static void read_configs(struct sdd_footprint *footprint, const char *folder)
{
	SDD_CLEANUP(json_decrefp) json_t *unet = NULL, *transformer = NULL, *vae = NULL;
	char path[PATH_MAX];
	const json_t *blocks;

	snprintf(path, sizeof(path), "%s/unet/config.json", folder);
	unet = read_json(path);
	snprintf(path, sizeof(path), "%s/transformer/config.json", folder);
	transformer = read_json(path);
	snprintf(path, sizeof(path), "%s/vae/config.json", folder);
	vae = read_json(path);
	blocks = json_object_get(unet, "block_out_channels");
	footprint->channels = number(json_array_get(blocks, 0), CHANNELS_MAX, UNET_CHANNELS);
	footprint->transformer = transformer && !unet;
	if (footprint->transformer)
		footprint->channels =
			number(json_object_get(transformer, "num_attention_heads"), 1024, 24) *
			number(json_object_get(transformer, "attention_head_dim"), 1024, 128);
	blocks = json_object_get(vae, "block_out_channels");
	footprint->vae_channels[0] = number(json_array_get(blocks, 0), CHANNELS_MAX, VAE_CHANNELS);
	footprint->vae_channels[1] =
		number(json_array_get(blocks, 1), CHANNELS_MAX, footprint->vae_channels[0]);
	footprint->native_size = number(json_object_get(unet ? unet : transformer, "sample_size"),
					SIDE_MAX / 8, NATIVE_SIZE / 8) *
				 8;
}

/* Of a file's networks; a transformer's was read with its tensors. */
static void set_widths(struct sdd_footprint *footprint)
{
	if (!footprint->channels)
		footprint->channels = UNET_CHANNELS;
	footprint->vae_channels[0] = VAE_CHANNELS;
	footprint->vae_channels[1] = 2 * VAE_CHANNELS;
}

static void add_part(struct sdd_part *part, const struct sdd_part *more)
{
	part->numbers = sdd_u64_add_saturated(part->numbers, more->numbers);
	part->stored_bytes = sdd_u64_add_saturated(part->stored_bytes, more->stored_bytes);
}

static bool larger(const struct sdd_part *a, const struct sdd_part *b)
{
	return a->stored_bytes > b->stored_bytes;
}

/* Of files of parts the largest of each kind; of CLIP encoders the second, too. */
struct beside {
	struct sdd_footprint most;
	struct sdd_part second;
	int files;
};

static void keep_largest(struct beside *beside, const struct sdd_footprint *one)
{
	if (larger(&one->t5, &beside->most.t5))
		beside->most.t5 = one->t5;
	if (larger(&one->vae_decoder, &beside->most.vae_decoder)) {
		beside->most.vae_decoder = one->vae_decoder;
		beside->most.vae_encoder = one->vae_encoder;
	}
	if (larger(&one->text, &beside->most.text)) {
		beside->second = beside->most.text;
		beside->most.text = one->text;
	} else if (larger(&one->text, &beside->second)) {
		beside->second = one->text;
	}
}

static void read_kind(struct beside *beside, const char *folder, int depth)
{
	struct dirent **entries = NULL;
	const int n = scandir(folder, &entries, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		struct sdd_footprint one = {0};
		char path[PATH_MAX];
		struct stat st;

		if (entries[i]->d_name[0] != '.' && beside->files < FILES_MAX &&
		    (size_t)snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name) <
			    sizeof(path) &&
		    stat(path, &st) == 0) {
			if (S_ISDIR(st.st_mode) && depth > 0) {
				read_kind(beside, path, depth - 1);
			} else if (S_ISREG(st.st_mode)) {
				beside->files++;
				read_weights(&one, NULL, path, true);
				keep_largest(beside, &one);
			}
		}
		free(entries[i]);
	}
	free(entries);
}

/* Which of several files the engine takes is not known here, so the largest of each kind counts; of CLIP encoders two. */
static void read_beside(struct sdd_footprint *footprint, const char *folder)
{
	static const char *const kinds[] = {"text_encoders", "clip", "vae"};
	struct beside beside = {0};
	struct sdd_footprint *most = &beside.most;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		char path[PATH_MAX];

		beside.files = 0;
		if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, kinds[k]) < sizeof(path))
			read_kind(&beside, path, SDD_PART_FOLDERS_DEPTH);
	}
	add_part(&most->text, &beside.second);
	if (!footprint->text.numbers)
		footprint->text = most->text;
	if (!footprint->t5.numbers && footprint->transformer)
		footprint->t5 = most->t5;
	if (!footprint->vae_decoder.numbers) {
		footprint->vae_decoder = most->vae_decoder;
		footprint->vae_encoder = most->vae_encoder;
	}
}

/* The files of a model that lie apart: those its settings name; what is missing then lies in the folders beside it, or below. */
static void read_parts(struct sdd_footprint *footprint, const char *settings_path)
{
	SDD_CLEANUP(json_decrefp) json_t *settings = read_json(settings_path);
	SDD_CLEANUP(sdd_freep) char *folder = strdup(settings_path);
	const json_t *name;
	char path[PATH_MAX], *slash = folder ? strrchr(folder, '/') : NULL;
	const char *kind, *below;
	size_t i;

	if (!slash)
		return;
	*slash = '\0';
	json_array_foreach (json_object_get(settings, "parts"), i, name) {
		const char *file = json_string_value(name);

		if (file && i < FILES_MAX &&
		    (size_t)snprintf(path, sizeof(path), "%s%s%s", file[0] == '/' ? "" : folder,
				     file[0] == '/' ? "" : "/", file) < sizeof(path))
			footprint->known |= read_weights(footprint, NULL, path, i > 0);
	}
	if (footprint->text.numbers && footprint->vae_decoder.numbers)
		return;
	kind = sdd_part_folder(settings_path, &below);
	if (kind && kind > settings_path)
		folder[kind - 1 - settings_path] = '\0';
	read_beside(footprint, folder);
}

static void read_file(struct sdd_footprint *footprint, const char *path)
{
	char settings[PATH_MAX];

	footprint->known = read_weights(footprint, NULL, path, false);
	set_widths(footprint);
	if (!sdd_model_file_settings(path, settings, sizeof(settings)))
		return;
	read_parts(footprint, settings);
	/* two text encoders are SDXL's */
	footprint->native_size = footprint->text.numbers > 400000000 || footprint->transformer
					 ? NATIVE_SIZE_XL
					 : NATIVE_SIZE;
	read_settings(footprint, settings);
}

static void read_folder(struct sdd_footprint *footprint, const char *path)
{
	static const char *const components[] = {
		"unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"};
	char settings[PATH_MAX];

	read_configs(footprint, path);
	for (size_t i = 0; i < sizeof(components) / sizeof(components[0]); i++)
		read_component(footprint, path, components[i]);
	if ((size_t)snprintf(settings, sizeof(settings), "%s/sdd.json", path) >= sizeof(settings))
		return;
	if (!footprint->known)
		read_parts(footprint, settings);
	read_settings(footprint, settings);
}

void sdd_footprint_read(const char *path, struct sdd_footprint *ret_footprint)
{
	struct stat st;

	*ret_footprint = (struct sdd_footprint){0};
	if (stat(path, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode))
		read_folder(ret_footprint, path);
	else
		read_file(ret_footprint, path);
	/* a parsed header is thousands of small pieces, some MB for SDXL, and free() would keep their pages for good */
	malloc_trim(0);
}

struct sdd_types sdd_types_expected(const char *backend, const char *dtype)
{
	bool half = false, wanted = !dtype || strcmp(dtype, "f32") != 0;

	if (backend && strcmp(backend, "ref") == 0)
		return (struct sdd_types){4, 4};
#if defined(__x86_64__)
	__builtin_cpu_init();
	half = __builtin_cpu_supports("avx512bf16");
#endif
	return (struct sdd_types){half && wanted ? 2 : 4,
				  (half && wanted) || (dtype && strcmp(dtype, "bf16") == 0) ? 2
											    : 4};
}

/* Headers are what files say of themselves: sums and products of them stick at the top, which no budget admits. */
static uint64_t plus(uint64_t a, uint64_t b)
{
	return sdd_u64_add_saturated(a, b);
}

static uint64_t times(uint64_t a, uint64_t b)
{
	return sdd_u64_multiply_saturated(a, b);
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* As it stays in memory. small: CLIP and the autoencoder, which Q8_0 leaves as stored. */
static uint64_t resting(const struct sdd_footprint *footprint, const struct sdd_part *part,
			unsigned int packed_type, bool small)
{
	const uint64_t packed = times(part->numbers, packed_type);

	switch (footprint->form) {
	case SDP_WEIGHTS_FORM_STORED:
		return least(part->stored_bytes, packed);
	case SDP_WEIGHTS_FORM_F16:
	case SDP_WEIGHTS_FORM_BF16:
		return least(least(part->stored_bytes, times(part->numbers, 2)), packed);
	case SDP_WEIGHTS_FORM_Q8_0:
		return small ? least(part->stored_bytes, packed)
			     : least(part->stored_bytes, times(part->numbers / 32, 34));
	default:
		return footprint->quantised ? least(part->stored_bytes, packed) : packed;
	}
}

/* A text encoder computes in float32; it is packed only where that is no larger than what is stored, else widened for its one run. */
static uint64_t encoder(const struct sdd_footprint *footprint, const struct sdd_part *part,
			bool small, uint64_t *packed)
{
	const uint64_t full = times(part->numbers, 4);
	const uint64_t bytes = footprint->form == SDP_WEIGHTS_FORM_AUTO
				       ? least(part->stored_bytes, full)
				       : resting(footprint, part, 4, small);

	if (bytes == full)
		*packed = plus(*packed, bytes);
	return bytes;
}

struct stages {
	uint64_t text, packed_text; /* while it encodes; what of it stays */
	uint64_t denoiser, vae, step_run, decode_run;
};

/* Bytes of the autoencoder's activations: two of the second level's width and one of the first's, at full size. */
static uint64_t vae_run(const struct sdd_footprint *footprint, struct sdd_types types,
			const struct sdd_work *work)
{
	uint64_t width = (uint64_t)work->width, height = (uint64_t)work->height;

	if (work->tiled || width * height > WHOLE_MAX) {
		width = least(width, TILE);
		height = least(height, TILE);
	}
	return width * height * types.activation *
	       (uint64_t)(2 * footprint->vae_channels[1] + footprint->vae_channels[0]);
}

/*
 * Weights of adapters are packed like any of the part they change; LoRAs' files stay mapped, as their numbers may be asked for again. The image
 * encoder, in float32, runs while prompts are read. What ControlNets find is summed on the way and lies in the denoiser's run: floats, twice,
 * whose memory the heap may keep to the end, and once as activations.
 */
static void add_adapters(const struct sdd_footprint *footprint, struct sdd_types types,
			 uint64_t places, struct stages *stages)
{
	const uint64_t found = 2 * places * (uint64_t)footprint->channels * GUIDE_QUARTERS / 4;
	const uint64_t floats =
		times(plus(footprint->image_encoder_numbers, footprint->adapter_text_numbers), 4);

	stages->text = plus(stages->text, floats);
	stages->packed_text = plus(stages->packed_text, floats);
	stages->denoiser =
		plus(stages->denoiser, plus(times(footprint->adapter_numbers, types.weight),
					    footprint->adapter_file_bytes));
	if (footprint->guided) {
		stages->denoiser = plus(stages->denoiser, found * 2 * sizeof(float));
		stages->step_run = plus(stages->step_run, found * types.activation);
	}
}

static struct stages stages_of(const struct sdd_footprint *footprint, struct sdd_types types,
			       const struct sdd_work *work)
{
	const uint64_t pixels = (uint64_t)work->width * (uint64_t)work->height;
	const uint64_t places = pixels / (footprint->transformer ? 256 : 64);
	const bool rests = footprint->form != SDP_WEIGHTS_FORM_AUTO || footprint->quantised;
	uint64_t packed_text = 0;
	struct stages s = {
		.text = plus(encoder(footprint, &footprint->text, true, &packed_text),
			     encoder(footprint, &footprint->t5, false, &packed_text)),
		.denoiser = resting(footprint, &footprint->denoiser, types.weight, false),
		.vae = resting(footprint, &footprint->vae_decoder, types.weight, true),
		/* both halves of guidance in one run */
		.step_run = 2 * places * STEP_NUMBERS * (uint64_t)footprint->channels *
			    types.activation,
		.decode_run = vae_run(footprint, types, work),
	};

	s.packed_text = packed_text;
	/* half as much again is what convolutions and attention work in, beside their activations */
	s.step_run += s.step_run / 2;
	s.decode_run += s.decode_run / 2;
	s.step_run *= (uint64_t)(work->batch > 1 ? work->batch : 1);
	add_adapters(footprint, types, places, &s);
	if (rests)
		s.step_run = plus(s.step_run, times(footprint->largest, types.weight));
	if (work->encodes)
		s.vae = plus(s.vae,
			     resting(footprint, &footprint->vae_encoder, types.weight, true));
	return s;
}

static uint64_t pictures(const struct sdd_work *work)
{
	return (uint64_t)work->width * (uint64_t)work->height * PICTURE_BYTES *
	       (uint64_t)(work->batch > 1 ? work->batch : 1);
}

uint64_t sdd_footprint_whole(const struct sdd_footprint *footprint, struct sdd_types types,
			     const struct sdd_work *work)
{
	const struct stages s = stages_of(footprint, types, work);

	if (!footprint->known)
		return 0;
	return plus(plus(s.denoiser, s.vae),
		    plus(most(s.text, plus(s.packed_text, most(s.step_run, s.decode_run))),
			 pictures(work)));
}

uint64_t sdd_footprint_staged(const struct sdd_footprint *footprint, struct sdd_types types,
			      const struct sdd_work *work)
{
	const struct stages s = stages_of(footprint, types, work);

	if (!footprint->known)
		return 0;
	return plus(most(most(s.text, plus(s.denoiser, s.step_run)), plus(s.vae, s.decode_run)),
		    pictures(work));
}
