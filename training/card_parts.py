"""The model card's part about what lies beside the U-Nets: the autoencoder with its preview decoder and VQ twin, and the adapters.
Figures come from the logs of their runs."""

from adapters import CONTROL, LORA, LORA_RANK
from export import FOLDERS, MODELS, VQ_FOLDER
from vae import HELD_OUT
from vq import CODES

TEXT = """## Autoencoder and previews

On {held_out} scenes that no training step saw:

| | PSNR, dB | SSIM | perceptual distance |
|---|---|---|---|
{rows}

The perceptual distance (0: equal, at most 2) compares features of a small VGG-style classifier that was trained on this same world
(`training/perceptual.py`; it tells {labels_right:.1%} of the labels of unseen scenes rightly), since there are no public weights here: it says
little of other pictures. The losses are those of latent diffusion: L1, that distance, a discriminator of patches with adaptive weight,
1e-6 KL, for encoder and decoder alike. The latents' standard deviation after scaling is {latent_std:.2f} on those scenes.

`{small}/taesd/` is a tiny decoder (AutoencoderTiny, 0.6 MB) distilled from the autoencoder: with it sdd shows previews while it
samples. It is {psnr_to_teacher:.1f} dB near what the autoencoder itself makes of the same latents.
"""

VQ = """
`{vq}` is the same model with a VQ-regularised twin of the autoencoder ({codes:,} codes; the encoder is the
same), briefly trained. It is there to run quantised latents on a real codebook, is not installed, and its pictures are a little poorer.
"""

ADAPTERS = """
## LoRA and ControlNet

* `loras/{lora}`: rank {rank}; everything is drawn with chalk on a blackboard. `sdctl txt2img --lora {lora}:0.8 "a red house by day"`
* `controlnets/{control}`: follows the lines of a scribble. `sdctl txt2img --control scribble=lines.png "a red house by day"`

Both belong to `{small}` alone. In {pictures} pictures of single objects the mean brightness is {plain:.0f} without the LoRA and {full:.0f}
with it (half of it: {half:.0f}); of a scribble's pixels {on_lines:.0%} lie on a line of the picture with the ControlNet, {on_lines_without:.0%} without.

![LoRA and ControlNet](sheets/adapters.jpg)
"""


def last(log, key, missing=None):
    """The newest value of a key in a log."""
    return next((e[key] for e in reversed(log) if key in e), missing)


def row(name, log, psnr="psnr"):
    """A line of the table, from the last evaluation in a log."""
    cells = [last(log, k) for k in (psnr, "ssim", "perceptual_distance")]
    return f"| {name} | " + " | ".join("" if c is None else f"{c:g}" for c in cells) + " |"


def text(entries, models=MODELS):
    """The section; entries(name) gives a run's log."""
    vae, taesd, vq = entries("vae"), entries("taesd"), entries("vq")
    rows = [row("autoencoder, as it was at 128 pixels", vae[:1]), row("autoencoder", vae)]
    rows += [row("preview decoder", taesd)] + ([row("VQ twin", vq)] if vq else [])
    names = {"small": FOLDERS[4], "vq": VQ_FOLDER, "lora": LORA, "control": CONTROL, "rank": LORA_RANK}
    parts = [TEXT.format(rows="\n".join(rows), held_out=HELD_OUT, latent_std=last(vae, "latent_std", 0),
                         labels_right=last(entries("perceptual"), "labels_right", 0),
                         psnr_to_teacher=last(taesd, "psnr_to_teacher", 0), **names)]
    if (models / VQ_FOLDER).exists():
        parts.append(VQ.format(codes=CODES, **names))
    if entries("adapters"):
        shown = entries("adapters")[-1]
        plain, half, full = shown.pop("light").values()
        parts.append(ADAPTERS.format(plain=plain, half=half, full=full, **shown, **names))
    return "".join(parts)
