/*
 * The narrow boundary of the engine: everything sdd-worker may call. Models and pictures go in, layers come out;
 * nothing here knows sockets, msgpack or logs. One struct sde_engine owns a backend and its threads; a model belongs
 * to the engine that loaded it. Not thread safe: one engine thread calls it; only *cancel may be written from another.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/engine/error.h"
#include "daemon/engine/pixels/image.h"
#include "daemon/engine/rng.h"

struct sde_engine;
struct sde_model;

/*
 * In which form the weights stay in memory, from "auto" to "q8_0" (sde_weights_form_names): auto packs them into the type the processor multiplies
 * (but keeps text encoders and what is quantised as it is), stored keeps them as they lie in the file, the others convert; whatever is not packed is widened
 * whenever it is used. q8_0 is for the denoiser and T5; CLIP and the autoencoder stay as stored.
 */
enum sde_weights_form {
	SDE_WEIGHTS_DEFAULT = -1, /* what the model's sdd.json says, else the engine's own */
	SDE_WEIGHTS_AUTO,
	SDE_WEIGHTS_STORED,
	SDE_WEIGHTS_F16,
	SDE_WEIGHTS_BF16,
	SDE_WEIGHTS_Q8_0,
	SDE_WEIGHTS_FORMS
};
extern const char *const sde_weights_form_names[SDE_WEIGHTS_FORMS];
/* By its name. 0 or -EINVAL. */
int sde_weights_form_parse(const char *name, enum sde_weights_form *ret_form);

struct sde_engine_options {
	const char *backend; /* "cpu" (default when NULL) or "ref" */
	const char *
		dtype; /* activations: "auto" (NULL; bf16 where the processor has it, else f32), "f32", "bf16" */
	int threads; /* 0 = as many as the affinity mask and cgroup quota allow */
	atomic_ulong *
		pulse; /* counted up between ops: still while jobs run means the engine hangs; may be NULL */
	/* of models whose sdd.json names none; auto when 0 */
	enum sde_weights_form weights;
	uint64_t
		cache_bytes; /* kept of what jobs have in common (enum sde_cache_kind), all together; 0 = nothing */
};

/* Returns 0 and an engine owned by the caller, or a negative errno with *ret_error filled. */
int sde_engine_new(const struct sde_engine_options *options, struct sde_engine **ret_engine,
		   struct sde_error *ret_error);
struct sde_engine *sde_engine_free(struct sde_engine *engine);
/* One line for logs and status, e.g. "cpu (oneDNN 2.6.3, avx512_core_bf16), bf16, 2 threads". Owned by the engine. */
const char *sde_engine_describe(const struct sde_engine *engine);

/* What is kept from job to job: prompts' embeddings, encoded source pictures, models with their adapters. */
enum sde_cache_kind { SDE_CACHE_TEXT, SDE_CACHE_SOURCE, SDE_CACHE_ADAPTERS, SDE_CACHE_KINDS };

struct sde_cache_stats {
	uint64_t hits, misses; /* since the engine was made */
	uint64_t entries, bytes;
	uint64_t limit_bytes; /* of all kinds together */
};

void sde_engine_cache_stats(const struct sde_engine *engine, enum sde_cache_kind kind,
			    struct sde_cache_stats *ret_stats);

struct sde_model_info {
	const char *
		family; /* "sd1", "sd2", "sdxl", "sdxl-refiner", "sd3", "sd3.5", "flux", "flux-schnell", "flux-fill" */
	int in_channels; /* of latents: 4 or 16; more for models that fill in (9; 96 of FLUX fill) */
	int native_size; /* side in pixels the model was trained at (unet sample_size * vae factor) */
	int min_side, max_side; /* work resolution the geometry engine may choose between, pixels */
	int default_steps;	/* used when a job leaves steps at 0 */
	double default_guidance; /* used when a job leaves guidance_scale negative */
	const char *default_sampler;
	uint64_t weight_bytes; /* as stored in the files */
	uint64_t
		shared_bytes; /* of them, what other models had in memory already when it was loaded */
	enum sde_weights_form weights; /* in effect */
	bool previews;		       /* it can show sketches while it samples */
};

/*
 * Load a diffusers folder or a checkpoint file, told apart by what is there. Weights stay memory-mapped. Errors name the file and the tensor.
 * A model is refcounted; the last unref frees it.
 */
int sde_model_load(struct sde_engine *engine, const char *path, struct sde_model **ret_model,
		   struct sde_error *ret_error);

/* The same with weights in a form of choice. */
int sde_model_load_as(struct sde_engine *engine, const char *path, enum sde_weights_form form,
		      struct sde_model **ret_model, struct sde_error *ret_error);
struct sde_model *sde_model_unref(struct sde_model *model);
const struct sde_model_info *sde_model_info(const struct sde_model *model);

enum sde_job_kind { SDE_TXT2IMG, SDE_IMG2IMG, SDE_INPAINT, SDE_OUTPAINT, SDE_UPSCALE };
enum sde_context { SDE_CONTEXT_AUTO, SDE_CONTEXT_SELECTION, SDE_CONTEXT_IMAGE, SDE_CONTEXT_RECT };
enum sde_fill { SDE_FILL_AUTO, SDE_FILL_BLUR, SDE_FILL_NEUTRAL, SDE_FILL_EDGE, SDE_FILL_ORIGINAL };

/* Multi-diffusion: by itself where it is known to help, wherever a picture is larger than the native size, never. */
enum sde_tile_use { SDE_TILES_AUTO, SDE_TILES_ON, SDE_TILES_OFF };

/* Classifier-free guidance, plain or by adaptive projection (Sadat et al. 2024). */
enum sde_guider { SDE_GUIDER_CFG, SDE_GUIDER_APG };

/* Seamless pictures: whose left and right, upper and lower sides continue each other. Values are those of enum sdk_wrap. */
enum sde_tiling { SDE_TILING_NONE, SDE_TILING_X, SDE_TILING_Y, SDE_TILING_BOTH };

/* Between the noises of two seeds: on the sphere, or straight (schedulers/steps.h). */
enum sde_interpolation { SDE_SLERP, SDE_LERP };

/* Where img2img's noise comes from: the seed, or DDIM inversion of the picture (job-invert.c). */
enum sde_noising { SDE_NOISING_DRAW, SDE_NOISING_INVERT };

#define SDE_WAYPOINTS_MAX  8
#define SDE_POSITIONS_MAX  16
#define SDE_DIRECTIONS_MAX 4
#define SDE_REGIONS_MAX	   8
#define SDE_LORAS_MAX	   16 /* of a job's list and its prompt together */
#define SDE_CONTROLS_MAX   8

/* A LoRA of loras/ below a root, and how strong it is: 0 changes nothing. */
struct sde_lora {
	const char *name;
	double weight;
};

/*
 * A guiding picture. kind: "canny" and "scribble" make edges and lines of it first and take the ControlNet whose name holds the
 * word; any other is the name (or a part of it) of a ControlNet, T2I-Adapter or IP-Adapter in controlnets/, which gets the
 * picture as it is. As large as image, where the job has one.
 */
struct sde_control {
	const char *kind;
	const struct sde_image *image; /* borrowed */
	double scale;		       /* -10..10, usually 0..1 */
	double start, end;	       /* fractions of the steps: 0 and 1 = all of them */
};

/*
 * A prompt for a part of the canvas: a mask (any picture, its luma times alpha; of the canvas's size where the job has one, else
 * over the whole picture) or else a rectangle in canvas pixels. weight 0..1: how much of the prompt's place it takes there.
 */
struct sde_region {
	const char *prompt;	      /* without LoRA tags */
	const struct sde_image *mask; /* borrowed, or NULL */
	int x, y, width, height;
	double weight;
};

/*
 * Prompt-to-Prompt (Hertz et al. 2022). auto: equal words keep the source's attention; where as many words were put in the place of others
 * they take over theirs (replacement), all other new words have their own (refinement). replace: word by word, which needs equally
 * many. refine: equal words keep it, new ones have their own.
 */
enum sde_edit_kind { SDE_EDIT_AUTO, SDE_EDIT_REPLACE, SDE_EDIT_REFINE };

#define SDE_WORD_WEIGHTS_MAX 32
#define SDE_WORD_MAPS_MAX    256
#define SDE_BLEND_WORDS_MAX  8

/*
 * How much attention a word of the prompt (or several in a row) gets: 1 = as it is, 0 = it is not read at all, negative = turned
 * round.
 */
struct sde_word_weight {
	const char *word;
	double weight; /* -10..10 */
};

/* Where a sequence leads; what is not given is as at the waypoint before. */
struct sde_waypoint {
	const char *prompt; /* without LoRA tags, or NULL */
	bool has_seed;
	uint64_t seed;
	const struct sde_image *image; /* img2img, of the job's image's size, or NULL; borrowed */
};

/*
 * A difference in latent space. Of prompts, both NULL: none, one NULL: "". Of pictures, either may be NULL, which counts as zero; img2img.
 */
struct sde_direction {
	const char *plus, *minus;			  /* without LoRA tags */
	const struct sde_image *plus_image, *minus_image; /* of the job's image's size; borrowed */
	double weight;					  /* -10..10 */
};

/* One request, already shaped by the schema; numbers are checked again by sde_job_run. Strings are borrowed, UTF-8. */
struct sde_job {
	enum sde_job_kind kind;
	const char *prompt; /* "" is allowed */
	const char
		*negative_prompt; /* NULL = none, which is "" but for SDXL models trained without */
	const char *sampler;	  /* people's or diffusers' name, NULL = the model's */
	uint64_t seed;
	int steps;	       /* 1..1000, 0 = the model's default */
	double guidance_scale; /* 0..100, negative = the model's default; <= 1 turns guidance off */
	double strength; /* 0..1; all but txt2img. 0 returns the source unchanged, or resampled */
	double scale;	 /* upscale: 1..4 */
	enum sde_rng_kind rng;	 /* whose random numbers the seed means */
	double guidance_rescale; /* 0..1, 0 = off */
	enum sde_guider guider;
	double apg_eta, apg_momentum, apg_norm; /* 0..1, -1..1, 0 = any: see pipelines/apg.h */
	enum sde_tile_use tiles;		/* all but outpaint */
	enum sde_tiling tiling;			/* txt2img, img2img */
	double hires_scale; /* txt2img: 1..4; above 1 a second pass enlarges the picture and paints over it */
	double hires_strength;	       /* of that pass, 0..1 */
	int clip_skip;		       /* 0 = off; n = diffusers' clip_skip n */
	int width, height;	       /* txt2img: pixels, multiple of 8, 0 = native */
	int count;		       /* pictures, 1..16; image i uses seed + i */
	const struct sde_image *image; /* all but txt2img: the canvas, borrowed */
	const struct sde_image *
		mask; /* inpaint: 1 channel, as large as image, > 0 = repaint; or NULL and select */
	bool has_canvas; /* inpaint, outpaint: image, mask and guiding pictures hold a part of it */
	int canvas_x, canvas_y, canvas_width, canvas_height; /* where, and how large it is */
	bool has_select;
	int select_x, select_y, select_width,
		select_height; /* may reach beyond the canvas; clamped */
	double feather; /* fraction of the selection's diagonal, negative = default 0.10, 0 = exact selection */
	int grow;	/* px, negative = default 4 */
	double padding; /* fraction of the diagonal, negative = default 0.06 */
	enum sde_context context;
	int context_x, context_y, context_width, context_height;
	enum sde_fill fill;
	bool color_match;
	int left, right, top, bottom; /* outpaint: pixels to grow each side, 0.. */
	const void *
		resume; /* bytes of the checkpoint hook of the same job: go on there; borrowed, may be NULL */
	size_t resume_size;
	/*
	 * Keep the parts of the model in memory only while they compute: text encoders, then denoiser, then autoencoder. The result is the same to
	 * the bit; each part is made ready anew.
	 */
	bool staged;
	bool vae_tiling; /* run the autoencoder in tiles of 512 pixels: less memory, seams are cross-faded */
	int preview_every; /* call the preview hook after every so many steps, 0 = never */
	/* Adapters are found below these folders (loras/, controlnets/, embeddings/) and nowhere else. Borrowed. */
	const char *const *adapter_roots;
	size_t n_adapter_roots;
	const struct sde_lora *loras; /* besides those of <lora:NAME:WEIGHT> in the prompt */
	size_t n_loras;
	const struct sde_control *controls;
	size_t n_controls;
	uint64_t
		partition; /* jobs of one number share what is kept, and never with those of another: the user */
	const struct sde_region *regions; /* all but outpaint */
	size_t n_regions;
	/* txt2img, img2img: pictures on the way from the job (0) by its waypoints (1, 2, ...), one for each position, in place of count */
	const struct sde_waypoint *waypoints;
	size_t n_waypoints;
	const double *positions;
	size_t n_positions;
	enum sde_interpolation interpolation;
	const struct sde_direction *directions; /* txt2img, img2img */
	size_t n_directions;
	enum sde_noising noising; /* img2img */
	bool guess_mode; /* ControlNets see only the prompt's half of guidance and count less in fine detail */
	/*
	 * txt2img with a U-Net: the picture is an edit of the one that source_prompt (without LoRA tags) and the same seed make. NULL: none,
	 * or, with word_weights, the prompt itself. img2img: with noising inverted, what the picture shows.
	 */
	const char *source_prompt;
	enum sde_edit_kind edit;
	double cross_replace,
		self_replace; /* fractions of the steps whose attention is the source's, 0..1 */
	const struct sde_word_weight *word_weights;
	size_t n_word_weights;
	/*
	 * Edits: words of prompt or source_prompt (or several in a row); only where they are looked at the picture leaves its source (local
	 * blend). blend_threshold 0..1: where a map is more than this part of its highest value; blend_start 0..1: the fraction of the steps
	 * before.
	 */
	const char *const *local_blend;
	size_t n_local_blend;
	double blend_threshold, blend_start;
	bool explain; /* txt2img of one picture with a U-Net: result.words and result.maps */
};

/* What a job looks at and gives back, pixels of the canvas. */
struct sde_job_area {
	struct sde_rect needed;	     /* that its pictures must hold */
	struct sde_rect result;	     /* of its layers; may begin left of the canvas or above it */
	int work_width, work_height; /* of the first sampling run */
};

/*
 * The area of an inpaint (select = the selection's bounds) or outpaint job on a canvas of canvas_width x canvas_height with
 * the model at path; other fields than those of the geometry are not looked at. Reads small files of the model, needs no
 * engine and may be called from any thread. -EINVAL as the job itself would fail, else as sde_model_load.
 */
int sde_job_area(const char *path, const struct sde_job *job, struct sde_job_area *ret_area,
		 struct sde_error *ret_error);

enum sde_stage {
	SDE_STAGE_LOAD,
	SDE_STAGE_ENCODE,
	SDE_STAGE_STEPS,
	SDE_STAGE_DECODE,
	SDE_STAGE_COUNT
};

struct sde_progress {
	enum sde_stage stage;
	int step,
		total; /* denoising steps over the whole job (all pictures and growth stages), monotonic */
};

struct sde_layer;

struct sde_hooks {
	void (*progress)(void *userdata, const struct sde_progress *progress); /* may be NULL */
	/*
	 * What the picture will be as far as the sampler can tell: u8 RGB, at most 256 pixels a side, of the part the
	 * model works on. Borrowed for the call; step as in the progress that follows. Only when the job has
	 * preview_every, or *preview_request is not 0 (may be NULL; it is set back to 0), and the model info says previews.
	 * May be NULL.
	 */
	void (*preview)(void *userdata, int step, const struct sde_image *image);
	atomic_int *preview_request;
	/*
	 * After every step: bytes with which the same job (sde_job.resume) goes on behind it, in this process or another
	 * of the same build, to a result that is equal to the bit. Borrowed for the call. May be NULL.
	 */
	void (*checkpoint)(void *userdata, const void *data, size_t size);
	/* Picture i of the result is finished, the others may not be. Borrowed for the call. May be NULL. */
	void (*picture)(void *userdata, int i, const struct sde_layer *layer);
	/*
	 * Steps with other jobs were tried both ways: so many jobs, and how much faster one batch is than one after the other (1.1: a
	 * tenth; 0: the results would differ, so it is not done). May be NULL.
	 */
	void (*batched)(void *userdata, int jobs, double speedup);
	void *userdata;
	const atomic_int
		*yield; /* non-zero: end with -EINTR behind the next checkpoint; may be NULL */
	const atomic_int *
		cancel; /* polled between steps and VAE tiles; non-zero makes the job return -ECANCELED */
};

struct sde_layer {
	struct sde_image
		image; /* owned, RGBA in the document's type (u8 for txt2img); alpha = composite mask */
	/* of upscale all of the picture, its own alpha */
	int x, y; /* offset on the (for outpaint: original) canvas; may be negative for outpaint */
	uint64_t seed;
};

/* A word of the prompt, as it was typed, and how much the picture looked at it. */
struct sde_word_map {
	char *word; /* owned */
	int tokens;
	double share, peak; /* of attention: mean over the picture, and at its highest */
};

#define SDE_WARNINGS_MAX 8
#define SDE_WARNING_SIZE 200

struct sde_result {
	struct sde_layer *layers; /* count: of the job, or a sequence's positions */
	int count;
	int prompt_tokens, negative_tokens; /* without bos and eos */
	int chunks;			    /* of 75 tokens */
	int steps_run;
	int work_width, work_height;   /* pixels the U-Net worked at, last */
	int first_width, first_height; /* and in the first pass */
	char sampler[48];	       /* name used */
	bool staged;		       /* as asked for */
	int steps;		       /* effective */
	double guidance_scale;	       /* effective */
	uint64_t stage_us[SDE_STAGE_COUNT];
	/*
	 * Of explain: the prompt's words in their order (at most SDE_WORD_MAPS_MAX), owned, and their maps one below the other, each as large as
	 * the latents: float32, one channel, at each pixel the share of attention that the word had (pixels/image.h; owned).
	 */
	struct sde_word_map *words;
	int n_words;
	struct sde_image maps;
	/* What was done as asked and will hardly be what was meant: sentences. */
	char warnings[SDE_WARNINGS_MAX][SDE_WARNING_SIZE];
	int n_warnings;
};

/* Run one job. 0, -ECANCELED, -EINTR (it yielded), -EINVAL (the message names the field), -ENOMEM, ... ; *ret_result untouched on failure. */
int sde_job_run(struct sde_model *model, const struct sde_job *job, const struct sde_hooks *hooks,
		struct sde_result *ret_result, struct sde_error *ret_error);
void sde_result_clear(struct sde_result *result);

/*
 * Jobs of one model that step together (group.h): each ends as sde_job_run would end it, to the bit. A group belongs to a model, is
 * empty when it goes, and goes before the model.
 */
#define SDE_GROUP_MAX 4 /* jobs */

struct sde_group;

int sde_group_new(struct sde_model *model, struct sde_group **ret_group); /* 0 or -ENOMEM */
struct sde_group *sde_group_free(struct sde_group *group);
/* Whether there is room: those with adapters go alone, in groups of one. */
bool sde_group_takes(const struct sde_group *group, const struct sde_job *job);
/* Begin with the next turn. Job and hooks are borrowed until it was taken out. 0, -EBUSY (not taken), -ENOMEM. */
int sde_group_add(struct sde_group *group, const struct sde_job *job,
		  const struct sde_hooks *hooks);
/* Every job goes on to its next call of the network, or ends; the calls are made. */
void sde_group_turn(struct sde_group *group);
/* One that has ended leaves: true, and what sde_job_run would have given (ret_result is the caller's where *ret_r is 0). */
bool sde_group_take_ended(struct sde_group *group, const struct sde_job **ret_job, int *ret_r,
			  struct sde_result *ret_result, struct sde_error *ret_error);

/*
 * How a model reads prompts, without its weights: its tokenizers, and the size of its text encoders. A counter belongs to no engine and no thread, but
 * to one thread at a time.
 */
struct sde_counter;

struct sde_count {
	int tokens; /* of the encoder that the context is made of, as prompt_tokens of a result */
	int chunks, limit; /* chunks used, and tokens that each holds */
	char *lost; /* the end of the prompt, whole words, that a text encoder does not read; "" = none. malloc()ed */
};

/* path as for sde_model_load, errors too. Reads configurations and tokenizers, some megabytes; keeps no file open. */
int sde_counter_new(const char *path, struct sde_counter **ret_counter,
		    struct sde_error *ret_error);
struct sde_counter *sde_counter_free(struct sde_counter *counter);
/* What a job with this prompt would be told; tags are passed over, learnt words of embeddings/ below the roots counted. */
int sde_counter_count(const struct sde_counter *counter, const char *prompt,
		      const char *const *adapter_roots, size_t n_adapter_roots,
		      struct sde_count *ret_count, struct sde_error *ret_error);

/*
 * Rewrite a checkpoint of torch as .safetensors, without executing it. -EEXIST when `to` is there, -EPERM when the checkpoint names what could run,
 * and as for loading a model.
 */
int sde_convert_to_safetensors(const char *from, const char *to, struct sde_error *ret_error);

#define SDE_FINDINGS_MAX 4
#define SDE_FINDING_SIZE 256

/* What test pictures become in a model's autoencoder. Latents are scaled as (raw - shift) * scale. */
struct sde_health {
	const char *autoencoder; /* its class, as diffusers names it */
	int latent_channels;
	int pictures, side; /* how many, of which size in pixels */
	double raw_mean, raw_std, scaled_mean, scaled_std;
	double scaling_factor, shift_factor; /* the model's */
	double fitting_factor; /* what would make scaled_std 1, or the published factor near it; 0 = not known */
	double psnr_db; /* of decoding what was encoded, values in -1..1; 0 when that is no picture */
	uint64_t n_bad; /* latents and samples that are not finite */
	bool healthy;	/* nothing was found */
	char findings[SDE_FINDINGS_MAX][SDE_FINDING_SIZE]; /* sentences */
	int n_findings;
};

/*
 * Encode and decode built-in test pictures: takes about as long as an img2img job of 512x512 pixels without its steps. 0, -ECANCELED,
 * -ENOMEM; *ret_health untouched on failure. A bad finding is no failure.
 */
int sde_model_check(struct sde_model *model, const atomic_int *cancel,
		    struct sde_health *ret_health, struct sde_error *ret_error);
