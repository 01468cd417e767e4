/*
 * A whole client: asks sdd for a picture of the prompt given and writes it as a PPM to standard output.
 *     cc example.c $(pkg-config --cflags --libs sdclient) -o example && ./example "a red barn" > barn.ppm
 */
#include <stdio.h>
#include <sdclient.h>

static void show(sdc_job *job, const sdc_progress *progress, void *userdata)
{
	fprintf(stderr, "\rstep %d of %d ", progress->step, progress->total);
}

int main(int argc, char **argv)
{
	const sdc_job_handlers handlers = {.progress = show};
	sdc_client *client = NULL;
	sdc_request *request = NULL;
	sdc_job *job = NULL;
	sdc_image image;
	sdc_error error;

	int r = sdc_connect(NULL, "example", 0, -1, &client, &error);
	if (r == 0) {
		request = sdc_job_request_new("txt2img", &error);
		r = request ? sdc_request_set_string(request, "prompt",
						     argc > 1 ? argv[1] : "a red barn", &error)
			    : error.code;
	}
	if (r == 0)
		r = sdc_job_submit(client, request, &handlers, &job, &error);
	if (r == 0)
		r = sdc_job_wait(job, -1, &error);
	if (r == 0)
		r = sdc_reply_image(sdc_job_result(job), "images.0.pixels", &image, &error);
	if (r == 0) {
		printf("P6 %d %d 255\n", image.width, image.height);
		for (int y = 0; y < image.height; y++)
			for (int x = 0; x < image.width; x++)
				fwrite((const char *)image.data + y * image.stride +
					       x * image.channels,
				       1, 3, stdout);
	} else {
		fprintf(stderr, "example: %s\n", error.message);
	}
	sdc_job_free(job);
	sdc_request_free(request);
	sdc_client_free(client);
	return r ? 1 : 0;
}
