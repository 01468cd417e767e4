/*
 * The models of the configured folders, and which of them a job gets. A model is a folder with a model_index.json (diffusers layout) or with
 * a sdd.json (files that hold a part each), or a checkpoint file that holds all of one or what paints, the latter also in ComfyUI's
 * sub-folders; its name is the folder's, or the file's without ending. Beyond what small
 * files of the folder (model-facts.h) or the header of a checkpoint (model-file.h) say, what a model is gets known when the
 * worker loads it.
 */
#pragma once

#include "daemon/estimate.h"
#include "daemon/footprint.h"
#include "daemon/model-facts.h"
#include "daemon/model-hash.h"
#include "daemon/util/list.h"
#include "protocol/codec.h"

#include <stddef.h>

enum { SDD_REGISTRY_MODELS_MAX = 128 };

struct sdd_model {
	struct sdd_list link;
	char *name, *path;
	uint64_t weight_bytes; /* *.safetensors and *.bin of its folders, or the file */
	enum sdp_model_state state;
	uint64_t load_ms, shared_bytes; /* of the last load */
	char error[512];		/* of the last load */
	struct sdd_estimate estimate;
	uint64_t used_us,
		keep_alive_us; /* last use; how long it stays without a client, UINT64_MAX = no limit */
	bool seen;	       /* by the last scan */
	bool leaving;	       /* its files are gone, and it was told to leave memory */
	uint64_t stamp;	       /* of its files (model-stamp.h) at the last scan */
	/* SHA-256 in hexadecimal, "" = not known, and of which state of the files; hasher.h */
	char hash[SDD_DIGEST_TEXT_SIZE];
	uint64_t hash_stamp;
	char family[32]; /* known once loaded */
	struct sdd_model_facts facts;
	/* what it takes, and of which state of its files (model-stamp.h) that is; of which one the loaded model is */
	struct sdd_footprint footprint;
	uint64_t footprint_stamp, loaded_stamp;
	/* in which form its weights are while it is loaded; and shall be, where a client has chosen */
	enum sdp_weights_form weights, chosen_weights;
	bool has_chosen_weights;
};

struct sdd_registry {
	char *const *roots; /* borrowed */
	size_t n_roots;
	const char *default_name; /* borrowed; NULL = the first by name that makes whole pictures */
	struct sdd_list models;	  /* by name */
	size_t n_models;
	uint64_t changes;    /* counted up when the list is another */
	uint64_t scanned_us; /* when it was made */
	/* whether the last scan is as good as another one now; NULL = never */
	bool (*is_current)(void *userdata);
	void *userdata;
	struct sdd_memo files; /* what their headers said; model-file.h */
};

void sdd_registry_init(struct sdd_registry *registry, char *const *roots, size_t n_roots,
		       const char *default_name);
void sdd_registry_clear(struct sdd_registry *registry);

/* Look at the folders again. Models that vanished go, unless they are in memory. 0 or -ENOMEM. */
int sdd_registry_scan(struct sdd_registry *registry);

/*
 * "" = the default model. NULL when there is none; scans again before it says so, unless the last scan is as good, or when
 * its files have gone.
 */
struct sdd_model *sdd_registry_find(struct sdd_registry *registry, const char *name);
/*
 * The one of the list with this very name, without a look at the disk: for what is told of jobs and models, as often as anybody asks. NULL when there
 * is none.
 */
struct sdd_model *sdd_registry_known(struct sdd_registry *registry, const char *name);
/*
 * The model of a job: the one named, or the default; for a job that repaints a part of a picture (inpaint, outpaint) the
 * companion which that model's sdd.json names, if it is there. NULL as above.
 */
struct sdd_model *sdd_registry_choose(struct sdd_registry *registry, const char *name,
				      enum sdp_job_kind kind);
bool sdd_registry_is_default(struct sdd_registry *registry, const struct sdd_model *model);

/* What the worker said about a model it loaded (model_info). */
void sdd_model_learn(struct sdd_model *model, const struct sdp_record *info);
/* Put model_info's fields into the map in work. */
void sdd_model_write(const struct sdd_model *model, bool is_default, struct sdp_writer *writer);
