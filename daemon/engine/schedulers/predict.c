/*
 * From the denoiser's output to the predicted clean sample in VP space, and the two ways of keeping
 * it in range: clipping, and the dynamic thresholding of Imagen (Saharia et al. 2022), which looks
 * at one image at a time.
 */
#include "daemon/engine/schedulers/internal.h"

#include <stdlib.h>

/*
 * Magnitudes by their bits, which order as the numbers do; a NaN of a broken model goes last
 * instead of making the order contradict itself.
 */
static int compare_magnitudes(const void *a, const void *b)
{
	uint32_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

/* torch.quantile with linear interpolation; values >= 0 are sorted in place; q is 0..1 */
static float quantile(float *values, size_t n, double q)
{
	float rank = (float)q * (float)(n - 1), below = floorf(rank);
	size_t low = (size_t)below < n ? (size_t)below : n - 1; /* (float)(n - 1) may be n */
	size_t high = low + 1 < n ? low + 1 : low;

	qsort(values, n, sizeof(*values), compare_magnitudes);
	return values[low] + (rank - below) * (values[high] - values[low]);
}

void sde_sched_threshold(struct sde_scheduler *s, float *x0, size_t n, size_t batch)
{
	size_t per_image = n / batch;

	for (size_t b = 0; b < batch; b++, x0 += per_image) {
		float limit;

		for (size_t i = 0; i < per_image; i++)
			s->sorted[i] = fabsf(x0[i]);
		limit = quantile(s->sorted, per_image, s->config.dynamic_thresholding_ratio);
		limit = fminf(fmaxf(limit, 1), (float)s->config.sample_max_value);
		for (size_t i = 0; i < per_image; i++)
			x0[i] = fminf(fmaxf(x0[i], -limit), limit) / limit;
	}
}

void sde_sched_clip(struct sde_scheduler *s, float *x0, size_t n, size_t batch)
{
	float range = (float)s->config.clip_sample_range;

	if (s->config.thresholding) {
		sde_sched_threshold(s, x0, n, batch);
		return;
	}
	if (!s->config.clip_sample)
		return;
	for (size_t i = 0; i < n; i++)
		x0[i] = fminf(fmaxf(x0[i], -range), range);
}

void sde_sched_predict_x0(struct sde_scheduler *s, const struct scheduler_step *step, float alpha)
{
	float root_alpha = sqrtf(alpha), root_beta = sqrtf(1 - alpha);
	const float *m = step->model_output, *x = step->sample;

	switch (s->config.prediction_type) {
	case SDE_PREDICTION_EPSILON:
		for (size_t i = 0; i < step->n; i++)
			s->work[i] = (x[i] - root_beta * m[i]) / root_alpha;
		break;
	case SDE_PREDICTION_V:
		for (size_t i = 0; i < step->n; i++)
			s->work[i] = root_alpha * x[i] - root_beta * m[i];
		break;
	default:
		memcpy(s->work, m, step->n * sizeof(*m));
		break;
	}
}

void sde_sched_vp_clean(struct sde_scheduler *s, const struct scheduler_step *step, float *to)
{
	struct alpha_sigma a = alpha_sigma(s, s->state.step_index);
	float flow_sigma = s->sigmas[s->state.step_index];
	const float *m = step->model_output, *x = step->sample;

	for (size_t i = 0; i < step->n; i++) {
		switch (s->config.prediction_type) {
		case SDE_PREDICTION_EPSILON:
			to[i] = (x[i] - a.sigma * m[i]) / a.alpha;
			break;
		case SDE_PREDICTION_V:
			to[i] = a.alpha * x[i] - a.sigma * m[i];
			break;
		case SDE_PREDICTION_FLOW:
			to[i] = x[i] - flow_sigma * m[i];
			break;
		default:
			to[i] = m[i];
			break;
		}
	}
	if (s->config.thresholding)
		sde_sched_threshold(s, to, step->n, step->args->batch);
}

void sde_sched_vp_epsilon(const struct sde_scheduler *s, const struct scheduler_step *step,
			  float *to)
{
	struct alpha_sigma a = alpha_sigma(s, s->state.step_index);
	const float *m = step->model_output, *x = step->sample;

	for (size_t i = 0; i < step->n; i++) {
		switch (s->config.prediction_type) {
		case SDE_PREDICTION_V:
			to[i] = a.alpha * m[i] + a.sigma * x[i];
			break;
		case SDE_PREDICTION_SAMPLE:
			to[i] = (x[i] - a.alpha * m[i]) / a.sigma;
			break;
		default:
			to[i] = m[i];
			break;
		}
	}
}
