/* Colour transfer by Lab statistics: see color-match.h. */
#include "daemon/engine/geometry/color-match.h"

#include <math.h>

#include "daemon/engine/pixels/convert.h"

#define MIN_SHARE  0.01
#define MIN_PIXELS 64.0
#define FLAT	   0.5 /* added to both deviations, Lab units: a flat surround must not amplify noise */

static const double white[3] = {0.95047, 1.0, 1.08883}; /* D65, 2 degrees */

void sde_rgb_to_lab(const float rgb[3], float ret_lab[3])
{
	static const double matrix[3][3] = {{0.4124564, 0.3575761, 0.1804375},
					    {0.2126729, 0.7151522, 0.0721750},
					    {0.0193339, 0.1191920, 0.9503041}};
	double linear[3], f[3];

	for (int c = 0; c < 3; c++)
		linear[c] = sde_srgb_decode(rgb[c]);
	for (int c = 0; c < 3; c++) {
		const double t = (matrix[c][0] * linear[0] + matrix[c][1] * linear[1] +
				  matrix[c][2] * linear[2]) /
				 white[c];

		f[c] = t > 216.0 / 24389 ? cbrt(t) : (24389.0 / 27 * t + 16) / 116;
	}
	ret_lab[0] = (float)(116 * f[1] - 16);
	ret_lab[1] = (float)(500 * (f[0] - f[1]));
	ret_lab[2] = (float)(200 * (f[1] - f[2]));
}

void sde_lab_to_rgb(const float lab[3], float ret_rgb[3])
{
	static const double matrix[3][3] = {{3.2404542, -1.5371385, -0.4985314},
					    {-0.9692660, 1.8760108, 0.0415560},
					    {0.0556434, -0.2040259, 1.0572252}};
	const double fy = (lab[0] + 16) / 116;
	const double f[3] = {fy + lab[1] / 500, fy, fy - lab[2] / 200};
	double xyz[3];

	for (int c = 0; c < 3; c++) {
		const double cube = f[c] * f[c] * f[c];

		xyz[c] = white[c] * (cube > 216.0 / 24389 ? cube : (116 * f[c] - 16) * 27 / 24389);
	}
	for (int c = 0; c < 3; c++) {
		const double linear =
			matrix[c][0] * xyz[0] + matrix[c][1] * xyz[1] + matrix[c][2] * xyz[2];

		ret_rgb[c] = fminf(fmaxf(sde_srgb_encode((float)linear), 0.0f), 1.0f);
	}
}

struct statistics {
	double mean[3], deviation[3];
};

static struct statistics measure(const float *rgb, const float *mask, uint64_t count, double total)
{
	struct statistics s = {0};
	double squares[3] = {0};

	for (uint64_t i = 0; i < count; i++) {
		const double weight = 1.0 - mask[i];
		float lab[3];

		if (weight <= 0)
			continue;
		sde_rgb_to_lab(rgb + i * 3, lab);
		for (int c = 0; c < 3; c++) {
			s.mean[c] += weight * lab[c];
			squares[c] += weight * lab[c] * lab[c];
		}
	}
	for (int c = 0; c < 3; c++) {
		s.mean[c] /= total;
		s.deviation[c] = sqrt(fmax(squares[c] / total - s.mean[c] * s.mean[c], 0));
	}
	return s;
}

void sde_color_match(float *generated, const float *original, const float *mask, uint64_t count)
{
	struct statistics got, want;
	double total = 0;

	for (uint64_t i = 0; i < count; i++)
		total += 1.0 - mask[i];
	if (total < MIN_PIXELS || total < MIN_SHARE * (double)count)
		return;
	got = measure(generated, mask, count, total);
	want = measure(original, mask, count, total);
	for (uint64_t i = 0; i < count; i++) {
		float lab[3];

		sde_rgb_to_lab(generated + i * 3, lab);
		for (int c = 0; c < 3; c++) {
			const double gain = (want.deviation[c] + FLAT) / (got.deviation[c] + FLAT);

			lab[c] = (float)((lab[c] - got.mean[c]) * fmin(fmax(gain, 0.5), 2.0) +
					 want.mean[c]);
		}
		sde_lab_to_rgb(lab, generated + i * 3);
	}
}
