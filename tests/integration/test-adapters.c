/*
 * Adapters from the command line to the worker and back: LoRAs and guiding pictures change the picture, are written into it, and
 * come back by replay; what is missing or does not fit is named with the protocol's code.
 */
#include "tests/integration/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "client/sdctl/picture.h"

static struct daemon server;

/* Run shell text in the test's folder with $SDCTL as the command; returns its exit code. */
__attribute__((format(printf, 1, 2))) static int shell(const char *format, ...)
{
	char text[2048], command[4096];
	va_list ap;
	int status;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	snprintf(command, sizeof(command),
		 "cd %s && SDCTL='%s --socket %s' && A='%s' && M='--model adapted --steps 2 --seed "
		 "1 "
		 "--width 32 --height 32' && %s",
		 server.folder, getenv("SDD_TEST_SDCTL"), server.socket,
		 getenv("SDD_TEST_ADAPTERS"), text);
	status = system(command);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool same_pixels(const char *a, const char *b)
{
	const char *const names[] = {a, b};
	struct picture pictures[2];
	char path[160], message[256];
	bool same;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", server.folder, names[i]);
		assert_int_equal(picture_load(path, &pictures[i], message, sizeof(message)), 0);
	}
	assert_int_equal(pictures[0].width, pictures[1].width);
	assert_int_equal(pictures[0].channels, pictures[1].channels);
	same = memcmp(pictures[0].data, pictures[1].data,
		      (size_t)pictures[0].width * (size_t)pictures[0].height *
			      (size_t)pictures[0].channels) == 0;
	picture_clear(&pictures[0]);
	picture_clear(&pictures[1]);
	return same;
}

static void test_adapters_are_listed(void **state)
{
	assert_int_equal(
		shell("$SDCTL adapters > list && grep -q 'loras *linear$' list && "
		      "grep -q 'loras *sdxl$' list && grep -q 'controlnets *tiny_canny$' list "
		      "&& grep -q 'embeddings *word$' list && test $(wc -l < list) = 4"),
		0);
	assert_int_equal(
		shell("$SDCTL --json adapters | grep -q '\"loras\":\\[\"linear\",\"sdxl\"\\]'"), 0);
}

static void test_loras_change_the_picture_and_replay(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(
		shell("$SDCTL txt2img $M -o plain.png 'a cat' 2>/dev/null && "
		      "$SDCTL txt2img $M -o lora.png --lora linear:0.7 'a cat' 2>/dev/null && "
		      "$SDCTL txt2img $M -o tag.png 'a cat<lora:linear:0.7>' 2>/dev/null && "
		      "$SDCTL txt2img $M -o off.png --lora linear:0 'a cat' 2>/dev/null"),
		0);
	/* pixels alone: an unchanged part of a picture, without the parameters that lie beside them */
	assert_true(same_pixels("lora.png", "tag.png"));
	assert_true(same_pixels("plain.png", "off.png"));
	assert_false(same_pixels("plain.png", "lora.png"));
	assert_int_equal(
		shell("grep -aq 'a cat <lora:linear:0.7>' lora.png && "
		      "$SDCTL replay lora.png -o again.png 2>/dev/null && cmp lora.png again.png "
		      "&& "
		      "$SDCTL replay tag.png -o again.png 2>/dev/null && cmp tag.png again.png"),
		0);
}

static void test_guides_change_the_picture_and_replay(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(
		shell("$SDCTL txt2img $M -o guide.png 'a house' 2>/dev/null && "
		      "$SDCTL txt2img $M -o guided.png --control canny=guide.png:0.9 --lora linear "
		      "'a cat' 2>/dev/null && "
		      "$SDCTL --json txt2img $M -o half.png --control canny=guide.png:0.9:0:0.5 "
		      "--guess-mode true 'a cat' 2>/dev/null > reply && "
		      "grep -q "
		      "'\"controls\":\\[{\"kind\":\"canny\",\"scale\":0.9,\"start\":0.0,\"end\":0."
		      "5}\\]' "
		      "reply && grep -q '\"guess_mode\":true' reply"),
		0);
	assert_int_equal(
		shell("grep -aq 'ControlNet 0: \"Module: canny, Weight: 0.9' guided.png && "
		      "$SDCTL replay guided.png -o again.png 2>/dev/null && cmp guided.png "
		      "again.png "
		      "&& $SDCTL replay half.png -o again.png 2>/dev/null && cmp half.png "
		      "again.png"),
		0);
	assert_int_equal(
		shell("cp plain.png guide.png; $SDCTL replay guided.png -o never.png 2>message; "
		      "r=$?; test ! -e never.png && grep -q 'guide.png is not the control' message "
		      "&& "
		      "exit $r"),
		1);
}

/* Every form once: a request, a reply, a picture that is another one than without and than any other form's. */
static void test_every_form(void **state)
{
	static const struct {
		const char *name, *arguments;
	} forms[] = {
		{"loha", "--lora loha"},
		{"lokr", "--lora lokr"},
		{"dora", "--lora dora"},
		{"locon", "--lora locon"},
		{"stacked", "--lora linear:0.7 --lora loha:0.5 --lora dora:-0.4"},
		{"net", "--control tiny_canny=forms-plain.png"},
		{"two", "--control tiny_canny=forms-plain.png:0.5 --control other=forms-plain.png"},
		{"guess", "--control tiny_canny=forms-plain.png --guess-mode true"},
		{"late", "--control tiny_canny=forms-plain.png:1:0.5:1"},
		{"early", "--control tiny_canny=forms-plain.png:1:0:0.5"},
		{"t2i", "--control sketch=forms-plain.png"},
		{"ip", "--control picture=forms-plain.png"},
		{"word", "word"}, /* as a prompt of its own below */
	};
	enum { FORMS = sizeof(forms) / sizeof(forms[0]) };
	char names[FORMS + 1][32];

	SKIP_WITHOUT_WORKER();
	assert_int_equal(
		shell("cd models && for f in lyco_loha:loha lyco_lokr:lokr dora:dora "
		      "kohya_locon:locon flux_kohya:flux sd3_peft:sd3; do "
		      "ln -s $A/lora/${f%%%%:*}.safetensors loras/${f#*:}.safetensors; done && "
		      "cd controlnets && ln -s $A/controlnet_sd15_b other && "
		      "ln -s $A/controlnet_sdxl net_xl && ln -s $A/t2i_adapter_sd15 sketch && "
		      "ln -s $A/ip_adapter_sd15/ip-adapter_sd15.safetensors picture.safetensors && "
		      "ln -s $A/ip_adapter_sd15/image_encoder image_encoder"),
		0);
	snprintf(names[FORMS], sizeof(names[FORMS]), "forms-plain.png");
	assert_int_equal(shell("$SDCTL txt2img $M -o forms-plain.png 'a cat' 2>/dev/null"), 0);
	for (size_t i = 0; i < FORMS; i++) {
		const bool prompt = forms[i].arguments[0] != '-';

		snprintf(names[i], sizeof(names[i]), "forms-%s.png", forms[i].name);
		if (shell("$SDCTL txt2img $M -o %s %s 'a cat%s%s' 2>message", names[i],
			  prompt ? "" : forms[i].arguments, prompt ? " " : "",
			  prompt ? forms[i].arguments : "") != 0) {
			shell("cat message");
			fail_msg("%s", forms[i].name);
		}
	}
	for (size_t i = 0; i <= FORMS; i++)
		for (size_t k = 0; k < i; k++)
			if (same_pixels(names[i], names[k]))
				fail_msg("%s is the same as %s", names[i], names[k]);
}

static void test_words(void **state)
{
	SKIP_WITHOUT_WORKER();
	assert_int_equal(
		shell("for p in 'a photo of' 'a photo of word'; do $SDCTL --json txt2img $M -o "
		      "word.png \"$p\" 2>/dev/null | grep -o '\"prompt_tokens\":[0-9]*' | "
		      "cut -d: -f2; done > tokens; set -- $(cat tokens); test $2 = $(($1 + 3))"),
		0);
}

static void refused(const char *arguments, int code, const char *message)
{
	assert_int_equal(shell("$SDCTL txt2img $M -o never.png %s x 2>message", arguments), code);
	if (shell("test ! -e never.png && grep -qF \"%s\" message", message) != 0) {
		shell("cat message");
		fail_msg("'%s' was not said", message);
	}
	assert_int_equal(daemon_status_int(&server, "worker.restarts"), 0);
}

static void test_what_is_missing_is_named(void **state)
{
	SKIP_WITHOUT_WORKER();
	refused("--lora nothing", 1,
		"no LoRA is called 'nothing'; loras/ of the model folders has");
	refused("--lora ../loras/linear", 2, "is no name of a LoRA");
	refused("--lora sdxl", 2, "LoRA sdxl is for SDXL, the model is SD 1.x");
	refused("--lora flux", 2, "LoRA flux is for FLUX, the model is SD 1.x");
	refused("--lora sd3", 2, "LoRA sd3 is for SD 3, the model is SD 1.x");
	refused("--lora 'linear:0.5' --lora sdxl", 2, "LoRA sdxl is for SDXL");
	refused("--control net_xl=plain.png", 2, "net_xl: it attends to 80 channels");
	refused("--lora linear:1e9", 2, "weight is 1e+09");
	refused("--control canny", 2, "write KIND=IMAGE, KIND=IMAGE:SCALE");
	refused("--control canny=nowhere.png", 2, "nowhere.png");
	refused("--control depth=plain.png", 1, "no ControlNet is called 'depth'");
	refused("--control canny=plain.png:1:0.7:0.2", 2, "controls.0.end must lie behind start");
}

static int start(void **state)
{
	daemon_start(&server, NULL);
	return shell(
		"cd models && ln -s $A/base_sd15 adapted && mkdir loras controlnets embeddings && "
		"ln -s $A/lora/kohya_linear.safetensors loras/linear.safetensors && "
		"ln -s $A/lora/sdxl_kohya_sgm.safetensors loras/sdxl.safetensors && "
		"ln -s $A/controlnet_sd15_a controlnets/tiny_canny && "
		"ln -s $A/embeddings/a1111_multi.safetensors embeddings/word.safetensors");
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
		cmocka_unit_test(test_adapters_are_listed),
		cmocka_unit_test(test_loras_change_the_picture_and_replay),
		cmocka_unit_test(test_guides_change_the_picture_and_replay),
		cmocka_unit_test(test_every_form),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_what_is_missing_is_named),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
