/*
 * Translated text. All sentences of the plug-ins live in one gettext domain, "sdd", whatever program they are shown in;
 * the host program's own domain stays as it is.
 */
#pragma once

#include <libintl.h>

#define SDH_DOMAIN "sdd"
#define _(text)	   dgettext(SDH_DOMAIN, text)
/* Marks a text for translation that is looked up later. */
#define N_(text) text
/* One form for n = 1, others by the language's rules. */
#define P_(one, many, n) dngettext(SDH_DOMAIN, one, many, (unsigned long)(n))
