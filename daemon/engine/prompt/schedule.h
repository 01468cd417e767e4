/*
 * Prompts that change while a picture is made, as AUTOMATIC1111's web UI has them: `[a:b:10]` is a up to step 10 and then b,
 * `[a:b:0.5]` the same at half of the steps, `[b:10]` and `[:b:10]` add b, `[a::10]` takes a away, `[a|b]` is a, b, a, b, ... step by step.
 * They nest, and weights inside them stay. Steps are calls of the denoiser, counted as there: the first two are both step 1.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sde_error;

#define SDE_PROMPT_DEPTH 32 /* of brackets in brackets */

struct sde_prompt_schedule {
	const char *text; /* borrowed */
	size_t length;
	size_t *ends; /* owned: of each opening bracket its closing one, 0: none; NULL: no bracket at all */
	bool changes; /* any of them changes with the steps */
};

/* -E2BIG: brackets too deep; -ENOMEM. Empty on failure. */
int sde_prompt_schedule_init(struct sde_prompt_schedule *schedule, const char *text,
			     struct sde_error *error);
void sde_prompt_schedule_clear(struct sde_prompt_schedule *schedule);

/* The prompt of call i (from 0) of n, owned by the caller; NULL when there is no memory. */
char *sde_prompt_schedule_at(const struct sde_prompt_schedule *schedule, int i, int n);
