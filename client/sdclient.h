/*
 * libsdclient: talk to sdd, the local image-generation daemon.
 *
 * THE CONTRACT
 *
 * Handles. sdc_client is a connection; sdc_request a request being built; sdc_reply an answer or an event; sdc_job a job
 * this client submitted; sdc_pixels a picture buffer to fill without copying. All are opaque and freed with their _free
 * function, which takes NULL and returns NULL. Freeing a client ends its jobs that are not detached; free its sdc_job
 * handles before or after it, as you like.
 *
 * Threads. A handle belongs to one thread at a time; the library has no global state, so two threads may each use their
 * own client. It never installs signal handlers, never writes to stdout or stderr, never exits, never raises SIGPIPE.
 *
 * Waiting. Everything can be done without blocking: poll sdc_client_fd() for sdc_client_events(), then call
 * sdc_client_dispatch(), which runs the callbacks. sdc_connect, sdc_call and sdc_job_wait block for at most their
 * timeout and run callbacks of other calls meanwhile. Do not free the client inside a callback; everything else is
 * allowed there but blocking calls, which answer SDC_E_BAD_REQUEST.
 *
 * Failures. Functions return 0 (or a positive value where said) or a negative enum sdc_code, and fill the sdc_error when
 * one is given: a sentence for people, and for a bad field its name. When the daemon goes away every call that waits ends
 * with SDC_E_DISCONNECTED, each callback exactly once; nothing ever hangs on a dead daemon. A client that has been
 * disconnected stays so: free it and connect again.
 *
 * Versions. Functions are only ever added, and the meaning of one never changes; new fields and methods of the protocol
 * need no new functions, since requests and replies are read by field name (sdd-protocol(7) lists the names). Unknown
 * fields and events of a newer daemon are passed over. Plain structs in this header never change.
 *
 * Pictures. Rows of interleaved samples, native byte order, alpha not premultiplied, sRGB unless an ICC profile says
 * otherwise. They travel as sealed memory files; with SDC_INLINE_PIXELS (a socket forwarded by ssh) inside the messages.
 */
#ifndef SDCLIENT_H
#define SDCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SDC_API __attribute__((visibility("default")))
#else
#define SDC_API
#endif

typedef struct sdc_client sdc_client;
typedef struct sdc_request sdc_request;
typedef struct sdc_reply sdc_reply;
typedef struct sdc_job sdc_job;
typedef struct sdc_pixels sdc_pixels;

/* Codes -1..-99 are the daemon's (sdd-protocol(7) explains them), the rest come from this library. */
enum sdc_code {
	SDC_OK = 0,
	SDC_E_BAD_MESSAGE = -1,
	SDC_E_BAD_REQUEST = -2,
	SDC_E_UNKNOWN_METHOD = -3,
	SDC_E_UNKNOWN_FIELD = -4,
	SDC_E_MISSING_FIELD = -5,
	SDC_E_BAD_VALUE = -6,
	SDC_E_BAD_PIXELS = -7,
	SDC_E_TOO_LARGE = -8,
	SDC_E_UNSUPPORTED = -9,
	SDC_E_BUSY = -10,
	SDC_E_NOT_FOUND = -11,
	SDC_E_PERMISSION = -12,
	SDC_E_CANCELLED = -13,
	SDC_E_TIMEOUT = -14,
	SDC_E_NO_MEMORY = -15,
	SDC_E_MODEL_ERROR = -16,
	SDC_E_WORKER_LOST = -17,
	SDC_E_SHUTTING_DOWN = -18,
	SDC_E_INTERNAL = -19,
	SDC_E_CONNECT = -100,	   /* nothing listens at the socket's path */
	SDC_E_DISCONNECTED = -101, /* the daemon closed the connection or died */
	SDC_E_PROTOCOL = -102,	   /* the daemon sent something that is no valid answer */
	SDC_E_SYSTEM = -103,	   /* a system call failed; the message says which and why */
};

typedef struct sdc_error {
	int code;	   /* enum sdc_code */
	int retry_ms;	   /* with SDC_E_BUSY: when to try again */
	char field[96];	   /* the request's field that is wrong, or "" */
	char message[512]; /* for people; UTF-8, one sentence */
} sdc_error;

/* "busy", "disconnected", ...; static. */
SDC_API const char *sdc_code_name(int code);
/* Version of this library, "1.2.3"; static. */
SDC_API const char *sdc_version(void);

/* ------------------------------------------------------------------ connection */

enum sdc_connect_flags {
	SDC_INLINE_PIXELS = 1 << 0, /* pictures travel inside the messages, both ways */
};

/*
 * Connect and say hello; blocks for at most timeout_ms (negative: 10 seconds). socket_path NULL: $SDD_SOCKET if set, else
 * $XDG_RUNTIME_DIR/sdd/sdd.sock, else (the variable is not set, or only this one exists) /run/sdd/sdd.sock. program names the caller to the daemon (64 bytes).
 * On success *ret_client is owned by the caller; on failure it is untouched. SDC_E_CONNECT names the path tried.
 */
SDC_API int sdc_connect(const char *socket_path, const char *program, unsigned flags,
			int timeout_ms, sdc_client **ret_client, sdc_error *ret_error);
/* Writes the path that sdc_connect(NULL, ...) would use, at most size bytes with the NUL; returns its length. */
SDC_API size_t sdc_default_socket(char *buffer, size_t size);
/* Closes the connection. Pending callbacks are called once more, with SDC_E_DISCONNECTED. */
SDC_API sdc_client *sdc_client_free(sdc_client *client);
/* The answer to hello: server, version, api, features, limits.*, instance. Owned by the client. */
SDC_API const sdc_reply *sdc_client_hello(const sdc_client *client);

SDC_API int sdc_client_fd(const sdc_client *client);
/* POLLIN, or POLLIN | POLLOUT. Ask again before every poll. */
SDC_API int sdc_client_events(const sdc_client *client);
/* Read, write and run callbacks, without blocking. Number of messages handled, or a negative code once it is lost. */
SDC_API int sdc_client_dispatch(sdc_client *client, sdc_error *ret_error);

/*
 * Of a job or load that was refused because memory does not suffice (SDC_E_NO_MEMORY, API level 4): bytes at its highest, bytes that it
 * could have, and what would fit: "vae_tiling" (that field of the job), "weights" (q8_0, by models.load or the model's sdd.json), "size" (a
 * smaller picture), "memory_budget" (none of these; the daemon's budget), or "". error.message says the same to people.
 */
typedef struct sdc_shortage {
	uint64_t needed_bytes, free_bytes;
	char remedy[32];
} sdc_shortage;
/*
 * What belongs to the newest SDC_E_NO_MEMORY that the daemon has answered this client with; ask in the callback that got it, or
 * after the blocking call. 0, or SDC_E_NOT_FOUND: no such answer, or one without figures.
 */
SDC_API int sdc_client_shortage(const sdc_client *client, sdc_shortage *ret_shortage);

/* Called for every event of the daemon: job.progress, model.loaded, server.stopping, ... The reply is valid inside. */
typedef void (*sdc_event_fn)(sdc_client *client, const char *event, const sdc_reply *reply,
			     void *userdata);
SDC_API void sdc_client_on_event(sdc_client *client, sdc_event_fn fn, void *userdata);

/* ------------------------------------------------------------------ requests */

/*
 * A request for any method of sdd-protocol(7): "status", "models.load", "job.submit", ... Setters check the field's name,
 * type and range at once, by the protocol this library was built with, and return SDC_E_UNKNOWN_FIELD or SDC_E_BAD_VALUE
 * with a message that says what would be right. Strings and pictures are copied. NULL and SDC_E_UNKNOWN_METHOD or
 * SDC_E_NO_MEMORY on failure.
 */
SDC_API sdc_request *sdc_request_new(const char *method, sdc_error *ret_error);
/* job.submit with kind set: "txt2img", "img2img", "inpaint", "outpaint" or "upscale". */
SDC_API sdc_request *sdc_job_request_new(const char *kind, sdc_error *ret_error);
SDC_API sdc_request *sdc_request_free(sdc_request *request);

SDC_API int sdc_request_set_bool(sdc_request *request, const char *field, int value,
				 sdc_error *ret_error);
/* Also for double fields. */
SDC_API int sdc_request_set_int(sdc_request *request, const char *field, int64_t value,
				sdc_error *ret_error);
SDC_API int sdc_request_set_uint(sdc_request *request, const char *field, uint64_t value,
				 sdc_error *ret_error);
SDC_API int sdc_request_set_double(sdc_request *request, const char *field, double value,
				   sdc_error *ret_error);
/* Also for enums, by name: "kind", "fill", "context". */
SDC_API int sdc_request_set_string(sdc_request *request, const char *field, const char *value,
				   sdc_error *ret_error);
/* "select", or "context" as a rectangle of your own. */
SDC_API int sdc_request_set_rect(sdc_request *request, const char *field, int x, int y, int width,
				 int height, sdc_error *ret_error);
/* Sets a field from text, as typed on a command line: "20", "7.5", "true", "10,20,300,200", "euler". */
SDC_API int sdc_request_set_text(sdc_request *request, const char *field, const char *text,
				 sdc_error *ret_error);
/* The request so far, without its pictures, as one line of JSON; malloc'd, NULL when memory runs out. */
SDC_API char *sdc_request_json(const sdc_request *request);

/* ------------------------------------------------------------------ pictures */

enum sdc_type { SDC_U8, SDC_U16, SDC_F16, SDC_F32 };

typedef struct sdc_image {
	int width, height, channels; /* 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA */
	int type;		     /* enum sdc_type; u8 and u16 span 0..1 */
	size_t stride;		     /* bytes from row to row; 0 = packed */
	const void *data;	     /* first row */
	const void *icc;	     /* ICC profile or NULL */
	size_t icc_size;
} sdc_image;

/* Copy a picture into the request: "image", "mask". SDC_E_BAD_PIXELS, SDC_E_NO_MEMORY, SDC_E_SYSTEM. */
SDC_API int sdc_request_set_image(sdc_request *request, const char *field, const sdc_image *image,
				  sdc_error *ret_error);
/* A buffer that travels without a copy: fill its packed rows, then give it to a request, which seals it. Zero-filled. */
SDC_API sdc_pixels *sdc_pixels_new(int width, int height, int channels, int type,
				   sdc_error *ret_error);
/* NULL once a request has taken it. */
SDC_API void *sdc_pixels_data(sdc_pixels *pixels);
SDC_API int sdc_pixels_set_icc(sdc_pixels *pixels, const void *icc, size_t size,
			       sdc_error *ret_error);
SDC_API sdc_pixels *sdc_pixels_free(sdc_pixels *pixels);
/* The same buffer may be given to several requests, and freed at once. */
SDC_API int sdc_request_set_pixels(sdc_request *request, const char *field, sdc_pixels *pixels,
				   sdc_error *ret_error);
/*
 * A sealed memfd of your own (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), whose first row begins offset bytes in;
 * image->data is ignored. The descriptor is duplicated.
 */
SDC_API int sdc_request_set_image_fd(sdc_request *request, const char *field,
				     const sdc_image *image, int fd, uint64_t offset,
				     sdc_error *ret_error);

/*
 * Adapters of a job (API level 3). A LoRA by name (adapters.list) and weight; a guiding picture: kind is "canny", "scribble" or the
 * name of a ControlNet, T2I-Adapter or IP-Adapter, image is copied, scale is usually 0 to 1, start and end are fractions of the
 * steps (0 and 1: all). May be called several times.
 */
SDC_API int sdc_request_add_lora(sdc_request *request, const char *name, double weight,
				 sdc_error *ret_error);
SDC_API int sdc_request_add_control(sdc_request *request, const char *kind, const sdc_image *image,
				    double scale, double start, double end, sdc_error *ret_error);

/*
 * A prompt for a part of the picture (API level 4): where mask is white, copied; or, mask NULL, in a rectangle of canvas pixels.
 * weight is 0 to 1. May be called several times.
 */
SDC_API int sdc_request_add_region(sdc_request *request, const char *prompt, const sdc_image *mask,
				   int x, int y, int width, int height, double weight,
				   sdc_error *ret_error);

/*
 * How much attention a word of the prompt gets (API level 4), an edit as source_prompt is one: 0 takes it away, 1 changes nothing. May be
 * called several times.
 */
SDC_API int sdc_request_add_word_weight(sdc_request *request, const char *word, double weight,
					sdc_error *ret_error);

/*
 * Sequences and latent arithmetic (API level 4). A waypoint is where the pictures lead to next: prompt, *seed and image, each NULL to
 * leave it as before; "positions", by sdc_request_set_doubles, says which pictures to make (0 = the job itself, 1 = its first
 * waypoint). A direction adds weight times the difference of two prompts, or of two pictures in img2img; each of the four may be NULL.
 * Pictures are copied. May be called several times.
 */
SDC_API int sdc_request_add_waypoint(sdc_request *request, const char *prompt, const uint64_t *seed,
				     const sdc_image *image, sdc_error *ret_error);
SDC_API int sdc_request_add_direction(sdc_request *request, const char *plus, const char *minus,
				      const sdc_image *plus_image, const sdc_image *minus_image,
				      double weight, sdc_error *ret_error);
/* Sets a list of strings: "local_blend" (API level 4), the words outside of which an edit keeps its source's pixels. */
SDC_API int sdc_request_set_strings(sdc_request *request, const char *field,
				    const char *const *values, size_t n, sdc_error *ret_error);
/* Sets a list of doubles: "positions". */
SDC_API int sdc_request_set_doubles(sdc_request *request, const char *field, const double *values,
				    size_t n, sdc_error *ret_error);

/* ------------------------------------------------------------------ calls */

/* reply NULL: it failed and error says why. Both are valid inside; sdc_reply_ref keeps a reply. Called exactly once. */
typedef void (*sdc_reply_fn)(sdc_client *client, const sdc_reply *reply, const sdc_error *error,
			     void *userdata);
/* Send without waiting; the request may be freed or sent again. Returns the call's id > 0, or a negative code. */
SDC_API int64_t sdc_call_async(sdc_client *client, const sdc_request *request, sdc_reply_fn fn,
			       void *userdata, sdc_error *ret_error);
/* Drop a call's callback without calling it (the daemon still answers). 0, or SDC_E_NOT_FOUND. */
SDC_API int sdc_call_forget(sdc_client *client, int64_t call);
/*
 * Send and wait; timeout_ms negative: for ever (or until the daemon dies). *ret_reply (NULL allowed) is owned by the
 * caller. After SDC_E_TIMEOUT the answer, when it comes, is dropped.
 */
SDC_API int sdc_call(sdc_client *client, const sdc_request *request, int timeout_ms,
		     sdc_reply **ret_reply, sdc_error *ret_error);

/* ------------------------------------------------------------------ replies */

/*
 * Values by path: "state", "timings.steps_ms", "images.0.seed", "models.2.name". Getters return 0, or SDC_E_NOT_FOUND
 * (absent) or SDC_E_BAD_VALUE (another type), and leave the output untouched then. Strings live as long as the reply.
 */
SDC_API int sdc_reply_bool(const sdc_reply *reply, const char *path, int *ret_value);
SDC_API int sdc_reply_int(const sdc_reply *reply, const char *path, int64_t *ret_value);
SDC_API int sdc_reply_uint(const sdc_reply *reply, const char *path, uint64_t *ret_value);
SDC_API int sdc_reply_double(const sdc_reply *reply, const char *path, double *ret_value);
SDC_API int sdc_reply_string(const sdc_reply *reply, const char *path, const char **ret_value);
/* Elements of a list; 0 when there is none. */
SDC_API size_t sdc_reply_count(const sdc_reply *reply, const char *path);
/* A picture: "images.0.pixels". Mapped read-only on first use, checked; ret_image's pointers live as long as the reply. */
SDC_API int sdc_reply_image(const sdc_reply *reply, const char *path, sdc_image *ret_image,
			    sdc_error *ret_error);
/* The value at path ("" = all) as one line of JSON: "parameters" is what to keep beside a picture. malloc'd or NULL. */
SDC_API char *sdc_reply_json(const sdc_reply *reply, const char *path);
SDC_API sdc_reply *sdc_reply_ref(const sdc_reply *reply);
SDC_API sdc_reply *sdc_reply_free(sdc_reply *reply);

/* ------------------------------------------------------------------ jobs */

enum sdc_stage { SDC_STAGE_LOAD, SDC_STAGE_ENCODE, SDC_STAGE_STEPS, SDC_STAGE_DECODE };

typedef struct sdc_progress {
	int position;	 /* jobs ahead while it waits; -1 once it runs */
	int stage;	 /* enum sdc_stage, -1 before it runs */
	int step, total; /* denoising steps; total 0 = not known yet */
	int64_t eta_ms;	 /* to the result; negative = not known */
} sdc_progress;

typedef struct sdc_job_handlers {
	/* Queued, started, a step done, ...: what changed stands in sdc_job_progress. May be NULL. */
	void (*progress)(sdc_job *job, const sdc_progress *progress, void *userdata);
	/* A sketch; only when the request asked with "preview". May be NULL. */
	void (*preview)(sdc_job *job, const sdc_image *image, void *userdata);
	/* The end: result or error, exactly once. May be NULL. The handle stays valid until sdc_job_free. */
	void (*done)(sdc_job *job, const sdc_reply *result, const sdc_error *error, void *userdata);
	void *userdata;
} sdc_job_handlers;

/*
 * A job's handle ends when its job.submit is answered. With "detach" that is at once: its id is what to keep, and job.get
 * fetches the result.
 */

/* Send a job.submit; handlers (copied, may be NULL) run in dispatch. On success *ret_job is owned by the caller. */
SDC_API int sdc_job_submit(sdc_client *client, const sdc_request *request,
			   const sdc_job_handlers *handlers, sdc_job **ret_job,
			   sdc_error *ret_error);
/*
 * A picture as soon as it is finished, before the others are; only when the request asked with "stream". picture: "index", "image.x",
 * "image.y", "image.seed"; like image it is valid inside. The result holds all of them again.
 */
typedef void (*sdc_picture_fn)(sdc_job *job, const sdc_image *image, const sdc_reply *picture,
			       void *userdata);
/* May be called right after sdc_job_submit; nothing comes before the next dispatch. */
SDC_API void sdc_job_on_picture(sdc_job *job, sdc_picture_fn fn, void *userdata);
/* The daemon's number for it, 0 until the daemon has told. */
SDC_API int64_t sdc_job_id(const sdc_job *job);
SDC_API sdc_progress sdc_job_progress(const sdc_job *job);
/* Ask the daemon to stop it, within a step. The end still comes through done: cancelled, or the result if it was first. */
SDC_API int sdc_job_cancel(sdc_job *job, sdc_error *ret_error);
/* Block until the end. 0 with a result, the job's own code, or SDC_E_TIMEOUT (it goes on). timeout_ms negative: for ever. */
SDC_API int sdc_job_wait(sdc_job *job, int timeout_ms, sdc_error *ret_error);
/* 1 once it has ended. */
SDC_API int sdc_job_ended(const sdc_job *job);
/* The result, owned by the job; NULL before the end and on failure. job.submit's result in sdd-protocol(7). */
SDC_API const sdc_reply *sdc_job_result(const sdc_job *job);
/* Cancels it when it has not ended and is not detached; handlers are not called any more. */
SDC_API sdc_job *sdc_job_free(sdc_job *job);

#ifdef __cplusplus
}
#endif
#endif
