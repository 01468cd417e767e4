/*
 * Captions of picture sheets.
 */
#pragma once

#include "client/sdctl/picture.h"

#define LETTERS_HEIGHT 7

/* Black letters from (x, y), their upper left corner, on; what is beyond width or the picture is left out. */
void letters_draw(struct picture *picture, int x, int y, int width, const char *text);
