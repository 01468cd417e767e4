/*
 * What a model's folder says about itself in small JSON files, so that clients see a model's defaults before it is in
 * memory, and a job that repaints a selection finds the model made for that. Weight files stay closed. The worker judges
 * the same files when it loads the model; here whatever is missing or makes no sense is simply not known.
 */
#pragma once

#include "protocol/schema.h"

#include <stdbool.h>

enum { SDD_MODEL_NAME_SIZE = 128 };

struct sdd_model_facts {
	enum sdp_model_kind kind; /* of files it consists of */
	/* sdd.json */
	int native_size, default_steps;	   /* 0 = not known */
	double default_guidance;	   /* negative = not known */
	char sampler[48];		   /* "" = not known */
	char inpaint[SDD_MODEL_NAME_SIZE]; /* the model for inpaint and outpaint jobs, or "" */
	bool lists_parts;		   /* names the files of its parts */
	/* of a file: it holds no whole model, nor does anything say where the rest is */
	bool lacks_parts;
	/* unet/config.json or transformer/config.json */
	int in_channels; /* 0 = not known; 9 or 96 = trained to repaint selections */
};

/* All but in_channels, from the settings file of that name in the folder dir_fd. */
void sdd_model_facts_read_settings(int dir_fd, const char *name, struct sdd_model_facts *ret_facts);
/* dir_fd: the model's folder. */
void sdd_model_facts_read(int dir_fd, struct sdd_model_facts *ret_facts);
