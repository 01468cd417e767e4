/*
 * Checkpoints in the layouts that people exchange as one file: CompVis' latent-diffusion names (SD 1.x, 2.x, XL and its refiner),
 * OpenCLIP's text encoders, the sequential TAESD. The models' tables know diffusers' names only: these functions present the tensors
 * of one part of a file under those names, split what is stored fused and turn what is stored transposed. What has no other name
 * keeps its own, so that binding a model complains about it by that name.
 */
#pragma once

#include "daemon/engine/formats/weights.h"

/* One component inside a file: the tensors whose names begin with prefix. Both borrowed. */
struct sde_part {
	struct sde_tensor_file *file;
	const char *prefix;
};

/* The tensor called prefix + format; NULL if there is none. */
const struct sde_tensor *sde_part_find(const struct sde_part *part, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * All of these: weights are new (sde_weights_new) and already hold the part's file; the caller seals them. -ENOMEM, -EBADMSG for a
 * fused tensor that cannot be cut.
 */
typedef int sde_part_map_fn(const struct sde_part *part, struct sde_weights *weights,
			    struct sde_error *error);
sde_part_map_fn sde_map_same;	  /* names are diffusers' already, behind the prefix */
sde_part_map_fn sde_map_ldm_unet; /* input_blocks, middle_block, output_blocks */
sde_part_map_fn sde_map_ldm_vae;  /* encoder.down, decoder.up */
sde_part_map_fn sde_map_clip;	  /* transformers' names, with or without text_model. */
sde_part_map_fn sde_map_openclip; /* resblocks; q, k and v fused; the projection transposed */
sde_part_map_fn
	sde_map_openclip_sd2; /* the same without last block and projection, as SD 2.x uses it */
sde_part_map_fn sde_map_sd3;  /* joint_blocks */
sde_part_map_fn sde_map_flux; /* double_blocks, single_blocks */
sde_part_map_fn sde_map_t5;   /* transformers' names */
sde_part_map_fn sde_map_t5_llama;      /* llama.cpp's */
sde_part_map_fn sde_map_taesd_encoder; /* numbers of a torch.nn.Sequential */
sde_part_map_fn sde_map_taesd_decoder;

/* A translation of the beginning of a name; lists end with {NULL, NULL}. */
struct sde_rename {
	const char *from, *to;
};

/* to + rest by the first rule that fits, else false. */
bool sde_rename(const struct sde_rename *rules, const char *name, char *ret_name, size_t size);

/* The other way: from + rest by the first rule whose `to` fits. */
bool sde_rename_back(const struct sde_rename *rules, const char *name, char *ret_name, size_t size);

/* What the U-Net calls its tensors outside of blocks, and inside a residual block; names end with a '.'. */
extern const struct sde_rename sde_ldm_stem[], sde_ldm_resnet[];

/*
 * For the mapping files: call each for every tensor of the part, name being behind the prefix. Scaled 8-bit floats come with their scale; the
 * tensors that only carry it ("X.scale_weight", "scaled_fp8") do not come.
 */
int sde_part_each(const struct sde_part *part,
		  int (*each)(void *userdata, const struct sde_tensor *tensor, const char *name,
			      struct sde_error *error),
		  void *userdata, struct sde_error *error);
