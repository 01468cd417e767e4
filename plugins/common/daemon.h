/*
 * Reaching the daemon: connecting with errors that say what to do, starting the user's unit, and what it can offer.
 */
#pragma once

#include "plugins/common/settings.h"

/* Where translations are; folder NULL: none are looked for. Call it once, before anything is shown. */
SDH_API void sdh_translate(const char *folder);
/* `text` of the plug-ins' own in the artist's language. */
SDH_API const char *sdh_text(const char *text);

/* sdc_connect with errors for people. */
int sdh_connect(const char *socket, sdc_client **ret_client, sdc_error *error);
/* The daemon's error in words for people, translated, with what to do about it where that is known. */
void sdh_explain(sdc_error *error);
/* The same of a job that was refused for want of memory (sdc_client_shortage): how much is missing, and what would fit. */
void sdh_explain_shortage(sdc_error *error, const sdc_shortage *shortage);
/* Start the user's socket unit and wait for it. SDC_E_SYSTEM says what to type instead. */
SDH_API int sdh_service_start(sdc_error *error);

#define SDH_START_COMMAND "systemctl --user start sdd.socket"

struct sdh_offer;

/* Ask the daemon for its models. Blocks for at most a few seconds. */
SDH_API int sdh_offer_new(const char *socket, struct sdh_offer **ret_offer, sdc_error *error);
SDH_API struct sdh_offer *sdh_offer_free(struct sdh_offer *offer);
/* The i-th model's name, NULL behind the last. */
SDH_API const char *sdh_offer_model(const struct sdh_offer *offer, size_t i);
/* "sd1, 512 pixels, loaded": what it is and how it stands. */
SDH_API const char *sdh_offer_model_note(const struct sdh_offer *offer, size_t i);
/* Index of the model used when a job names none, -1 when there is none. */
SDH_API int sdh_offer_default(const struct sdh_offer *offer);
/* "CPU, AVX-512, bf16, 8 threads": what the engine runs on. */
SDH_API const char *sdh_offer_engine(const struct sdh_offer *offer);

/* The i-th sampler by the name people use, NULL behind the last. */
SDH_API const char *sdh_sampler_name(size_t i);
