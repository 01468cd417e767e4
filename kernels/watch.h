/*
 * Watching attention while a plan runs: what cross-attention maps are read from (Tang et al. 2022) and where Prompt-to-Prompt
 * (Hertz et al. 2022) takes a hand. The op itself never forms its maps; a watcher that wants them computes them anew from q and k, head
 * by head, with the functions below, which are the same for all backends. Plans without watched attentions know nothing of this.
 */
#pragma once

#include <stddef.h>

#include "kernels/tensor.h"

/* An attention that runs: its values in the arena, (rows, 1, tokens, channels) of type, heads side by side. */
struct sdk_attention_site {
	int site; /* as it was recorded */
	enum sdk_type type;
	int rows, queries, keys, heads, channels;
	float scale;
	void *q, *k; /* nothing else reads them: before may change them */
	const void *v;
	void *out; /* written between before and after, which may change it */
};

/* Called around each watched attention (NULL: not at all); a negative return ends the run with it. */
struct sdk_attention_watch {
	int (*before)(void *userdata, const struct sdk_attention_site *site);
	int (*after)(void *userdata, const struct sdk_attention_site *site);
	void *userdata;
};

/* Floats of working memory that the two functions below need. */
size_t sdk_attention_work(const struct sdk_attention_site *site);
/* softmax(q k^T * scale) of one row and head, in float32: ret_map (queries, keys), whose rows sum to 1. */
void sdk_attention_map(const struct sdk_attention_site *site, int row, int head, float *work,
		       float *ret_map);
/* out += map v in the channels of that row and head, rounded once. A map of zeros changes no bit. */
void sdk_attention_add(const struct sdk_attention_site *site, int row, int head, const float *map,
		       float *work);
