#!/usr/bin/env python3
"""Make adapters that are large beside a small model, so that what they take can be measured: a LoRA of high rank, a LoHa (which is merged
into the layers it changes), an IP-Adapter with an image encoder. All numbers are one small constant; what is painted with them does not matter.
usage: make-adapters.py MODEL ROOT, writes ROOT/loras/made-*.safetensors and ROOT/controlnets/made_ip.safetensors, image_encoder/"""
import json
import os
import struct
import sys

VALUE = b"\x00\x10"  # 2^-11 in f16
RANK = 384
HIDDEN, LAYERS, EMBED, TOKENS = 512, 6, 64, 4


def write(path, shapes):
    header, at = {}, 0
    for name, shape in shapes.items():
        n = 2
        for side in shape:
            n *= side
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + VALUE * (at // 2))


def read_shapes(folder):
    path = next(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".safetensors"))
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def image_encoder(folder):
    vision, layer = "vision_model.", "vision_model.encoder.layers.%d."
    shapes = {vision + "embeddings.class_embedding": [HIDDEN],
              vision + "embeddings.patch_embedding.weight": [HIDDEN, 3, 16, 16],
              vision + "embeddings.position_embedding.weight": [17, HIDDEN],
              "visual_projection.weight": [EMBED, HIDDEN]}
    norms = [vision + "pre_layrnorm", vision + "post_layernorm"]
    linears = {}
    for i in range(LAYERS):
        norms += [layer % i + "layer_norm1", layer % i + "layer_norm2"]
        for name in "kqv":
            linears[layer % i + "self_attn.%s_proj" % name] = [HIDDEN, HIDDEN]
        linears[layer % i + "self_attn.out_proj"] = [HIDDEN, HIDDEN]
        linears[layer % i + "mlp.fc1"] = [4 * HIDDEN, HIDDEN]
        linears[layer % i + "mlp.fc2"] = [HIDDEN, 4 * HIDDEN]
    for name in norms:
        shapes[name + ".weight"] = shapes[name + ".bias"] = [HIDDEN]
    for name, shape in linears.items():
        shapes[name + ".weight"], shapes[name + ".bias"] = shape, shape[:1]
    os.mkdir(folder)
    write(os.path.join(folder, "model.safetensors"), shapes)
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump({"_class_name": "CLIPVisionModelWithProjection", "hidden_size": HIDDEN, "intermediate_size": 4 * HIDDEN,
                   "projection_dim": EMBED, "num_hidden_layers": LAYERS, "num_attention_heads": 8, "num_channels": 3,
                   "image_size": 64, "patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-05}, out)


def ip_adapter(path, unet):
    keys = [name for name in unet if name.endswith("attn2.to_k.weight")]
    order = {"down": 0, "up_b": 1, "mid_": 2}
    keys.sort(key=lambda name: order[name[:4]])
    width = unet[keys[0]][1]
    shapes = {"image_proj.norm.weight": [width], "image_proj.norm.bias": [width],
              "image_proj.proj.weight": [TOKENS * width, EMBED], "image_proj.proj.bias": [TOKENS * width]}
    for i, key in enumerate(keys):
        for name in ("to_k_ip", "to_v_ip"):
            shapes["ip_adapter.%d.%s.weight" % (2 * i + 1, name)] = unet[key]
    write(path, shapes)


def main():
    model, root = sys.argv[1:3]
    unet = read_shapes(os.path.join(model, "unet"))
    lora, loha = {}, {}
    for name, shape in unet.items():
        base = name[:-len(".weight")]
        if ("attn" not in name and ".ff." not in name) or len(shape) != 2:
            continue
        lora["unet.%s.lora_A.weight" % base] = [RANK, shape[1]]
        lora["unet.%s.lora_B.weight" % base] = [shape[0], RANK]
        for i in "12":
            kohya = "lora_unet_%s.hada_w%s" % (base.replace(".", "_"), i)
            loha[kohya + "_a"], loha[kohya + "_b"] = [shape[0], 4], [4, shape[1]]
    write(os.path.join(root, "loras", "made-lora.safetensors"), lora)
    write(os.path.join(root, "loras", "made-loha.safetensors"), loha)
    ip_adapter(os.path.join(root, "controlnets", "made_ip.safetensors"), unet)
    image_encoder(os.path.join(root, "controlnets", "image_encoder"))


main()
