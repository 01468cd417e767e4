/*
 * The vocabulary that SD3's and FLUX's T5 share, for checkpoint files, which bring none. It is part of the program (t5-vocabulary/,
 * Apache 2.0), as CLIP's is.
 */
#include "daemon/engine/tokenizer/t5.h"

/* clang-format off */
__asm__(".section .rodata, \"a\"\n"
	".global sde_t5_pieces_begin\n"
	".global sde_t5_pieces_end\n"
	"sde_t5_pieces_begin:\n"
	".incbin \"" SDE_T5_PIECES "\"\n"
	"sde_t5_pieces_end:\n"
	".previous\n");
/* clang-format on */

extern const char sde_t5_pieces_begin[] __attribute__((visibility("hidden")));
extern const char sde_t5_pieces_end[] __attribute__((visibility("hidden")));

int sde_t5_tokenizer_builtin(struct sde_t5_tokenizer **ret_tokenizer, struct sde_error *error)
{
	return sde_t5_tokenizer_new(sde_t5_pieces_begin,
				    (size_t)(sde_t5_pieces_end - sde_t5_pieces_begin),
				    "the built-in T5 vocabulary", ret_tokenizer, error);
}
