/*
 * sdctl as a person runs it, against a real daemon and worker: exit codes, pipes, bytes outside the selection, replay.
 */
#include "tests/integration/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "client/sdctl/picture.h"

#define WIDTH  150
#define HEIGHT 101

static struct daemon server;

/* Run `sdctl --socket ... ARGUMENTS` through the shell in the test's folder; returns its exit code. */
__attribute__((format(printf, 1, 2))) static int sdctl(const char *format, ...)
{
	char arguments[768], command[1280];
	va_list ap;
	int status;

	va_start(ap, format);
	vsnprintf(arguments, sizeof(arguments), format, ap);
	va_end(ap);
	snprintf(command, sizeof(command), "cd %s && %s --socket %s %s", server.folder,
		 getenv("SDD_TEST_SDCTL"), server.socket, arguments);
	status = system(command);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void load(const char *name, struct picture *ret)
{
	char path[160], message[256];

	snprintf(path, sizeof(path), "%s/%s", server.folder, name);
	assert_int_equal(picture_load(path, ret, message, sizeof(message)), 0);
}

static void save(const char *name, const struct picture *picture)
{
	char path[160], message[256];

	snprintf(path, sizeof(path), "%s/%s", server.folder, name);
	assert_int_equal(picture_save_png(path, picture, NULL, 0, message, sizeof(message)), 0);
}

static void write_source(uint8_t seed)
{
	struct picture picture;

	assert_int_equal(picture_new(WIDTH, HEIGHT, 3, PICTURE_U8, &picture), 0);
	for (int i = 0; i < WIDTH * HEIGHT * 3; i++)
		picture.data[i] = (uint8_t)(i * 7 / 3 + seed);
	save("in.png", &picture);
	picture_clear(&picture);
}

/* A grey + alpha mask, white all over but opaque only in a rectangle of this width at (20, 20). */
static void write_mask(int width)
{
	struct picture mask;

	assert_int_equal(picture_new(WIDTH, HEIGHT, 2, PICTURE_U8, &mask), 0);
	for (int i = 0; i < WIDTH * HEIGHT; i++)
		mask.data[i * 2] = 255;
	for (int y = 20; y < 50; y++)
		memset(mask.data + (y * WIDTH + 20) * 2, 255, (size_t)width * 2);
	save("mask.png", &mask);
	picture_clear(&mask);
}

/* Summed over all samples. */
static long difference(const char *one, const char *other)
{
	struct picture a, b;
	long sum = 0;

	load(one, &a);
	load(other, &b);
	assert_true(a.width == b.width && a.height == b.height && a.channels == b.channels);
	for (int i = 0; i < a.width * a.height * a.channels; i++)
		sum += labs((long)a.data[i] - b.data[i]);
	picture_clear(&a);
	picture_clear(&b);
	return sum;
}

/* Every byte outside x, y, width, height equal, and something inside changed. */
static void assert_only_inside_changed(const char *name, int x, int y, int width, int height)
{
	struct picture before, after;
	int changed = 0;

	load("in.png", &before);
	load(name, &after);
	assert_int_equal(after.width, WIDTH);
	assert_int_equal(after.height, HEIGHT);
	assert_int_equal(after.channels, 3);
	for (int i = 0; i < WIDTH * HEIGHT; i++) {
		const int column = i % WIDTH, row = i / WIDTH;
		const bool inside =
			column >= x && column < x + width && row >= y && row < y + height;
		const bool equal = memcmp(before.data + i * 3, after.data + i * 3, 3) == 0;

		if (!inside)
			assert_true(equal);
		changed += !equal;
	}
	assert_true(changed > width * height / 2);
	picture_clear(&before);
	picture_clear(&after);
}

static void assert_pixels_equal(const char *one, const char *other)
{
	struct picture a, b;

	load(one, &a);
	load(other, &b);
	assert_int_equal(a.width, b.width);
	assert_int_equal(a.height, b.height);
	assert_int_equal(a.channels, b.channels);
	assert_memory_equal(a.data, b.data,
			    (size_t)a.width * (size_t)a.height * (size_t)a.channels);
	picture_clear(&a);
	picture_clear(&b);
}

static void test_inpaint_leaves_the_rest_alone_and_replays(void **state)
{
	SKIP_WITHOUT_WORKER();
	write_source(1);
	assert_int_equal(sdctl("inpaint -i in.png --select 40,30,50,41 --feather 0 --steps 2 "
			       "--seed 5 -o out.png "
			       "--sheet sheet.png 'a (red:1.2) house' 2>/dev/null"),
			 0);
	assert_only_inside_changed("out.png", 40, 30, 50, 41);
	assert_int_equal(sdctl("replay out.png -o again.png 2>/dev/null && cmp out.png again.png"),
			 0);
	assert_int_equal(sdctl("status >/dev/null && mv in.png moved.png"), 0);
	assert_int_equal(sdctl("replay out.png -i - -o again.png <moved.png 2>/dev/null && "
			       "cmp out.png again.png"),
			 0);
	write_source(2);
	assert_int_equal(sdctl("replay out.png -o never.png 2>/dev/null"), 1);
	assert_int_equal(sdctl("status >/dev/null && test ! -e never.png"), 0);
}

static void test_mask_and_its_replay(void **state)
{
	SKIP_WITHOUT_WORKER();
	write_source(6);
	write_mask(40);
	assert_int_equal(sdctl("inpaint -i in.png --mask mask.png --feather 0 --steps 1 --seed 2 "
			       "-o masked.png x "
			       "2>/dev/null"),
			 0);
	assert_only_inside_changed("masked.png", 20, 20, 40, 30);
	assert_int_equal(
		sdctl("replay masked.png -o again.png 2>/dev/null && cmp masked.png again.png"), 0);
	write_mask(30);
	assert_int_equal(sdctl("replay masked.png -o never.png 2>message"), 1);
	assert_int_equal(
		sdctl("status >/dev/null && test ! -e never.png && grep -q mask.png message"), 0);
}

static void test_pipes(void **state)
{
	SKIP_WITHOUT_WORKER();
	write_source(3);
	assert_int_equal(sdctl("inpaint --select 0,0,30,30 --feather 0 --steps 1 --seed 1 x < "
			       "in.png > piped.png"),
			 0);
	assert_only_inside_changed("piped.png", 0, 0, 30, 30);
	assert_int_equal(
		sdctl("--json txt2img --steps 1 --count 2 --seed 9 -o many.png x > reply.json && "
		      "test -s many-1.png -a -s many-2.png -a -s reply.json"),
		0);
}

/* The first job of a daemon loads, later ones do not; the parts are said in both forms. */
static void test_time_split(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(sdctl("unload " HARNESS_MODEL " >/dev/null"), 0);
	for (int loaded = 0; loaded < 2; loaded++) {
		assert_int_equal(sdctl("--json --verbose txt2img --model " HARNESS_MODEL
				       " --steps 20 --seed 1 -o x.png x >reply.json 2>message"),
				 0);
		assert_int_equal(sdctl("status >/dev/null && grep -Eq 'queue [0-9.]+ s, load "
				       "[0-9.]+ s, encode [0-9.]+ s, steps [0-9.]+ s, decode "
				       "[0-9.]+ s' message"),
				 0);
		assert_int_equal(
			sdctl("status >/dev/null && grep -q '\"load_ms\":0[,}]' reply.json"),
			!loaded);
		assert_int_equal(sdctl("status >/dev/null && grep -Eq "
				       "'\"steps_ms\":[1-9][0-9]*[,}]' reply.json"),
				 0);
	}
}

static void test_outpaint_grows_the_canvas(void **state)
{
	struct picture before, after;

	SKIP_WITHOUT_WORKER();
	write_source(4);
	assert_int_equal(
		sdctl("outpaint -i in.png --left 24 --steps 1 --seed 1 -o wide.png x 2>/dev/null"),
		0);
	load("in.png", &before);
	load("wide.png", &after);
	assert_int_equal(after.width, WIDTH + 24);
	assert_int_equal(after.height, HEIGHT);
	/* far from the seam the old picture stands where it stood */
	assert_memory_equal(after.data + (WIDTH + 24 - 20) * 3, before.data + (WIDTH - 20) * 3, 60);
	picture_clear(&before);
	picture_clear(&after);
}

/* Larger by the factor, replayable; at scale 1 and strength 0 the source itself, without an alpha that it had not. */
static void test_upscale(void **state)
{
	struct picture before, after;

	SKIP_WITHOUT_WORKER();
	write_source(5);
	assert_int_equal(
		sdctl("upscale -i in.png --scale 1 --strength 0 -o same.png x 2>/dev/null"), 0);
	load("in.png", &before);
	load("same.png", &after);
	assert_int_equal(after.channels, 3);
	assert_int_equal(after.width, WIDTH);
	assert_memory_equal(after.data, before.data, WIDTH * HEIGHT * 3);
	picture_clear(&before);
	picture_clear(&after);
	assert_int_equal(sdctl("upscale -i in.png --scale 1.5 --steps 2 --strength 0.6 --seed 3 "
			       "-o large.png x 2>/dev/null"),
			 0);
	load("large.png", &after);
	assert_int_equal(after.channels, 3);
	assert_int_equal(after.width, WIDTH * 3 / 2);
	assert_int_equal(after.height, 152); /* 151.5, to even */
	picture_clear(&after);
	assert_int_equal(
		sdctl("replay large.png -o again.png 2>/dev/null && cmp large.png again.png"), 0);
	assert_int_equal(sdctl("upscale -i in.png --scale 5 -o never.png x 2>message"), 2);
	assert_int_equal(sdctl("txt2img --scale 2 -o never.png x 2>/dev/null"), 2);
}

/* What steers sampling comes back in a replay, and what A1111 has a name for stands in its line. */
static void test_guidance_replays(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(sdctl("txt2img --rng philox --guidance-rescale 0.4 --tiles on "
			       "--hires-scale 1.5 --hires-strength 0.6 --steps 2 --seed 3 "
			       "--tiling x --guider apg --apg-norm 2.5 --region 0,0,32,64:0.5=tree "
			       "--region '32,0,32,64=a [b:c=d:1]' -o out.png '[x|y]' 2>/dev/null"),
			 0);
	assert_int_equal(sdctl("replay out.png -o again.png 2>/dev/null && cmp out.png again.png"),
			 0);
	assert_int_equal(sdctl("models >/dev/null && grep -aq 'RNG: NV' out.png && grep -aq "
			       "'Denoising strength: 0.6, Hires upscale: 1.5' out.png"),
			 0);
	assert_int_equal(sdctl("txt2img --region 1,2,3=x -o never.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("txt2img --region 1,2,3,4:2=x -o never.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("txt2img --rng dice -o never.png x 2>message"), 2);
	assert_int_equal(sdctl("models >/dev/null && grep -q 'torch-cpu, philox' message"), 0);
}

/* A region by a mask: as by its rectangle, another picture than without, and it comes back in a replay. */
static void test_region_by_mask(void **state)
{
	static const char asked[] = "txt2img --width 64 --height 64 --steps 2 --seed 3";
	struct picture mask;

	SKIP_WITHOUT_WORKER();
	assert_int_equal(picture_new(64, 64, 1, PICTURE_U8, &mask), 0);
	for (int i = 0; i < 64 * 64; i++)
		mask.data[i] = i % 64 < 32 ? 255 : 0;
	save("left.png", &mask);
	picture_clear(&mask);
	assert_int_equal(sdctl("%s -o plain.png x 2>/dev/null", asked), 0);
	assert_int_equal(sdctl("%s --region 0,0,32,64:0.5=tree -o rect.png x 2>/dev/null", asked),
			 0);
	assert_int_equal(sdctl("%s --region 32,0,32,64=cat --region left.png:0.5=tree -o out.png x "
			       "2>/dev/null && ! cmp -s out.png plain.png",
			       asked),
			 0);
	assert_int_equal(sdctl("replay out.png -o again.png 2>/dev/null && cmp out.png again.png"),
			 0);
	assert_int_equal(sdctl("%s --region left.png:0.5=tree -o mask.png x 2>/dev/null", asked),
			 0);
	/* but for the soft edge of a mask that is resampled */
	assert_true(difference("mask.png", "rect.png") * 5 < difference("mask.png", "plain.png"));
	/* a mask that changed is not replayed, nor one that is gone; one that never was is a typing error */
	write_mask(30);
	assert_int_equal(sdctl("models >/dev/null && mv mask.png left.png"), 0);
	assert_int_equal(sdctl("replay out.png -o never.png 2>message"), 1);
	assert_int_equal(sdctl("models >/dev/null && grep -q 'its pixels changed' message"), 0);
	assert_int_equal(sdctl("txt2img --region gone.png=tree -o never.png x 2>message"), 2);
	assert_int_equal(sdctl("txt2img --region left.png -o never.png x 2>/dev/null"), 2);
}

/* A sheet with the picture and a map for each word; an edit, which a replay makes again. */
static void test_edits_and_explanations(void **state)
{
	struct picture sheet;

	SKIP_WITHOUT_WORKER();
	assert_int_equal(sdctl("explain --steps 2 --seed 3 -o sheet.png '(red:1.2) house, tree' "
			       ">words 2>/dev/null"),
			 0);
	load("sheet.png", &sheet);
	/* four tiles of 64 x 64 with their captions */
	assert_int_equal(sheet.width, 8 + 2 * (64 + 8));
	assert_int_equal(sheet.height, 8 + 2 * (64 + 13 + 8));
	picture_clear(&sheet);
	assert_int_equal(sdctl("models >/dev/null && cut -c1-20 words | xargs | grep -qx "
			       "'red house tree'"),
			 0);
	assert_int_equal(sdctl("--json explain --steps 1 -o - 'a tree' 2>json >sheet.png && "
			       "grep -q '\"word\":\"tree\",\"tokens\":' json"),
			 0);
	assert_int_equal(sdctl("edit --source 'a red house' --edit replace --cross-replace 0.5 "
			       "--self-replace 1 --word blue=1.5 --word house=0 --steps 2 "
			       "--seed 3 -o out.png 'a blue house' 2>/dev/null"),
			 2);
	assert_int_equal(sdctl("edit --source 'a red house' --edit refine --cross-replace 0.5 "
			       "--self-replace 1 --word blue=1.5 --word house=0 --steps 2 "
			       "--seed 3 -o out.png 'a blue house' 2>/dev/null"),
			 0);
	assert_int_equal(sdctl("replay out.png -o again.png 2>/dev/null && cmp out.png again.png"),
			 0);
	assert_int_equal(
		sdctl("edit --source 'a red house' --local-blend house --local-blend BLUE "
		      "--blend-threshold 0.9 --blend-start 0 --steps 2 --seed 3 -o out.png "
		      "'a blue house' 2>/dev/null"),
		0);
	assert_int_equal(sdctl("replay out.png -o again.png 2>/dev/null && cmp out.png again.png"),
			 0);
	assert_int_equal(sdctl("edit --source 'a red house' --steps 2 --seed 3 -o again.png "
			       "'a blue house' 2>/dev/null"),
			 0);
	assert_int_not_equal(sdctl("models >/dev/null && cmp -s out.png again.png"), 0);
	assert_int_equal(sdctl("edit --source 'a red house' --local-blend green -o never.png "
			       "'a blue house' 2>message"),
			 2);
	assert_int_equal(sdctl("models >/dev/null && grep -q \"neither prompt has a word 'green'\" "
			       "message"),
			 0);
	assert_int_equal(sdctl("edit -o never.png x 2>message"), 2);
	assert_int_equal(sdctl("edit --word red -o never.png red 2>message"), 2);
	assert_int_equal(sdctl("edit --word green=2 -o never.png 'a house' 2>message"), 2);
	assert_int_equal(sdctl("models >/dev/null && grep -q \"no word 'green'\" message"), 0);
}

/* A sequence of two jobs keeps one drawn seed; each of its pictures says how to make it again, and its ends are the plain pictures. */
static void test_sequence(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(sdctl("interpolate --to 'a boat' --to-seed 8 --frames 18 --steps 1 "
			       "--plus tree --minus bush --weight 0.5 -o f.png 'a house' "
			       "2>/dev/null"),
			 0);
	assert_int_equal(sdctl("models >/dev/null && test -e f-18.png && ! test -e f-19.png"), 0);
	assert_int_equal(sdctl("replay f-8.png -o a.png 2>/dev/null && cmp f-8.png a.png"), 0);
	assert_int_equal(sdctl("replay f-17.png -o a.png 2>/dev/null && cmp f-17.png a.png"), 0);
	assert_int_equal(sdctl("txt2img --seed 8 --steps 1 --plus tree --minus bush --weight 0.5 "
			       "-o plain.png 'a boat' 2>/dev/null"),
			 0);
	assert_pixels_equal("plain.png", "f-18.png");
	write_source(3);
	assert_int_equal(sdctl("interpolate -i in.png --to-image plain.png --frames 2 --steps 1 "
			       "-o never.png x 2>message"),
			 2);
	assert_int_equal(sdctl("models >/dev/null && grep -q 'of one size' message"), 0);
	/* before anything is asked of the daemon, which has no such model */
	assert_int_equal(sdctl("interpolate --model none --to y -o - x 2>message"), 2);
	assert_int_equal(sdctl("models >/dev/null && grep -q '9 pictures cannot' message"), 0);
	assert_int_equal(sdctl("txt2img --model none --count 2 x 2>message | cat; "
			       "grep -q '2 pictures cannot' message"),
			 0);
	assert_int_equal(sdctl("interpolate --to-image in.png -o never.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("interpolate -o never.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("interpolate --to y --frames 1 -o never.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("interpolate --to-seed -1 -o never.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("txt2img --weight 2 -o never.png x 2>/dev/null"), 2);
}

/* Without another prompt the picture's own is painted again; what made it replays. */
static void test_invert(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(sdctl("txt2img --steps 1 --seed 4 -o small.png stripes 2>/dev/null"), 0);
	assert_int_equal(sdctl("invert -i small.png --source stripes --steps 2 -o one.png "
			       "2>/dev/null"),
			 0);
	assert_int_equal(sdctl("invert -i small.png --source stripes --steps 2 --seed 9 -o "
			       "two.png stripes 2>/dev/null"),
			 0);
	/* nothing is drawn */
	assert_pixels_equal("one.png", "two.png");
	assert_int_equal(sdctl("replay one.png -o again.png 2>/dev/null && cmp one.png again.png"),
			 0);
	assert_int_equal(sdctl("invert -i small.png -o never.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("invert -i small.png --source x --sampler Euler -o never.png "
			       "2>message"),
			 2);
	assert_int_equal(sdctl("models >/dev/null && grep -q 'the sampler DDIM' message"), 0);
}

/* Euler's last preview is the picture itself where the model's own decoder makes both. */
static void test_preview_file_is_rewritten(void **state)
{
	struct picture sketch, picture;

	SKIP_WITHOUT_WORKER();
	daemon_add_sketched(&server);
	assert_int_equal(sdctl("txt2img --model " HARNESS_SKETCHED " --steps 3 --sampler Euler "
			       "--seed 1 --preview live.png -o out.png x 2>/dev/null"),
			 0);
	load("live.png", &sketch);
	load("out.png", &picture);
	assert_int_equal(sketch.channels, 3);
	assert_int_equal(sketch.width, picture.width);
	assert_int_equal(sketch.height, picture.height);
	for (int i = 0; i < sketch.width * sketch.height * 3; i++)
		assert_in_range(sketch.data[i] - picture.data[i] + 3, 0, 6);
	picture_clear(&sketch);
	picture_clear(&picture);
	assert_int_equal(sdctl("txt2img --model " HARNESS_SKETCHED " --steps 2 --preview "
			       "no/such/folder/x.png -o out.png x 2>message"),
			 0);
	assert_int_equal(sdctl("--help >/dev/null; grep -q no/such/folder message"), 0);
}

/* Of a job that asked for none: one file, while it goes on; none when it is over, or its model cannot sketch. */
static void test_preview_on_demand(void **state)
{
	struct picture sketch;

	SKIP_WITHOUT_WORKER();
	assert_int_equal(sdctl("txt2img --model " HARNESS_SKETCHED " --steps 1000 --detach x >job"),
			 0);
	assert_int_equal(sdctl("preview $(cat job) -o sketch.png 2>message"), 0);
	load("sketch.png", &sketch);
	assert_int_equal(sketch.channels, 3);
	picture_clear(&sketch);
	assert_int_equal(sdctl("jobs | grep -q \"^ *$(cat job) running\" && "
			       "grep -Eqx \"wrote sketch.png \\(job $(cat job), behind step "
			       "[0-9]+\\)\" message"),
			 0);
	assert_int_equal(sdctl("--json preview $(cat job) -o - >sketch.png 2>told && "
			       "grep -Eqx '\\{\"job\":[0-9]+,\"step\":[0-9]+\\}' told"),
			 0);
	load("sketch.png", &sketch);
	picture_clear(&sketch);
	assert_int_equal(sdctl("preview $(cat job) -o no/such/folder/x.png 2>message"), 1);
	assert_int_equal(sdctl("preview $(cat job) 2>/dev/null"), 2);
	assert_int_equal(sdctl("cancel $(cat job) >/dev/null"), 0);
	assert_int_equal(sdctl("preview 123456 -o x.png 2>message"), 1);
	/* the tiny model has no decoder of that kind */
	assert_int_equal(sdctl("txt2img --model " HARNESS_MODEL " --steps 100 --detach x >job"), 0);
	assert_int_equal(sdctl("preview $(cat job) -o x.png 2>message"), 1);
	assert_int_equal(sdctl("jobs >/dev/null && grep -q 'no preview decoder' message"), 0);
}

static void test_exit_codes(void **state)
{
	write_source(5);
	assert_int_equal(sdctl("nonsense 2>/dev/null"), 2);
	assert_int_equal(sdctl("txt2img --steps 5000 -o x.png x 2>/dev/null"), 2);
	assert_int_equal(sdctl("inpaint -i missing.png --select 0,0,9,9 -o x.png x 2>/dev/null"),
			 2);
	assert_int_equal(sdctl("--socket %s/nobody status 2>message; test $? = 3", server.folder),
			 0);
	assert_int_equal(sdctl("--socket %s/nobody status 2>&1 | grep -q 'sdd --socket %s/nobody'",
			       server.folder, server.folder),
			 0);
	assert_int_equal(sdctl("cancel 12345 2>/dev/null"), 1);
	assert_int_equal(sdctl("models >/dev/null && %s --socket %s api | grep -q job.submit",
			       getenv("SDD_TEST_SDCTL"), server.socket),
			 0);
}

/* The daemon beside this sdctl is started, says why when it cannot, and is named when nobody asked for it. */
static void test_spawn(void **state)
{
	assert_int_equal(sdctl("--socket '%s/a b/s' status 2>&1 | "
			       "grep -q \"^start the daemon with: %s --socket '%s/a b/s' &\"",
			       server.folder, getenv("SDD_TEST_SDD"), server.folder),
			 0);
	assert_int_equal(sdctl("--spawn --socket '%s/a b/s' --json status >status && "
			       "kill $(grep -o '\"pid\":[0-9]*' status | head -n 1 | cut -d: -f2)",
			       server.folder),
			 0);
	assert_int_equal(sdctl("--spawn --socket /proc/s status 2>/dev/null"), 3);
	/* the lock of the daemon that serves this socket already */
	assert_int_equal(sdctl("status >/dev/null; mv s s.away; %s --spawn --socket %s status "
			       "2>message; r=$?; mv s.away s; "
			       "grep -q 'another sdd serves' message && exit $r",
			       getenv("SDD_TEST_SDCTL"), server.socket),
			 3);
}

/* What runs, what waits and why, for people; the same figures for machines; a report without anybody's prompt. */
static void test_operations(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(sdctl("txt2img --model " HARNESS_MODEL " --steps 1000 --detach "
			       "--priority batch 'secret words' >first"),
			 0);
	assert_int_equal(sdctl("txt2img --model " HARNESS_MODEL " --steps 1000 --detach "
			       "--priority batch x >second"),
			 0);
	while (sdctl("jobs | grep -q \"^ *$(cat first) running .* [1-9][0-9]*/1000 *$\"") != 0)
		sleep_ms(10);
	assert_int_equal(sdctl("why $(cat second) >why"), 0);
	assert_int_equal(
		sdctl("status >/dev/null && grep -q \"class batch) is queued: it waits for job "
		      "$(cat first) \" why && grep -Eq '^submitted [0-9.]+ s ago' why"),
		0);
	/* one that made room keeps its steps and says so, and stands behind the one that goes first */
	assert_int_equal(sdctl("txt2img --model " HARNESS_MODEL " --steps 1000 --detach "
			       "--priority interactive x >third"),
			 0);
	while (sdctl("jobs | grep -q \"^ *$(cat third) running\"") != 0)
		sleep_ms(10);
	assert_int_equal(sdctl("jobs | grep -Eq \"^ *$(cat first) queued .* [1-9][0-9]*/1000 *$\""),
			 0);
	assert_int_equal(sdctl("why $(cat first) | grep -Eq 'queued: [1-9][0-9]* of 1000 steps are "
			       "made and kept; it waits for job '"),
			 0);
	assert_int_equal(
		sdctl("ps | awk '$1 ~ /^[0-9]+$/ {print $1}' | head -n 3 >ids && cat third first "
		      "second | cmp - ids"),
		0);
	/* on a terminal no more than fits */
	assert_int_equal(
		sdctl("status >/dev/null; script -qec 'stty rows 9 cols 60; %s --socket %s "
		      "top 1' /dev/null >screen && test $(wc -l <screen) -le 9 && "
		      "grep -q 'lines more' screen && ! grep -Eq '^[^[:cntrl:]]{61}' screen",
		      getenv("SDD_TEST_SDCTL"), server.socket),
		0);
	assert_int_equal(sdctl("cancel $(cat third) >/dev/null"), 0);
	while (sdctl("jobs | grep -q \"^ *$(cat first) running\"") != 0)
		sleep_ms(10);
	assert_int_equal(sdctl("ps >ps && grep -q '^" HARNESS_MODEL " .*client' ps || "
			       "grep -q '^" HARNESS_MODEL " .* for ' ps || "
			       "grep -q '^" HARNESS_MODEL " .*must make room' ps"),
			 0);
	assert_int_equal(
		sdctl("status | grep -Eq '^caches: text [0-9]+ hits of [0-9]+.* at most 512 MiB$'"),
		0);
	assert_int_equal(sdctl("--json top 2 >top && test $(wc -l <top) = 2"), 0);
	assert_int_equal(sdctl("metrics >metrics && tail -n 1 metrics | grep -qx '# EOF' && "
			       "grep -qx 'sdd_jobs_running 1' metrics && "
			       "grep -qx 'sdd_jobs_waiting{class=\"batch\"} 1' metrics && "
			       "grep -q '^sdd_cache_misses_total{cache=\"text\"} [1-9]' metrics"),
			 0);
	/* every line is a comment or a sample */
	assert_int_equal(sdctl("metrics | grep -Evq '^(# (TYPE|UNIT|HELP) .*|# EOF|"
			       "[a-z_]+(\\{[a-z]+=\"[^\"]*\"\\})? [0-9.]+)$'"),
			 1);
	assert_int_equal(sdctl("doctor report && grep -q '== metrics' report && "
			       "grep -q weight_bytes report && ! grep -q 'secret words' report"),
			 0);
	assert_int_equal(sdctl("cancel $(cat second) >/dev/null"), 0);
	assert_int_equal(sdctl("cancel $(cat first) >/dev/null"), 0);
	assert_int_equal(sdctl("why 123456 2>/dev/null"), 1);
}

static int start(void **state)
{
	daemon_start(&server, NULL);
	return 0;
}

static int stop(void **state)
{
	daemon_stop(&server);
	daemon_clear(&server);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inpaint_leaves_the_rest_alone_and_replays),
		cmocka_unit_test(test_mask_and_its_replay),
		cmocka_unit_test(test_pipes),
		cmocka_unit_test(test_time_split),
		cmocka_unit_test(test_outpaint_grows_the_canvas),
		cmocka_unit_test(test_upscale),
		cmocka_unit_test(test_guidance_replays),
		cmocka_unit_test(test_region_by_mask),
		cmocka_unit_test(test_edits_and_explanations),
		cmocka_unit_test(test_sequence),
		cmocka_unit_test(test_invert),
		cmocka_unit_test(test_preview_file_is_rewritten),
		cmocka_unit_test(test_preview_on_demand),
		cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_operations),
		cmocka_unit_test(test_spawn),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
