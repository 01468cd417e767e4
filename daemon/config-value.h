/*
 * The value syntax of sdd.conf(5): counts, times ("5s", "10min"), sizes ("256M"), users and groups by number or name.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* All return 0 or -EINVAL, -ERANGE; *ret is untouched on failure. */
int sdd_value_parse_count(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret);
/* A bare number is seconds; units us, ms, s, min, h, d. */
int sdd_value_parse_time(const char *text, uint64_t *ret_us);
/* A bare number is bytes; units K, M, G (powers of 1024). */
int sdd_value_parse_bytes(const char *text, uint64_t *ret_bytes);
int sdd_value_parse_uid(const char *text, uid_t *ret_uid);
int sdd_value_parse_gid(const char *text, gid_t *ret_gid);
/* The name of an enum sdp_weights_form. */
int sdd_value_parse_form(const char *text, uint64_t *ret_form);
/* "debug", "info", "notice", "warning", "err" or 0..7. */
int sdd_value_parse_level(const char *text, uint64_t *ret_level);
