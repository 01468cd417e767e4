/*
 * Loading a case, handing out its tensors, and comparing: see golden.h.
 */
#include "tests/golden/golden.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/engine/formats/cleanup.h"
#include "daemon/engine/formats/json.h"

#define CASE_JSON_MAX (16u << 20)

float *golden_floats(size_t n)
{
	float *values = calloc(n + 1, sizeof(*values));

	if (!values)
		abort();
	return values;
}

int golden_skip(struct golden_case *c, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(c->note, sizeof(c->note), format, ap);
	va_end(ap);
	return GOLDEN_SKIP;
}

int golden_fail(struct golden_case *c, const char *format, ...)
{
	va_list ap;

	if (!c->failed) { /* the first failure is the cause */
		va_start(ap, format);
		vsnprintf(c->note, sizeof(c->note), format, ap);
		va_end(ap);
	}
	c->failed = true;
	return GOLDEN_FAIL;
}

int golden_fail_error(struct golden_case *c, const char *what, const struct sde_error *error)
{
	return golden_fail(c, "%s: %s", what, error->message);
}

json_t *golden_param(struct golden_case *c, const char *key)
{
	json_t *value = json_object_get(c->params, key);

	return json_is_null(value) ? NULL : value;
}

const char *golden_param_string(struct golden_case *c, const char *key, const char *fallback)
{
	json_t *value = golden_param(c, key);

	return json_is_string(value) ? json_string_value(value) : fallback;
}

int64_t golden_param_int(struct golden_case *c, const char *key, int64_t fallback)
{
	json_t *value = golden_param(c, key);

	return json_is_integer(value) ? json_integer_value(value) : fallback;
}

double golden_param_double(struct golden_case *c, const char *key, double fallback)
{
	json_t *value = golden_param(c, key);

	return json_is_number(value) ? json_number_value(value) : fallback;
}

bool golden_param_bool(struct golden_case *c, const char *key, bool fallback)
{
	json_t *value = golden_param(c, key);

	return json_is_boolean(value) ? json_is_true(value) : fallback;
}

static struct golden_tensor *load_tensor(const struct sde_tensor *source)
{
	struct golden_tensor *tensor = calloc(1, sizeof(*tensor));
	void *data = calloc(source->count + 1, source->dtype == SDE_DTYPE_U8 ? 1 : 4);

	if (!tensor || !data)
		abort(); /* in a child process: a FAIL of this case */
	tensor->name = source->name;
	tensor->rank = source->rank;
	tensor->count = source->count;
	memcpy(tensor->shape, source->shape, sizeof(tensor->shape));
	switch (source->dtype) {
	case SDE_DTYPE_U8:
		tensor->u8 = memcpy(data, source->data, source->bytes);
		break;
	case SDE_DTYPE_I32:
		tensor->i32 = memcpy(data, source->data, source->bytes);
		break;
	case SDE_DTYPE_I64:
		for (size_t i = 0; i < source->count; i++) {
			int64_t wide;

			memcpy(&wide, (const char *)source->data + 8 * i, 8);
			((int32_t *)data)[i] = (int32_t)wide;
		}
		tensor->i32 = data;
		break;
	default:
		if (sde_tensor_to_f32(source, data, NULL) < 0) {
			free(data);
			free(tensor);
			return NULL;
		}
		tensor->f32 = data;
	}
	return tensor;
}

const struct golden_tensor *golden_find(struct golden_case *c, const char *name)
{
	const struct sde_tensor *source;
	struct golden_tensor *tensor;

	for (tensor = c->loaded; tensor; tensor = tensor->next)
		if (!strcmp(tensor->name, name))
			return tensor;
	source = sde_weights_find(c->tensors, name);
	tensor = source ? load_tensor(source) : NULL;
	if (tensor) {
		tensor->next = c->loaded;
		c->loaded = tensor;
	}
	return tensor;
}

static const struct golden_tensor *input(struct golden_case *c, const char *name, const char *type)
{
	const struct golden_tensor *tensor = golden_find(c, name);
	const char *have = !tensor ? "absent" : tensor->f32 ? "F32" : tensor->i32 ? "I32" : "U8";

	if (strcmp(have, type)) {
		golden_fail(c, "input tensor '%s' is %s, expected %s", name, have, type);
		return NULL;
	}
	return tensor;
}

const struct golden_tensor *golden_input_f32(struct golden_case *c, const char *name)
{
	return input(c, name, "F32");
}

const struct golden_tensor *golden_input_i32(struct golden_case *c, const char *name)
{
	return input(c, name, "I32");
}

const struct golden_tensor *golden_input_u8(struct golden_case *c, const char *name)
{
	return input(c, name, "U8");
}

static json_t *output_entry(struct golden_case *c, const char *name)
{
	json_t *outputs = json_object_get(c->root, "outputs"), *output;
	size_t i;

	json_array_foreach (outputs, i, output) {
		const char *listed = json_string_value(json_object_get(output, "name"));

		if (listed && !strcmp(listed, name))
			return output;
	}
	return NULL;
}

bool golden_wants(struct golden_case *c, const char *name)
{
	return output_entry(c, name);
}

/* The expected tensor of a listed output, with its shape compared; NULL: failed or not listed (*ret_ok says which). */
static const struct golden_tensor *expected(struct golden_case *c, const char *name, int rank,
					    const int64_t *shape, const char *type, bool *ret_ok)
{
	const struct golden_tensor *want;
	char have[96], need[96];

	*ret_ok = true;
	if (!golden_wants(c, name))
		return NULL;
	*ret_ok = false;
	want = input(c, name, type);
	if (!want)
		return NULL;
	json_object_set_new(c->compared, name, json_true());
	if (want->rank != rank ||
	    (rank && memcmp(want->shape, shape, (size_t)rank * sizeof(*shape)))) {
		golden_fail(c, "%s: shape %s, expected %s", name,
			    sde_shape_string(have, sizeof(have), rank, shape),
			    sde_shape_string(need, sizeof(need), want->rank, want->shape));
		return NULL;
	}
	c->compared_count++;
	*ret_ok = true;
	return want;
}

struct judgement {
	double abs, rel_l2, excess, psnr;
	size_t where;
};

static bool judge(struct golden_case *c, const char *name, const struct judgement *j, double got,
		  double want)
{
	const struct golden_tolerance *coarse = golden_tolerance(c->kind, c->options->dtype);
	json_t *entry = output_entry(c, name), *psnr = json_object_get(entry, "min_psnr");
	bool ok;

	if (j->excess >= c->worst_excess || !c->worst_name[0] || isnan(j->excess)) {
		c->worst_excess = j->excess;
		c->worst_abs = j->abs;
		c->worst_rel = j->rel_l2;
		snprintf(c->worst_name, sizeof(c->worst_name), "%s", name);
	}
	if (psnr && (!c->worst_psnr || j->psnr < c->worst_psnr))
		c->worst_psnr = j->psnr;
	if (psnr && coarse)
		ok = j->psnr >= coarse->min_psnr;
	else if (psnr)
		ok = j->psnr >= json_number_value(psnr);
	else if (coarse)
		ok = j->rel_l2 <= coarse->relative_l2;
	else
		ok = j->excess <= 1;
	if (ok)
		return true;
	if (psnr)
		golden_fail(c, "%s: PSNR %.2f dB, at least %.2f asked", name, j->psnr,
			    coarse ? coarse->min_psnr : json_number_value(psnr));
	else if (coarse)
		golden_fail(c, "%s: relative L2 error %.3g, at most %.3g for %s", name, j->rel_l2,
			    coarse->relative_l2, c->options->dtype);
	else
		golden_fail(c, "%s[%zu]: got %.9g, expected %.9g", name, j->where, got, want);
	return false;
}

/* got and want as a function of the index, whatever the type: one comparison for all. */
static bool compare(struct golden_case *c, const char *name, size_t count,
		    double (*at)(const void *data, size_t i), const void *got, const void *want)
{
	json_t *entry = output_entry(c, name);
	const double rtol = json_number_value(json_object_get(entry, "rtol"));
	const double atol = json_number_value(json_object_get(entry, "atol"));
	struct judgement j = {.excess = -1};
	double sum_d = 0, sum_w = 0, mean;

	for (size_t i = 0; i < count; i++) {
		double g = at(got, i), w = at(want, i);
		double d = g == w || (isnan(g) && isnan(w)) ? 0 : fabs(g - w);
		double tolerance = atol + rtol * fabs(w);
		double excess = d == 0 ? 0 : tolerance > 0 ? d / tolerance : INFINITY;

		if (isnan(d)) /* one of them is NaN */
			excess = d = INFINITY;
		if (excess > j.excess) {
			j.excess = excess;
			j.where = i;
		}
		j.abs = d > j.abs ? d : j.abs;
		sum_d += d * d;
		sum_w += isnan(w) ? 0 : w * w;
	}
	mean = count ? sum_d / (double)count : 0;
	j.rel_l2 = sum_d == 0 ? 0 : sqrt(sum_d / (sum_w > 0 ? sum_w : 1));
	j.psnr = mean > 0 ? 10 * log10(255.0 * 255.0 / mean) : 999;
	return judge(c, name, &j, count ? at(got, j.where) : 0, count ? at(want, j.where) : 0);
}

static double f32_at(const void *data, size_t i)
{
	return (double)((const float *)data)[i];
}

static double i32_at(const void *data, size_t i)
{
	return ((const int32_t *)data)[i];
}

static double u8_at(const void *data, size_t i)
{
	return ((const uint8_t *)data)[i];
}

bool golden_expect_f32(struct golden_case *c, const char *name, const float *got, int rank,
		       const int64_t *shape)
{
	bool ok;
	const struct golden_tensor *want = expected(c, name, rank, shape, "F32", &ok);

	return want ? compare(c, name, want->count, f32_at, got, want->f32) : ok;
}

bool golden_expect_i32(struct golden_case *c, const char *name, const int32_t *got, int rank,
		       const int64_t *shape)
{
	bool ok;
	const struct golden_tensor *want = expected(c, name, rank, shape, "I32", &ok);

	return want ? compare(c, name, want->count, i32_at, got, want->i32) : ok;
}

bool golden_expect_u8(struct golden_case *c, const char *name, const uint8_t *got, int rank,
		      const int64_t *shape)
{
	bool ok;
	const struct golden_tensor *want = expected(c, name, rank, shape, "U8", &ok);

	return want ? compare(c, name, want->count, u8_at, got, want->u8) : ok;
}

static bool is_optional(const char *name)
{
	static const char *const prefixes[] = {"after_", "block", "double", "single", "hidden_"};

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return !strcmp(name, "step_latents") || !strcmp(name, "scaled_input");
}

static int check_all_outputs_given(struct golden_case *c)
{
	json_t *output;
	size_t i;

	json_array_foreach (json_object_get(c->root, "outputs"), i, output) {
		const char *name = json_string_value(json_object_get(output, "name"));

		if (!name)
			return golden_fail(c, "malformed case: an output without a name");
		if (!json_object_get(c->compared, name) && !is_optional(name))
			return golden_fail(c, "output '%s' was not computed", name);
	}
	if (!c->compared_count)
		return golden_fail(c, "nothing was compared");
	return c->failed ? GOLDEN_FAIL : GOLDEN_PASS;
}

char *golden_find_model(const struct golden_case *c, const char *model)
{
	_cleanup_free_ char *base = realpath(c->path, NULL);
	char *slash, path[PATH_MAX];
	struct stat st;

	while (base && (slash = strrchr(base, '/'))) {
		*slash = '\0';
		for (size_t i = 0; i < 2; i++) {
			snprintf(path, sizeof(path), i ? "%s/manifests/%s.json.gz" : "%s/%s", base,
				 model);
			if (!stat(path, &st))
				return strdup(path);
		}
	}
	return NULL;
}

static int prepare(struct golden_case *c, struct sde_error *error)
{
	const size_t length = strlen(c->path);
	_cleanup_free_ char *tensors = NULL;
	json_t *model;
	int r;

	r = sde_json_load(c->path, CASE_JSON_MAX, &c->root, error);
	if (r < 0)
		return r;
	c->kind = json_string_value(json_object_get(c->root, "kind"));
	c->params = json_object_get(c->root, "params");
	model = json_object_get(c->root, "model");
	if (!c->kind)
		return sde_error_set(error, -EBADMSG, "malformed case: no kind");
	if (!json_is_array(json_object_get(c->root, "outputs")))
		return sde_error_set(error, -EBADMSG, "malformed case: no list of outputs");
	if (asprintf(&tensors, "%.*s.safetensors", (int)length - 5, c->path) < 0) {
		tensors = NULL;
		return sde_error_set(error, -ENOMEM, "no memory");
	}
	r = sde_weights_open(tensors, &c->tensors, error);
	if (r < 0)
		return r;
	if (json_is_string(model)) {
		c->model = golden_find_model(c, json_string_value(model));
		if (!c->model)
			return sde_error_set(error, -ENOENT,
					     "model '%s' is in no folder above the case",
					     json_string_value(model));
	}
	c->compared = json_object();
	return c->compared ? 0 : sde_error_set(error, -ENOMEM, "no memory");
}

static void release(struct golden_case *c)
{
	struct golden_tensor *next;

	for (; c->loaded; c->loaded = next) {
		next = c->loaded->next;
		free((void *)c->loaded->f32);
		free((void *)c->loaded->i32);
		free((void *)c->loaded->u8);
		free(c->loaded);
	}
	json_decref(c->compared);
	json_decref(c->root);
	sde_weights_free(c->tensors);
	free(c->model);
}

static void describe(const struct golden_case *c, int result, char *line, size_t size)
{
	char figures[192] = "";
	size_t used;

	if (c->compared_count && c->worst_psnr)
		snprintf(figures, sizeof(figures), "PSNR %.2f dB; ", c->worst_psnr);
	if (c->compared_count)
		snprintf(figures + strlen(figures), sizeof(figures) - strlen(figures),
			 "worst %s abs %.3g rel %.3g", c->worst_name, c->worst_abs, c->worst_rel);
	used = (size_t)snprintf(line, size, "%s", result == GOLDEN_SKIP ? "" : figures);
	if (result != GOLDEN_PASS && used < size)
		snprintf(line + used, size - used, "%s%s", used ? "; " : "", c->note);
}

int golden_case_run(const char *json_path, const struct golden_options *options, char *ret_line,
		    size_t line_size)
{
	struct golden_case c = {.options = options, .path = json_path};
	struct sde_error error = {0};
	golden_fn *function;
	int result;

	if (prepare(&c, &error) < 0) {
		result = golden_fail(&c, "%s", error.message);
	} else {
		function = golden_kind(c.kind);
		result = function ? function(&c)
				  : golden_skip(&c, "kind '%s' is not implemented", c.kind);
		if (result == GOLDEN_PASS)
			result = check_all_outputs_given(&c);
	}
	describe(&c, result, ret_line, line_size);
	release(&c);
	return result;
}
