/*
 * "<lora:NAME:WEIGHT>" in prompts, as AUTOMATIC1111 writes it (weight 1 when left out; <lyco:...> is the same): taken out of the text
 * before it is read.
 */
#pragma once

#include <stddef.h>

#include "daemon/engine/error.h"

#define SDE_TAG_NAME_MAX 127

struct sde_lora_tag {
	char name[SDE_TAG_NAME_MAX + 1];
	double weight;
};

/*
 * *ret_text: the prompt without its tags, malloc()ed; *ret_tags of *ret_n, malloc()ed, NULL when there are none. -EINVAL for a tag that
 * is not closed, has no name or no number for a weight.
 */
int sde_prompt_tags(const char *prompt, char **ret_text, struct sde_lora_tag **ret_tags,
		    size_t *ret_n, struct sde_error *error);
