#!/usr/bin/env python3
"""Record a case of kind `attention` with diffusers (0.42 when the data were made): Prompt-to-Prompt on a tiny U-Net.

    record_attention.py MODEL-FOLDER NEW-CASE.json

Row 0 is a picture and row 1 its twin, whose self-attention is the picture's and whose cross-attention takes over mapped tokens and scales
one; `maps` are its cross-attention, mean of heads and layers at the size of the latents. `blended` is the twin of `latents` behind a local
blend (LocalBlend of the paper's code) by the layers as large as they are. Needs torch, diffusers and safetensors.
"""
import json
import pathlib
import sys

import diffusers
import numpy
import safetensors.numpy
import torch

TOKENS, SIDE = 9, 8
THRESHOLD = 0.88  # of the local blend: the maps of a U-Net of random weights are flat


class Processor:
    """diffusers' AttnProcessor written out, with the paper's replacements between its softmax and its values."""

    def __init__(self, edit, maps, large):
        self.edit, self.maps, self.large = edit, maps, large

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        cross = encoder_hidden_states is not None
        context = encoder_hidden_states if cross else hidden_states
        batch = hidden_states.shape[0]
        query, key, value = (attn.head_to_batch_dim(x) for x in
                             (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        shares = attn.get_attention_scores(query, key).unflatten(0, (batch, -1))  # rows, heads, queries, keys
        source, own = shares[0], shares[1]
        if cross:
            mapped = source @ self.edit["mapper"]
            own = torch.where(self.edit["own"].bool(), own, mapped) * self.edit["scales"]
            side = int(own.shape[1] ** 0.5)
            if side == SIDE:
                self.large.append(torch.stack([source.mean(0), own.mean(0)]))  # rows, queries, tokens
            picture = own.mean(0).T.reshape(1, -1, side, side)
            self.maps.append(torch.nn.functional.interpolate(picture, (SIDE, SIDE), mode="bilinear", align_corners=False))
        else:
            own = source
        shares = torch.stack([source, own]).flatten(0, 1)
        states = attn.batch_to_head_dim(torch.bmm(shares, value))
        return attn.to_out[1](attn.to_out[0](states))


def blend(latents, large, words):
    maps = (torch.stack(large).mean(0) * words[:, None]).sum(-1).reshape(2, 1, SIDE, SIDE)
    maps = torch.nn.functional.max_pool2d(maps, (3, 3), (1, 1), padding=(1, 1))
    mask = maps / maps.amax((2, 3), keepdim=True) > THRESHOLD
    return torch.where(mask[0] | mask[1], latents[1], latents[0])


def main(folder, target):
    unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet").eval()
    generator = torch.Generator().manual_seed(7)
    sample = torch.randn(1, unet.config.in_channels, SIDE, SIDE, generator=generator)
    tensors = {
        "sample": sample.repeat(2, 1, 1, 1),
        "timestep": torch.tensor([500, 500], dtype=torch.int32),
        "encoder_hidden_states": 2 * torch.randn(2, TOKENS, unet.config.cross_attention_dim, generator=generator),
        # a word of one token becomes one of two, what follows moves on; a new word keeps its own map, another counts double
        "mapper": torch.eye(TOKENS),
        "own": torch.zeros(TOKENS, dtype=torch.int32),
        "scales": torch.ones(TOKENS),
    }
    tensors["mapper"][2:] = 0
    tensors["mapper"][2, 2:4] = 0.5
    for row in range(3, TOKENS):
        tensors["mapper"][row, min(row + 1, TOKENS - 1)] = 1
    tensors["own"][5], tensors["scales"][4] = 1, 2
    tensors["latents"] = torch.randn(2, unet.config.in_channels, SIDE, SIDE, generator=generator)
    tensors["words"] = torch.zeros(2, TOKENS, dtype=torch.int32)
    tensors["words"][0, 7], tensors["words"][1, 2:4] = 1, 1
    maps, large = [], []
    unet.set_attn_processor(Processor(tensors, maps, large))
    with torch.no_grad():
        tensors["out"] = unet(tensors["sample"], tensors["timestep"], tensors["encoder_hidden_states"]).sample
    tensors["maps"] = torch.stack(maps).mean(0)[0]
    tensors["blended"] = blend(tensors["latents"], large, tensors["words"])
    inputs = ["sample", "timestep", "encoder_hidden_states", "mapper", "own", "scales", "latents", "words"]
    case = {"kind": "attention", "model": "models/" + folder.name, "params": {"component": "unet", "threshold": THRESHOLD}, "inputs": inputs,
            "outputs": [{"name": "out", "rtol": 1e-3, "atol": 2e-4}, {"name": "maps", "rtol": 1e-3, "atol": 1e-5},
                        {"name": "blended", "rtol": 0, "atol": 0}], "note": ""}
    target.write_text(json.dumps(case, indent=1) + "\n")
    safetensors.numpy.save_file({n: numpy.ascontiguousarray(t.numpy()) for n, t in tensors.items()},
                                target.with_suffix(".safetensors"))


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:3]))
