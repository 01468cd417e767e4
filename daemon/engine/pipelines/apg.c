/*
 * Adaptive projected guidance; see apg.h.
 */
#include "daemon/engine/pipelines/apg.h"

#include <math.h>

/* of a vector's length, below which it has no direction: torch.nn.functional.normalize */
#define LENGTH_LEAST 1e-12

static void guide_one(const struct sde_apg *apg, float *negative, const float *positive,
		      float *average, size_t n, double scale)
{
	double squares = 0, length = 0, along = 0, factor = 1;

	for (size_t i = 0; i < n; i++) {
		average[i] = positive[i] - negative[i] + (float)apg->momentum * average[i];
		squares += (double)average[i] * average[i];
		length += (double)positive[i] * positive[i];
	}
	if (apg->norm > 0 && squares > apg->norm * apg->norm)
		factor = apg->norm / sqrt(squares);
	length = fmax(sqrt(length), LENGTH_LEAST);
	for (size_t i = 0; i < n; i++)
		along += factor * average[i] * (positive[i] / length);
	for (size_t i = 0; i < n; i++) {
		const double parallel = along * (positive[i] / length);
		const double update = factor * average[i] - (1 - apg->eta) * parallel;

		negative[i] = (float)(positive[i] + (scale - 1) * update);
	}
}

void sde_apg_guide(const struct sde_apg *apg, float *pair, float *average, size_t batch, size_t n,
		   double scale)
{
	for (size_t b = 0; b < batch; b++)
		guide_one(apg, pair + b * n, pair + (batch + b) * n, average + b * n, n, scale);
}
