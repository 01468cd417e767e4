/*
 * Figures of the engine's caches; see caches.h.
 */
#include "daemon/caches.h"

void sdd_caches_take(struct sdd_server *server, struct sdp_message *message)
{
	struct sdp_record *record;

	if (sdp_record_decode(message, &sdp_struct_worker_caches, SDP_LENIENT, &record, NULL) < 0)
		return;
	for (size_t i = 0; i < sdp_record_count(record, SDP_WORKER_CACHES_CACHES); i++) {
		const struct sdp_record *cache =
			sdp_record_item(record, SDP_WORKER_CACHES_CACHES, i)->record;
		struct sdd_cache_figures *figures =
			&server->caches[sdp_record_int(cache, SDP_CACHE_KIND)];

		figures->entries = sdp_record_uint(cache, SDP_CACHE_ENTRIES);
		figures->bytes = sdp_record_uint(cache, SDP_CACHE_BYTES);
		figures->hits = figures->hits_before + sdp_record_uint(cache, SDP_CACHE_HITS);
		figures->misses = figures->misses_before + sdp_record_uint(cache, SDP_CACHE_MISSES);
	}
}

void sdd_caches_lost(struct sdd_server *server)
{
	for (size_t i = 0; i < SDP_CACHE_KIND_COUNT; i++) {
		struct sdd_cache_figures *figures = &server->caches[i];

		figures->entries = figures->bytes = 0;
		figures->hits_before = figures->hits;
		figures->misses_before = figures->misses;
	}
}

void sdd_caches_write(const struct sdd_server *server, struct sdp_writer *writer)
{
	sdp_writer_uint(writer, "cache_budget", server->config->cache_bytes);
	sdp_writer_list_begin(writer, "caches");
	for (size_t i = 0; i < SDP_CACHE_KIND_COUNT; i++) {
		const struct sdd_cache_figures *figures = &server->caches[i];

		sdp_writer_map_begin(writer, NULL);
		sdp_writer_string(writer, "kind", sdp_enum_cache_kind.values[i]);
		sdp_writer_uint(writer, "entries", figures->entries);
		sdp_writer_uint(writer, "bytes", figures->bytes);
		sdp_writer_uint(writer, "hits", figures->hits);
		sdp_writer_uint(writer, "misses", figures->misses);
		sdp_writer_end(writer);
	}
	sdp_writer_end(writer);
}
