/*
 * Writing what a job returned: layers as they are, or laid over the picture they were made from.
 */
#pragma once

#include <jansson.h>

#include "client/sdctl/adapters.h"
#include "client/sdctl/picture.h"
#include "client/sdctl/sdctl.h"

struct layers_target {
	const char *output;	    /* file, or "-" = standard output (a single picture only) */
	const char *sheet;	    /* before/after sheet of the first picture, or NULL */
	bool as_layer;		    /* write the RGBA layer instead of the whole picture */
	const struct picture *base; /* the source picture, or NULL (txt2img) */
	const char *base_path;	    /* for the replay entry; NULL without a source */
	const struct picture *mask; /* or NULL */
	const char *mask_path;
	const struct guides *guides;   /* or NULL */
	const struct regions *regions; /* or NULL */
	size_t first,
		total; /* of a sequence: number of the reply's first picture, and how many in all; total 0: the reply's */
};

/*
 * What a picture was made from must still be the same when it is replayed, else its bytes cannot come back. source: what the picture says
 * of it, NULL: nothing. EXIT_OK or EXIT_FAILED, told.
 */
int layers_check_unchanged(const json_t *source, const char *field, const struct picture *picture,
			   const char *path);
/* Several pictures cannot go to standard output. EXIT_OK or EXIT_USAGE, told. */
int layers_check_output(const char *output, size_t total);

/*
 * Save every picture of reply (a job_result): one goes to output itself, several get "-1", "-2", ... before the suffix.
 * Prints the names unless told to be quiet, or the reply as JSON with --json. Returns an exit code.
 */
int layers_save(const struct context *context, const sdc_reply *reply,
		const struct layers_target *target);

/* Write picture i of a job as it is, before the job's end; its texts come with layers_save. An exit code. */
int layers_save_early(const struct layers_target *target, size_t i, const sdc_image *image);

/* Make it a mask: luminance times alpha in its own type, what a painted mask means. An exit code. */
int layers_make_mask(struct picture *picture);

/* The picture as libsdclient takes it; borrowed. */
sdc_image layers_view(const struct picture *picture);

/* Copy a returned picture into packed rows, owned by the caller. Returns an exit code, having complained. */
int layers_copy_picture(const sdc_image *image, struct picture *ret);
