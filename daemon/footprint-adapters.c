/*
 * What a job's adapters add to a model's footprint: LoRAs of its list and its prompt's tags, ControlNets, T2I-Adapters, an IP-Adapter
 * with the image encoder beside it. They are looked up where the worker looks (daemon/engine/adapters/find.h); one that is not there adds
 * nothing, and the worker says so. A file that several guides use is in memory once. What a header said is kept by the file's state, as
 * every job of a series names the same files.
 */
#include "daemon/footprint.h"
#include "daemon/util/cleanup.h"
#include "daemon/util/size.h"
#include "daemon/weight-header.h"
#include "protocol/codec.h"

#include <dirent.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

enum {
	NAME_SIZE = 128,
	TAGS_MAX = 16 /* SDE_LORAS_MAX */,
	FILES_MAX = 16,
	ENTRIES_MAX = 4096,
	SEEN_MAX = 32,
	HEADERS_MAX = 512,
};

static const char ending[] = ".safetensors";

struct lookup {
	const struct sdd_footprint_roots *roots;
	struct sdd_footprint *footprint;
	struct {
		dev_t dev;
		ino_t ino;
	} seen[SEEN_MAX];
	size_t n_seen;
	bool has_read;
};

/* What one file adds, whatever it is used as. */
struct sums {
	uint64_t state; /* of the file */
	uint64_t numbers;
	uint64_t file_bytes, lora_numbers, lora_text_numbers;
	bool is_ip_adapter;
};

struct sdd_memo sdd_footprint_headers_new(void)
{
	return sdd_memo_new(sizeof(struct sums), HEADERS_MAX);
}

static bool ends_with(const char *name, const char *end)
{
	const size_t length = strlen(name), n = strlen(end);

	return length > n && strcmp(name + length - n, end) == 0;
}

static bool is_new(struct lookup *lookup, const struct stat *st)
{
	for (size_t i = 0; i < lookup->n_seen; i++)
		if (lookup->seen[i].dev == st->st_dev && lookup->seen[i].ino == st->st_ino)
			return false;
	if (lookup->n_seen < SEEN_MAX) {
		lookup->seen[lookup->n_seen].dev = st->st_dev;
		lookup->seen[lookup->n_seen++].ino = st->st_ino;
	}
	return true;
}

/* Of the tensor that is called base with this part behind it; 1 number and 1 row where there is none. */
static struct sdd_weight_tensor part_of(const json_t *header, const char *base, size_t length,
					const char *part)
{
	struct sdd_weight_tensor tensor;
	char name[512];

	if ((size_t)snprintf(name, sizeof(name), "%.*s%s", (int)length, base, part) <
		    sizeof(name) &&
	    sdd_weight_tensor_read(json_object_get(header, name), &tensor))
		return tensor;
	return (struct sdd_weight_tensor){.numbers = 1, .rows = 1};
}

static uint64_t times(uint64_t a, uint64_t b)
{
	return sdd_u64_multiply_saturated(a, b);
}

/*
 * Numbers of the weight that a form which is no branch beside the layer makes anew (LoHa, LoKr, DoRA, whole differences), told by one of
 * its tensors; 0 = this tensor tells none.
 */
static uint64_t merged_numbers(const json_t *header, const char *name,
			       const struct sdd_weight_tensor *tensor)
{
	const size_t length = strlen(name);

	if (ends_with(name, ".hada_w1_b")) {
		const struct sdd_weight_tensor a = part_of(header, name, length - 9, "hada_w1_a");
		const struct sdd_weight_tensor t = part_of(header, name, length - 9, "hada_t1");
		const uint64_t rank = tensor->rows;

		return times(times(a.numbers / rank, tensor->numbers / rank),
			     t.numbers > 1 ? t.numbers / rank / rank : 1);
	}
	if (ends_with(name, ".lokr_w1") || ends_with(name, ".lokr_w1_a")) {
		const size_t base = length - (ends_with(name, "_a") ? 9 : 7);
		const struct sdd_weight_tensor b = part_of(header, name, base, "lokr_w1_b");
		const struct sdd_weight_tensor w2 = part_of(header, name, base, "lokr_w2");
		const struct sdd_weight_tensor a2 = part_of(header, name, base, "lokr_w2_a");
		const struct sdd_weight_tensor b2 = part_of(header, name, base, "lokr_w2_b");
		const struct sdd_weight_tensor t2 = part_of(header, name, base, "lokr_t2");
		const uint64_t first = times(tensor->numbers / b.rows, b.numbers / b.rows);
		const uint64_t kernel = t2.numbers > 1 ? t2.numbers / b2.rows / b2.rows : 1;

		return times(first, times(times(w2.numbers, a2.numbers / b2.rows),
					  times(b2.numbers / b2.rows, kernel)));
	}
	if (ends_with(name, ".dora_scale")) {
		static const char *const pairs[][2] = {
			{"lora_up.weight", "lora_down.weight"},
			{"lora_B.weight", "lora_A.weight"},
		};

		for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
			const struct sdd_weight_tensor up =
				part_of(header, name, length - 10, pairs[i][0]);
			const struct sdd_weight_tensor down =
				part_of(header, name, length - 10, pairs[i][1]);

			if (down.numbers > 1)
				return times(up.numbers / down.rows, down.numbers / down.rows);
		}
	}
	return ends_with(name, ".diff") ? tensor->numbers : 0;
}

static void add(uint64_t *sum, uint64_t numbers)
{
	*sum = sdd_u64_add_saturated(*sum, numbers);
}

static struct sums sums_of(const json_t *header, uint64_t state)
{
	struct sums sums = {.state = state,
			    .is_ip_adapter = json_object_get(header, "image_proj.proj.weight")};
	const char *name;
	json_t *entry;

	json_object_foreach ((json_t *)header, name, entry) {
		const bool text =
			strncmp(name, "lora_te", 7) == 0 || strncmp(name, "text_", 5) == 0;
		struct sdd_weight_tensor tensor;

		if (!sdd_weight_tensor_read(entry, &tensor))
			continue;
		add(&sums.numbers, tensor.numbers);
		add(&sums.file_bytes, tensor.bytes);
		add(text ? &sums.lora_text_numbers : &sums.lora_numbers,
		    sdd_u64_add_saturated(tensor.numbers, merged_numbers(header, name, &tensor)));
	}
	return sums;
}

/* From the header, or as it is remembered; false when it is no such file. */
static bool find_sums(struct lookup *lookup, const char *path, struct stat *ret_st,
		      struct sums *ret_sums)
{
	SDD_CLEANUP(json_decrefp) json_t *header = NULL;
	const struct sums *known;
	bool gguf;

	if (stat(path, ret_st) < 0)
		return false;
	known = sdd_memo_find(lookup->roots->headers, sdd_hash_stat(1, ret_st));
	if (known) {
		*ret_sums = *known;
		return true;
	}
	header = sdd_weight_header_read(path, ret_st, &gguf);
	if (!header)
		return false;
	lookup->has_read = true;
	*ret_sums = sums_of(header, sdd_hash_stat(1, ret_st));
	if (sdd_memo_settles_in_us(ret_st) == 0)
		sdd_memo_add(lookup->roots->headers, ret_sums);
	return true;
}

enum what { LORA, CONTROL, IMAGE_ENCODER };

static void count_file(struct lookup *lookup, enum what what, const char *path);

/* The IP-Adapter's image encoder lies beside it, a folder. */
static void count_folder(struct lookup *lookup, enum what what, const char *path)
{
	struct dirent **entries = NULL;
	char file[PATH_MAX];
	bool plain = false;
	int n = scandir(path, &entries, NULL, alphasort);

	for (int i = 0; i < n; i++)
		plain |= ends_with(entries[i]->d_name, ending) &&
			 !sdd_weight_is_variant(entries[i]->d_name);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;

		if (i < FILES_MAX && ends_with(name, ending) &&
		    !(plain && sdd_weight_is_variant(name)) &&
		    (size_t)snprintf(file, sizeof(file), "%s/%s", path, name) < sizeof(file))
			count_file(lookup, what, file);
		free(entries[i]);
	}
	free(entries);
}

static void count_file(struct lookup *lookup, enum what what, const char *path)
{
	struct sdd_footprint *footprint = lookup->footprint;
	const char *slash = strrchr(path, '/');
	char encoder[PATH_MAX];
	struct sums sums;
	struct stat st;

	if (!find_sums(lookup, path, &st, &sums) || (what != LORA && !is_new(lookup, &st)))
		return;
	if (what == LORA) {
		add(&footprint->adapter_file_bytes, sums.file_bytes);
		add(&footprint->adapter_numbers, sums.lora_numbers);
		add(&footprint->adapter_text_numbers, sums.lora_text_numbers);
	} else if (what == IMAGE_ENCODER) {
		add(&footprint->image_encoder_numbers, sums.numbers);
	} else {
		add(&footprint->adapter_numbers, sums.numbers);
		footprint->guided |= !sums.is_ip_adapter;
		if (sums.is_ip_adapter && slash &&
		    (size_t)snprintf(encoder, sizeof(encoder), "%.*s/image_encoder",
				     (int)(slash - path), path) < sizeof(encoder))
			count_folder(lookup, IMAGE_ENCODER, encoder);
	}
}

/* The entry of that name below a root; of controls also the first, by name, that holds the word. */
static void count_named(struct lookup *lookup, enum what what, const char *folder, const char *word)
{
	char best[NAME_SIZE] = "", path[PATH_MAX] = "", base[PATH_MAX], candidate[PATH_MAX];
	struct stat st;

	if (strchr(word, '/'))
		return;
	for (size_t i = 0; i < lookup->roots->count; i++) {
		const struct dirent *entry;
		int seen = 0;
		DIR *dir;

		if ((size_t)snprintf(base, sizeof(base), "%s/%s", lookup->roots->paths[i],
				     folder) >= sizeof(base))
			continue;
		dir = opendir(base);
		while (dir && (entry = readdir(dir)) && seen++ < ENTRIES_MAX) {
			const bool file = ends_with(entry->d_name, ending);
			const size_t length =
				strlen(entry->d_name) - (file ? sizeof(ending) - 1 : 0);
			char name[NAME_SIZE];

			if (entry->d_name[0] == '.' || length >= sizeof(name))
				continue;
			snprintf(name, sizeof(name), "%.*s", (int)length, entry->d_name);
			if (strcmp(name, word) != 0 &&
			    (what != CONTROL || strcmp(name, "image_encoder") == 0 ||
			     !strcasestr(name, word) || strcmp(best, word) == 0))
				continue;
			if ((best[0] && strcmp(name, word) != 0 && strcmp(name, best) >= 0) ||
			    strcmp(best, word) == 0 ||
			    (size_t)snprintf(candidate, sizeof(candidate), "%s/%s", base,
					     entry->d_name) >= sizeof(candidate))
				continue;
			snprintf(best, sizeof(best), "%s", name);
			snprintf(path, sizeof(path), "%s", candidate);
		}
		if (dir)
			closedir(dir);
	}
	if (!path[0] || stat(path, &st) < 0)
		return;
	if (S_ISDIR(st.st_mode))
		count_folder(lookup, what, path);
	else
		count_file(lookup, what, path);
}

/* <lora:NAME:WEIGHT>; those beyond what a job may name are not looked up, since the worker refuses the job. */
static void count_tags(struct lookup *lookup, const char *prompt)
{
	static const char tag[] = "<lora:";
	char name[NAME_SIZE];
	size_t length;

	for (int found = 0; found < TAGS_MAX && (prompt = strstr(prompt, tag)); found++) {
		prompt += sizeof(tag) - 1;
		length = strcspn(prompt, ":>");
		if (length < sizeof(name)) {
			snprintf(name, sizeof(name), "%.*s", (int)length, prompt);
			count_named(lookup, LORA, "loras", name);
		}
	}
}

void sdd_footprint_add_adapters(struct sdd_footprint *footprint,
				const struct sdd_footprint_roots *roots,
				const struct sdp_record *job)
{
	struct lookup lookup = {.roots = roots, .footprint = footprint};

	for (size_t i = 0; i < sdp_record_count(job, SDP_JOB_PARAMETERS_LORAS); i++)
		count_named(
			&lookup, LORA, "loras",
			sdp_record_string(sdp_record_item(job, SDP_JOB_PARAMETERS_LORAS, i)->record,
					  SDP_LORA_NAME));
	count_tags(&lookup, sdp_record_string(job, SDP_JOB_PARAMETERS_PROMPT));
	for (size_t i = 0; i < sdp_record_count(job, SDP_JOB_PARAMETERS_CONTROLS); i++)
		count_named(&lookup, CONTROL, "controlnets",
			    sdp_record_string(
				    sdp_record_item(job, SDP_JOB_PARAMETERS_CONTROLS, i)->record,
				    SDP_CONTROL_KIND));
	if (lookup.has_read)
		malloc_trim(0); /* as after a model's headers */
}
