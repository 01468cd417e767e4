/*
 * Tags of prompts; see tags.h.
 */
#include "daemon/engine/prompt/tags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/engine/prompt/prompt.h"

static const char *tag_at(const char *text)
{
	static const char *const starts[] = {"<lora:", "<lyco:"};

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		if (strncasecmp(text, starts[i], strlen(starts[i])) == 0)
			return text + strlen(starts[i]);
	return NULL;
}

/* inside: behind "<lora:"; *ret_end: behind the '>'. */
static int parse_tag(const char *inside, struct sde_lora_tag *ret_tag, const char **ret_end,
		     struct sde_error *error)
{
	const size_t name = strcspn(inside, ":>");
	const char *close = strchr(inside, '>');
	size_t digits;

	if (!close)
		return sde_error_set(error, -EINVAL,
				     "prompt: '<lora:%.40s' has no end; write <lora:name:0.7>",
				     inside);
	if (name == 0 || name > SDE_TAG_NAME_MAX)
		return sde_error_set(error, -EINVAL,
				     "prompt: '<lora:%.*s>' has no name; write <lora:name:0.7>",
				     (int)(close - inside < 40 ? close - inside : 40), inside);
	memcpy(ret_tag->name, inside, name);
	ret_tag->name[name] = '\0';
	ret_tag->weight = 1;
	*ret_end = close + 1;
	if (inside[name] == '>')
		return 0;
	/* a second number is the text encoder's in other tools; they give the same one, and so do we */
	inside += name + 1;
	digits = strcspn(inside, ":>");
	if (!sde_prompt_number(inside, digits, &ret_tag->weight))
		return sde_error_set(
			error, -EINVAL,
			"prompt: '%.*s' is no weight of LoRA %.60s; write <lora:name:0.7>",
			(int)(digits < 40 ? digits : 40), inside, ret_tag->name);
	return 0;
}

int sde_prompt_tags(const char *prompt, char **ret_text, struct sde_lora_tag **ret_tags,
		    size_t *ret_n, struct sde_error *error)
{
	char *text = malloc(strlen(prompt) + 1), *to = text;
	struct sde_lora_tag *tags = NULL, *grown;
	size_t n = 0;
	int r = 0;

	while (text && r >= 0 && *prompt) {
		const char *inside = tag_at(prompt);

		if (!inside) {
			*to++ = *prompt++;
			continue;
		}
		grown = reallocarray(tags, n + 1, sizeof(*tags));
		if (!grown) {
			r = sde_error_set(error, -ENOMEM, "no memory for the prompt's tags");
			break;
		}
		tags = grown;
		r = parse_tag(inside, &tags[n++], &prompt, error);
	}
	if (!text)
		r = sde_error_set(error, -ENOMEM, "no memory for the prompt");
	if (r < 0) {
		free(text);
		free(tags);
		return r;
	}
	*to = '\0';
	*ret_text = text;
	*ret_tags = tags;
	*ret_n = n;
	return 0;
}
