/*
 * Requests for sequences of pictures, for latent arithmetic and for edits: lists of structs, numbers and words.
 */
#include <stdlib.h>
#include <string.h>

#include "client/internal.h"

SDC_API int sdc_request_add_waypoint(sdc_request *request, const char *prompt, const uint64_t *seed,
				     const sdc_image *image, sdc_error *ret_error)
{
	struct sdp_record *waypoint;
	int r;

	r = sdc_request_append(request, "waypoints", &waypoint, ret_error);
	if (r == 0 && prompt)
		r = sdc_record_put_string(waypoint, SDP_WAYPOINT_PROMPT, prompt, ret_error);
	if (r == 0 && seed)
		r = sdc_record_put_uint(waypoint, SDP_WAYPOINT_SEED, *seed, ret_error);
	if (r == 0 && image)
		r = sdc_request_hold_image(request, waypoint, SDP_WAYPOINT_IMAGE, "waypoints",
					   image, ret_error);
	return r;
}

SDC_API int sdc_request_add_direction(sdc_request *request, const char *plus, const char *minus,
				      const sdc_image *plus_image, const sdc_image *minus_image,
				      double weight, sdc_error *ret_error)
{
	struct sdp_record *direction;
	int r;

	r = sdc_request_append(request, "directions", &direction, ret_error);
	if (r == 0)
		r = sdc_record_put_double(direction, SDP_DIRECTION_WEIGHT, weight, ret_error);
	if (r == 0 && plus)
		r = sdc_record_put_string(direction, SDP_DIRECTION_PLUS, plus, ret_error);
	if (r == 0 && minus)
		r = sdc_record_put_string(direction, SDP_DIRECTION_MINUS, minus, ret_error);
	if (r == 0 && plus_image)
		r = sdc_request_hold_image(request, direction, SDP_DIRECTION_PLUS_IMAGE,
					   "directions", plus_image, ret_error);
	if (r == 0 && minus_image)
		r = sdc_request_hold_image(request, direction, SDP_DIRECTION_MINUS_IMAGE,
					   "directions", minus_image, ret_error);
	return r;
}

/* Sets a list to n items, which are freed; NULL: there was no memory for them. */
static int set_list(sdc_request *request, const char *field, msgpack_object *items, size_t n,
		    sdc_error *error)
{
	const int index = sdp_struct_index(request->record->type, field, strlen(field));
	msgpack_object list = {.type = MSGPACK_OBJECT_ARRAY, .via.array = {(uint32_t)n, items}};
	struct sdp_error why;
	int r = 0;

	if (!items || n > UINT32_MAX)
		r = sdc_fail(error, SDC_E_NO_MEMORY, "out of memory");
	else if (index < 0)
		r = sdc_fail(error, SDC_E_UNKNOWN_FIELD, "%s is no field of %s", field,
			     request->method->name);
	else if (sdp_record_put(request->record, index, &list, &why) < 0)
		r = sdc_fail_with(error, &why);
	free(items);
	return r;
}

SDC_API int sdc_request_set_doubles(sdc_request *request, const char *field, const double *values,
				    size_t n, sdc_error *ret_error)
{
	msgpack_object *items = calloc(n + 1, sizeof(*items));

	for (size_t i = 0; items && i < n; i++)
		items[i] = (msgpack_object){.type = MSGPACK_OBJECT_FLOAT64, .via.f64 = values[i]};
	return set_list(request, field, items, n, ret_error);
}

SDC_API int sdc_request_set_strings(sdc_request *request, const char *field,
				    const char *const *values, size_t n, sdc_error *ret_error)
{
	msgpack_object *items = calloc(n + 1, sizeof(*items));

	for (size_t i = 0; items && i < n; i++)
		items[i] = sdc_string_object(values[i]);
	return set_list(request, field, items, n, ret_error);
}
