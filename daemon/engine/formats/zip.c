/*
 * Reading a zip archive's central directory: see zip.h. Every number is checked against the bytes there are.
 */
#include "daemon/engine/formats/zip.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define END_SIZE       22 /* end of central directory without its comment */
#define LOCATOR_SIZE   20
#define END64_SIZE     56
#define DIRECTORY_SIZE 46 /* an entry of the directory without name and extras */
#define LOCAL_SIZE     30
#define ENTRIES_MAX    (1u << 20)
#define NAME_BYTES_MAX 4096
#define FIELD_ABSENT   0xffffffffu /* see the 64-bit extra field */

static uint64_t number(const unsigned char *at, size_t size)
{
	uint64_t value = 0;

	while (size-- > 0)
		value = value << 8 | at[size];
	return value;
}

static bool is_at(const unsigned char *at, uint32_t signature)
{
	return number(at, 4) == signature;
}

struct directory {
	uint64_t offset, count;
};

static int find_directory(const unsigned char *bytes, size_t size, struct directory *ret,
			  struct sde_error *error)
{
	const unsigned char *end = NULL;
	uint64_t end64;

	for (size_t back = END_SIZE; back <= size && back <= END_SIZE + 65535; back++)
		if (is_at(bytes + size - back, 0x06054b50)) {
			end = bytes + size - back;
			break;
		}
	if (!end)
		return sde_error_set(error, -EBADMSG,
				     "a zip archive without its directory (truncated download?)");
	ret->count = number(end + 10, 2);
	ret->offset = number(end + 16, 4);
	if ((size_t)(end - bytes) < LOCATOR_SIZE || !is_at(end - LOCATOR_SIZE, 0x07064b50))
		return 0;
	end64 = number(end - LOCATOR_SIZE + 8, 8);
	if (size < END64_SIZE || end64 > size - END64_SIZE || !is_at(bytes + end64, 0x06064b50))
		return sde_error_set(error, -EBADMSG, "a zip archive with a broken directory");
	ret->count = number(bytes + end64 + 32, 8);
	ret->offset = number(bytes + end64 + 48, 8);
	return 0;
}

/* The 64-bit values, in this order, of those that are absent in the entry itself. */
static void read_extra(const unsigned char *extra, size_t length, uint64_t *size, uint64_t *packed,
		       uint64_t *local)
{
	uint64_t *const fields[] = {size, packed, local};

	while (length >= 4) {
		const uint64_t id = number(extra, 2), n = number(extra + 2, 2);
		size_t at = 4;

		if (n > length - 4)
			return;
		for (size_t i = 0; id == 1 && i < 3; i++)
			if (*fields[i] == FIELD_ABSENT && at + 8 <= 4 + n) {
				*fields[i] = number(extra + at, 8);
				at += 8;
			}
		extra += 4 + n;
		length -= 4 + (size_t)n;
	}
}

static bool name_is_usable(const char *name)
{
	if (name[0] == '/' || strchr(name, '\\'))
		return false;
	for (const char *part = name; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL)
		if (!strncmp(part, "..", 2) && (part[2] == '/' || !part[2]))
			return false;
	return true;
}

/* at: an entry of the directory, of which left bytes are there. Returns the bytes it takes. */
static int read_entry(const unsigned char *bytes, size_t total, const unsigned char *at,
		      size_t left, struct sde_zip_entry *entry, size_t *ret_used,
		      struct sde_error *error)
{
	uint64_t packed, size, local, name_length, extra_length;

	if (left < DIRECTORY_SIZE || !is_at(at, 0x02014b50))
		return sde_error_set(error, -EBADMSG, "a zip archive with a broken directory");
	packed = number(at + 20, 4);
	size = number(at + 24, 4);
	name_length = number(at + 28, 2);
	extra_length = number(at + 30, 2);
	local = number(at + 42, 4);
	*ret_used = DIRECTORY_SIZE + name_length + extra_length + number(at + 32, 2);
	if (*ret_used > left || name_length > NAME_BYTES_MAX)
		return sde_error_set(error, -EBADMSG, "a zip archive with a broken directory");
	entry->name = strndup((const char *)at + DIRECTORY_SIZE, name_length);
	if (!entry->name)
		return sde_error_set(error, -ENOMEM, "no memory for its directory");
	if (!name_is_usable(entry->name))
		return sde_error_set(error, -EBADMSG,
				     "entry '%.100s' of the archive reaches out of its folder",
				     entry->name);
	read_extra(at + DIRECTORY_SIZE + name_length, extra_length, &size, &packed, &local);
	if (number(at + 10, 2) != 0 || size != packed)
		return sde_error_set(error, -ENOTSUP,
				     "entry '%.100s' of the archive is compressed, which torch "
				     "never does",
				     entry->name);
	if (total < LOCAL_SIZE || local > total - LOCAL_SIZE || !is_at(bytes + local, 0x04034b50))
		return sde_error_set(error, -EBADMSG, "entry '%.100s' of the archive is not there",
				     entry->name);
	local += LOCAL_SIZE + number(bytes + local + 26, 2) + number(bytes + local + 28, 2);
	if (local > total || size > total - local)
		return sde_error_set(error, -EBADMSG,
				     "entry '%.100s' lies outside of the archive (truncated "
				     "download?)",
				     entry->name);
	entry->offset = (size_t)local;
	entry->size = (size_t)size;
	return 0;
}

int sde_zip_index(const unsigned char *bytes, size_t size, struct sde_zip *ret_zip,
		  struct sde_error *error)
{
	struct sde_zip zip = {0};
	struct directory directory = {0};
	size_t at, used = 0;
	int r;

	r = find_directory(bytes, size, &directory, error);
	if (r < 0)
		return r;
	if (directory.offset > size || directory.count > ENTRIES_MAX ||
	    directory.count > (size - directory.offset) / DIRECTORY_SIZE)
		return sde_error_set(error, -EBADMSG, "a zip archive with a broken directory");
	zip.entries = calloc(directory.count + 1, sizeof(*zip.entries));
	if (!zip.entries)
		return sde_error_set(error, -ENOMEM, "no memory for its directory");
	at = (size_t)directory.offset;
	for (uint64_t i = 0; r >= 0 && i < directory.count; i++, at += used)
		r = read_entry(bytes, size, bytes + at, size - at, &zip.entries[zip.count++], &used,
			       error);
	if (r < 0) {
		sde_zip_clear(&zip);
		return r;
	}
	*ret_zip = zip;
	return 0;
}

void sde_zip_clear(struct sde_zip *zip)
{
	for (size_t i = 0; i < zip->count; i++)
		free(zip->entries[i].name);
	free(zip->entries);
	*zip = (struct sde_zip){0};
}
